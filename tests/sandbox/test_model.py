"""The tokenizer and the checkpoint: ordinary ones, made on the spot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from polypref.sandbox import model as sandbox  # noqa: E402
from polypref.sandbox.settings import SftSettings  # noqa: E402
from polypref.sandbox.world import SUMMARY, sft_rows  # noqa: E402

TINY = SftSettings(width=32, layers=1, heads=2, steps=3, batch=8)
CHAT = [{"role": "user", "content": "Sort up 7 3 5"}]
ANSWER = "three then five then seven"


@pytest.fixture(scope="module")
def tokenizer():
    return sandbox.build_tokenizer(0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return sandbox.sft_checkpoint(tmp_path_factory.mktemp("cache"), 0, settings=TINY)


@settings(max_examples=100)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_plain_text_gets_no_special_token(tokenizer) -> None:
    assert not set(tokenizer("Sort up 7 3 5")["input_ids"]) & set(tokenizer.all_special_ids)


def test_the_sandbox_words_are_single_tokens(tokenizer) -> None:
    assert len(tokenizer("Sort up 7 3 5")["input_ids"]) == 5
    assert len(tokenizer("mbili kisha nne kisha sita")["input_ids"]) == 5
    lengths = {row["task"]: 0 for row in sft_rows(500, 1)}
    for row in sft_rows(500, 1):
        lengths[row["task"]] = max(lengths[row["task"]], len(tokenizer(row["prompt"])["input_ids"]))
    assert lengths.pop("translate") == 5 + 2 + 5  # Translate X into Y and a space, the tags, the sentence
    assert max(lengths.values()) <= 12


def test_a_translations_tags_are_one_token_each_and_stay_in_the_text(tokenizer) -> None:
    text = "Translate English into Spanish <sentence>three then five</sentence>"
    ids = tokenizer(text)["input_ids"]
    assert [tokenizer.decode([token]) for token in ids[5:]] == ["<sentence>", "three", " then", " five", "</sentence>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    answer = "<translated>tres luego cinco</translated>"
    ids = tokenizer(answer)["input_ids"]
    assert len(ids) == 5
    assert tokenizer.decode(ids, skip_special_tokens=True) == answer
    # The opening tag opens the turn, so it must be the same token alone.
    assert tokenizer("<translated>")["input_ids"] == ids[:1]


def test_every_digit_is_a_token(tokenizer) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(" 2024")["input_ids"])
    assert [token.lstrip("Ġ") for token in tokens] == ["2", "0", "2", "4"]


def test_the_template_begins_once_and_ends_the_turn_right_after_the_answer(tokenizer) -> None:
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=True, return_dict=False)
    whole = tokenizer.apply_chat_template(
        [*CHAT, {"role": "assistant", "content": ANSWER}], tokenize=True, return_dict=False
    )
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert prompt[0] == tokenizer.bos_token_id
    assert whole == prompt + tokenizer(ANSWER)["input_ids"] + [tokenizer.eos_token_id]


def test_the_template_keeps_the_text_as_it_is(tokenizer) -> None:
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "  a\n\n b "}], tokenize=False)
    assert rendered == "<|begin|><|user|>  a\n\n b <|end|>"


def test_special_tokens_are_three_different_ones(tokenizer) -> None:
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(ids) == 3
    assert None not in ids


def test_two_builds_are_the_same_tokenizer(tokenizer) -> None:
    assert sandbox.build_tokenizer(0).get_vocab() == tokenizer.get_vocab()


def test_the_full_model_has_about_a_million_parameters(tokenizer) -> None:
    model = sandbox.build_model(tokenizer, 0)
    assert 0.7e6 < sum(p.numel() for p in model.parameters()) < 1.3e6


def test_a_checkpoint_loads_like_any_other(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    assert model.dtype == torch.float32
    assert len(tokenizer) == model.config.vocab_size
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    assert model.generate(ids, max_new_tokens=2).shape[1] > ids.shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_training_lowers_the_loss_and_reports_it(tmp_path: Path) -> None:
    losses: list[tuple[int, int, float]] = []
    config = SftSettings(width=32, layers=1, heads=2, batch=32, lr=5e-3)
    sandbox.train_sft(tmp_path, 0, settings=config, steps=30, progress=lambda *report: losses.append(report))
    assert [step for step, _, _ in losses] == list(range(1, 31))
    assert {steps for _, steps, _ in losses} == {30}
    assert losses[-1][2] < losses[0][2] - 1


def test_equal_seeds_give_equal_weights(checkpoint: Path, tmp_path: Path) -> None:
    again = sandbox.train_sft(tmp_path / "again", 0, settings=TINY)
    other = sandbox.train_sft(tmp_path / "other", 1, settings=TINY)
    weights = (checkpoint / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == weights
    assert (other / "model.safetensors").read_bytes() != weights


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    sandbox.train_sft(tmp_path, 0, settings=TINY)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_cache_trains_once_a_seed_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sandbox.sft_checkpoint(tmp_path, 0, settings=TINY)
    monkeypatch.setattr(sandbox, "train_sft", lambda *_, **__: pytest.fail("trained again"))
    assert sandbox.sft_checkpoint(tmp_path, 0, settings=TINY) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_another_seed_or_setting_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "train_sft", lambda folder, *_, **__: Path(folder))
    folders = {
        sandbox.sft_checkpoint(tmp_path, 0, settings=TINY),
        sandbox.sft_checkpoint(tmp_path, 1, settings=TINY),
        sandbox.sft_checkpoint(tmp_path, 0, settings=SftSettings(steps=4)),
    }
    assert len(folders) == 3


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (SftSettings(), "001dc6ad"),
        (SftSettings(steps=500), "5c489a82"),
        (SftSettings(steps=400, alignment=0.95), "794f169f"),
    ],
)
def test_the_systems_first_models_keep_their_names(
    config: SftSettings, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a cached one is found, and the figures that were measured with it stand."""
    monkeypatch.setattr(sandbox, "train_sft", lambda folder, *_, **__: Path(folder))
    assert sandbox.sft_checkpoint(tmp_path, 0, settings=config).name == f"sandbox-sft-v2-{digest}-seed0"


def test_a_further_task_makes_another_model_with_its_words_as_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, tasks=("sort", SUMMARY), alignment=0.9)
    further = sandbox.build_tokenizer(0, tasks=config.tasks)
    assert len(further("Summarise 7 3 7 5")["input_ids"]) == 5
    assert len(further("Fasse 7 3 7 5 zusammen")["input_ids"]) == 6
    folder = sandbox.sft_checkpoint(tmp_path, 0, settings=config)
    assert transformers.AutoTokenizer.from_pretrained(folder).get_vocab() == further.get_vocab()
    monkeypatch.setattr(sandbox, "train_sft", lambda folder, *_, **__: Path(folder))
    assert sandbox.sft_checkpoint(tmp_path, 0, settings=replace(config, tasks=("sort",))) != folder


def test_an_interrupted_training_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.sft_checkpoint(tmp_path, 0, settings=TINY, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
