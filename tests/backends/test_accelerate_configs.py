"""The files in recipes/accelerate, read as ``accelerate launch`` reads them."""

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from polypref import recipes

FOLDER = recipes.folder() / "accelerate"
KINDS = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED"}


def test_every_file_is_told_of_here() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_read_and_every_key_of_it_is_known(name: str) -> None:
    """accelerate's reader refuses keys that it does not know, its launcher options."""
    found = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(found, ClusterConfig)
    assert found.distributed_type.value == KINDS[name]
    options = vars(launch_command_parser().parse_args(["script.py"]))
    for section in (found.fsdp_config, found.deepspeed_config):
        assert set(section) <= options.keys() | {"deepspeed_multinode_launcher"}


def test_the_launcher_takes_what_the_files_say() -> None:
    parser = launch_command_parser()
    asked = ["--config_file", str(FOLDER / "fsdp2.yaml"), "-m", "polypref"]
    arguments, _, _ = _validate_launch_command(parser.parse_args(asked))
    assert arguments.use_fsdp
    assert str(arguments.fsdp_version) == "2"
    assert arguments.num_processes == 8
    asked[1] = str(FOLDER / "zero3.yaml")
    arguments, _, _ = _validate_launch_command(parser.parse_args(asked))
    assert arguments.use_deepspeed
    assert arguments.zero_stage == 3
