"""Training on a model of a few thousand parameters: what is in the checkpoint, and what survives an interruption."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from polypref.backends.base import Context, ModelSpec, silent
from polypref.backends.hf_logprobs import HFLogprobs
from polypref.backends.templates import PromptTemplate
from polypref.backends.training import LoraOptions, Trainer, TrainOptions
from polypref.backends.trl import TRLTrainer
from polypref.backends.trl_data import tokenise
from polypref.backends.trl_setup import build
from polypref.backends.trl_trainers import PairedTrainer
from polypref.errors import ModelError, RecipeError
from polypref.records import Candidate, Example, Pair
from polypref.stages.train import TrainStageOptions, train
from tiny_training import (
    BLIND,
    LONG,
    ROWS,
    TEMPLATE,
    TEXTS,
    options,
    row,
    run,
    same,
    save_tiny_model,
    scored_by,
    weights,
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


@pytest.fixture(scope="module")
def template(start: ModelSpec) -> PromptTemplate:
    return PromptTemplate(AutoTokenizer.from_pretrained(start.path))


# --- the checkpoint -----------------------------------------------------------------------------------------------


def test_the_checkpoint_is_ordinary_and_nothing_else_is_left(
    start: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, int, int | None]] = []
    asked = options(epochs=2, save_steps=1)
    capfd.readouterr()
    summary = TRLTrainer().train(ROWS, start, asked, tmp_path, lambda *news: told.append(news))
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in Path(start.path).iterdir()} | {
        "README.md"
    }
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        ours, theirs = (json.loads((folder / name).read_text()) for folder in (tmp_path, Path(start.path)))
        assert ours | theirs == ours, name  # transformers adds to a tokenizer_config.json that it read from a folder
    assert (tmp_path / "chat_template.jinja").read_text() == TEMPLATE
    assert not same(weights(tmp_path), weights(Path(start.path)))
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.float32
    assert told == [("train", step, 4) for step in (1, 2, 3, 4)]
    assert (summary["rows"], summary["steps"]) == (8, 4)
    assert summary["languages"] == {"en": 4, "es": 4}
    # 8 prompts of 5 tokens stand before both answers; the 16 answers have 51 words and 16 ends; two epochs.
    words = sum(len(text.split()) for texts in TEXTS for text in texts)
    assert summary["tokens"] == 2 * (16 * 5 + words + 16)
    assert [point["step"] for point in summary["curve"]] == [1, 2, 3, 4]
    assert set(summary["curve"][0]) == {"step", "loss", "nll", "reward_margin", "accuracy"}
    assert summary["curve"][-1]["loss"] < summary["curve"][0]["loss"]
    json.dumps(summary)


def test_the_card_names_the_start_and_the_recipe_but_no_folder(start: ModelSpec, tmp_path: Path) -> None:
    run(ROWS, start, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "# tiny, trained with polypref" in card
    assert "nll_weight: 1.0" in card
    assert "| Spanish (es) | 4 |" in card
    assert str(Path(start.path).parent) not in card


def test_a_bfloat16_model_trains_in_float32_and_is_written_in_bfloat16(tmp_path: Path) -> None:
    """An update of 1e-5 on weights near 0.5 is below bfloat16's spacing of 2e-3: bfloat16 weights would never move."""
    spec = ModelSpec(path=str(save_tiny_model(tmp_path / "half", dtype="bfloat16")), device="cpu")
    run(ROWS, spec, tmp_path / "out", learning_rate=1e-5, save_steps=1, epochs=2)
    assert all(value.dtype == torch.bfloat16 for value in weights(tmp_path / "out").values())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(spec.path)
    found = tokenise(ROWS, PromptTemplate(tokenizer), options(), 48)
    assert build(found, spec, options(), 4, tokenizer, tmp_path / "work").model.dtype == torch.float32


def test_settings_are_always_said_in_words(start: ModelSpec, tmp_path: Path) -> None:
    """TRL would cut at 1024 tokens, compute in bf16 and checkpoint gradients unless told otherwise."""
    tokenizer = AutoTokenizer.from_pretrained(start.path)
    found = tokenise(ROWS, PromptTemplate(tokenizer), options(), 48)
    for method in ("dpo", "sft", "kto"):
        args = build(found, start, options(method=method), 4, tokenizer, tmp_path / "work").args
        assert (args.bf16, args.gradient_checkpointing, args.max_length) == (False, False, 4096)
    told = options(gradient_checkpointing=True, max_length=30)
    args = build(found, start, told, 4, tokenizer, tmp_path / "work").args
    assert (args.gradient_checkpointing, args.max_length) == (True, 30)


def test_warming_up_leaves_no_short_training_without_a_step(start: ModelSpec, tmp_path: Path) -> None:
    """A tenth of 2 steps is none, of 20 steps 2; transformers would round up, and its first warm-up step is at rate 0.

    Eight rows are 2 steps of 4 an epoch; kto's sixteen answers are 4.
    """
    tokenizer = AutoTokenizer.from_pretrained(start.path)
    found = tokenise(ROWS, PromptTemplate(tokenizer), options(), 48)
    for changes, steps in (
        ({}, 0),
        ({"epochs": 10}, 2),
        ({"epochs": 10, "method": "kto"}, 4),
        ({"max_steps": 30}, 3),
        ({"warmup_ratio": 1.0}, 2),
        ({"warmup_steps": 5}, 5),
    ):
        told = options(**{"warmup_ratio": 0.1, **changes})
        assert build(found, start, told, 4, tokenizer, tmp_path / "work").args.warmup_steps == steps, changes


def test_a_seed_gives_the_same_weights_and_another_seed_others(start: ModelSpec, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(ROWS, start, tmp_path / name, seed=seed, micro_batch_size=2)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_kto_is_held_to_the_model_it_starts_from_also_where_that_is_on_no_disk(
    start: ModelSpec, tmp_path: Path
) -> None:
    """The policy is its own reference at the first step, so each of its rewards is 0. TRL would open the reference by
    the name of the base model, without the adapter that training starts from."""
    run(ROWS, start, tmp_path / "adapter", lora=LoraOptions(r=2))
    adapted = start.model_copy(update={"adapter": str(tmp_path / "adapter")})
    for name, lora in (("full", None), ("lora", LoraOptions(r=2))):
        curve = run(BLIND, adapted, tmp_path / name, method="kto", lora=lora)["curve"]
        assert curve[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
        assert abs(curve[-1]["reward_margin"]) > 1e-3


@pytest.mark.parametrize("method", ["sft", "kto"])
def test_sft_and_kto_go_through_the_same_door(method: str, start: ModelSpec, tmp_path: Path) -> None:
    summary = run(BLIND, start, tmp_path / method, method=method, epochs=3)
    curve = summary["curve"]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert ("reward_margin" in curve[0]) == (method == "kto")
    assert not same(weights(tmp_path / method), weights(Path(start.path)))


def test_the_stage_hands_over_the_references_that_the_first_step_needs(start: ModelSpec, tmp_path: Path) -> None:
    """Scored by the backend that scores, trained by the one that trains, one model: every first margin is 0."""

    def example(index: int, chosen: str, rejected: str) -> Example:
        prompts = {"es": [{"role": "user", "content": f"say {chosen}"}]}
        cut = "length" if index % 2 else "stop"
        candidates = [Candidate("c", "es", chosen), Candidate("r", "es", rejected, finish_reason=cut)]
        return Example(str(index), prompts, candidates, [Pair("es", "c", "r")])

    examples = [example(index, *texts) for index, texts in enumerate(TEXTS)]
    context = Context(open=lambda role, spec: HFLogprobs(spec) if role == "logprobs" else TRLTrainer())
    asked = TrainStageOptions(start=start, learning_rate=1e-2, batch_size=8, nll_weight=0.0, epochs=2, warmup_steps=0)
    curve = train(examples, asked, context, tmp_path)["curve"]
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert curve[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert curve[1]["reward_margin"] > 1e-3


def test_dpo_without_given_references_is_held_to_the_start_model(start: ModelSpec, tmp_path: Path) -> None:
    summary = run(BLIND, start, tmp_path / "out", nll_weight=0.0)
    assert summary["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_stored_references_give_the_losses_of_a_reference_in_memory(
    start: ModelSpec, template: PromptTemplate, tmp_path: Path
) -> None:
    """Rows without log-probabilities are trained by TRL's own reference model, asked anew in every step."""
    asked = {"optimizer": "sgd", "learning_rate": 0.1, "epochs": 3}
    stored = run(scored_by(start, template), start, tmp_path / "stored", **asked)
    in_memory = run(BLIND, start, tmp_path / "in-memory", **asked)
    assert len(stored["curve"]) == 6
    for ours, theirs in zip(stored["curve"], in_memory["curve"], strict=True):
        for name in ("loss", "nll", "reward_margin"):  # the accuracy of the first step is of margins of 0
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5)
    assert abs(stored["curve"][-1]["reward_margin"]) > 1e-2
    for name, value in weights(tmp_path / "stored").items():
        torch.testing.assert_close(value, weights(tmp_path / "in-memory")[name], rtol=1e-4, atol=1e-5)


# --- LoRA ---------------------------------------------------------------------------------------------------------


def test_lora_saves_an_adapter_or_the_merged_model(start: ModelSpec, template: PromptTemplate, tmp_path: Path) -> None:
    from peft import PeftModel

    rows = scored_by(start, template)
    summary = run(rows, start, tmp_path / "adapter", lora=LoraOptions(r=2, alpha=4))
    assert summary["curve"][0]["reward_margin"] == pytest.approx(0, abs=1e-5)  # a new adapter changes nothing yet
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {p.name for p in (tmp_path / "adapter").iterdir()}
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    merged = run(rows, start, tmp_path / "merged", lora=LoraOptions(r=2, alpha=4, merge=True))
    assert (summary["merged"], merged["merged"]) == (False, True)
    ids = torch.tensor([[0, 3, 5, 6, 4, 7]])
    base = AutoModelForCausalLM.from_pretrained(start.path)
    with torch.no_grad():
        bare = base(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    torch.testing.assert_close(adapted, whole, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(adapted, bare, atol=1e-3)


def test_an_adapter_to_start_from_is_merged_first(start: ModelSpec, tmp_path: Path) -> None:
    """A second adapter would lean on weights that are on no disk, so the result is a whole model."""
    run(ROWS, start, tmp_path / "first", lora=LoraOptions(r=2))
    summary = run(
        BLIND,
        start.model_copy(update={"adapter": str(tmp_path / "first")}),
        tmp_path / "second",
        lora=LoraOptions(r=2),
        nll_weight=0.0,
    )
    assert summary["merged"]
    assert summary["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert (tmp_path / "second" / "model.safetensors").exists()
    with pytest.raises(ModelError, match="is a LoRA adapter"):
        run(ROWS, ModelSpec(path=str(tmp_path / "first"), device="cpu"), tmp_path / "third")


# --- interruption and trouble -------------------------------------------------------------------------------------

KILLED = """
    import os, pathlib, signal, sys, torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from tiny_training import LONG, ROWS, ModelSpec, TRLTrainer

    def progress(what, done, total):
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    TRLTrainer().train(ROWS, ModelSpec(path={start!r}, device="cpu"), LONG, pathlib.Path({folder!r}), progress)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finish(start: ModelSpec, asked: TrainOptions, interrupted: Path, undisturbed: Path) -> None:
    """Train again in the folder of an interrupted training, and beside it undisturbed: nothing may tell them apart."""
    steps: list[int] = []
    undisturbed.mkdir()
    summary = TRLTrainer().train(ROWS, start, asked, interrupted, lambda what, done, total: steps.append(done))
    whole = TRLTrainer().train(ROWS, start, asked, undisturbed, silent)
    assert steps == [5, 6, 7, 8]
    assert same(weights(interrupted), weights(undisturbed))
    assert summary | {"seconds": 0} == whole | {"seconds": 0}
    assert (interrupted / "README.md").read_text() == (undisturbed / "README.md").read_text()
    assert not (interrupted / ".resume").exists()


@pytest.mark.usefixtures("one_thread")
def test_killed_in_the_middle_and_started_again_it_ends_the_same(start: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    tests = str(Path(__file__).parent.parent)
    script = textwrap.dedent(KILLED).format(tests=tests, start=start.path, folder=str(folder))
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == -9
    assert [path.name for path in (folder / ".resume").glob("checkpoint-*")] == ["checkpoint-4"]
    half = folder / ".resume" / "checkpoint-6"  # as a kill in the middle of a save leaves it
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (half / "trainer_state.json").write_text('{"epoch": 3.0, "best')
    finish(start, LONG, folder, tmp_path / "undisturbed")


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_adapter_takes_up_its_noise_where_it_was(start: ModelSpec, tmp_path: Path) -> None:
    """LoRA's dropout draws from the global generator, whose state is saved with the weights."""

    class Stop(Exception):
        pass

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 5:
            raise Stop

    asked = LONG.model_copy(update={"lora": LoraOptions(r=2, dropout=0.5, merge=True)})
    folder = tmp_path / "interrupted"
    folder.mkdir()
    with pytest.raises(Stop):
        TRLTrainer().train(ROWS, start, asked, folder, interrupt)
    finish(start, asked, folder, tmp_path / "undisturbed")


def test_another_recipe_does_not_resume_what_was_left(start: ModelSpec, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        TRLTrainer().train(ROWS, start, options(epochs=2, save_steps=1), tmp_path, interrupt)
    assert (tmp_path / ".resume" / "checkpoint-1").is_dir()
    steps: list[int] = []
    TRLTrainer().train(ROWS, start, options(epochs=2, beta=0.2), tmp_path, lambda what, done, total: steps.append(done))
    assert steps == [1, 2, 3, 4]


def test_out_of_memory_takes_smaller_micro_batches_or_says_so(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PairedTrainer._compute_loss

    def scarce(self: Any, model: Any, inputs: Any, return_outputs: bool) -> Any:
        if len(inputs["input_ids"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, model, inputs, return_outputs)

    whole = run(ROWS, start, tmp_path / "whole")
    monkeypatch.setattr(PairedTrainer, "_compute_loss", scarce)
    smaller = run(ROWS, start, tmp_path / "smaller")
    assert (whole["micro_batch_size"], smaller["micro_batch_size"]) == (4, 2)
    for name, value in weights(tmp_path / "smaller").items():
        torch.testing.assert_close(value, weights(tmp_path / "whole")[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(ModelError, match=r"4 rows a forward pass; lower train\.micro_batch_size"):
        run(ROWS, start, tmp_path / "given", micro_batch_size=4)


def test_a_loss_that_is_no_number_stops_with_the_step(start: ModelSpec, tmp_path: Path) -> None:
    rows = [row(0, "uno", "dos", known=(math.inf, -1.0)), ROWS[1]]
    with pytest.raises(ModelError, match="training step 1"):
        run(rows, start, tmp_path)


def test_processes_must_share_the_batch_equally(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="multiple"):
        run(ROWS, start, tmp_path)


def test_options_that_trl_refuses_are_told_in_a_sentence(start: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a valid OptimizerNames"):
        run(ROWS, start, tmp_path, optimizer="adamm")
    with pytest.raises(RecipeError, match="Target modules"):
        run(ROWS, start, tmp_path, lora=LoraOptions(target_modules=("q_projection",)))
    with pytest.raises(ModelError, match="nowhere is no folder"):
        run(ROWS, ModelSpec(path=str(tmp_path / "nowhere"), device="cpu"), tmp_path)


def test_figures_go_to_tensorboard_and_only_where_it_is(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    run(ROWS, start, tmp_path, report_to=("tensorboard",))
    assert list((tmp_path / "runs").glob("events.out.tfevents.*"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install tensorboard"):
        run(ROWS, start, tmp_path, report_to=("tensorboard",))


def test_it_is_a_trainer() -> None:
    assert isinstance(TRLTrainer(), Trainer)
