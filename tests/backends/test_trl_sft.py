"""Supervised fine-tuning through TRL, on a model of a few thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from polypref.backends.base import Generator, ModelSpec, Request, Sampling
from polypref.backends.hf_generate import HFGenerator
from polypref.backends.sft_training import Figures, SFTTrainer
from polypref.backends.training import LoraOptions
from polypref.backends.trl_sft import TRLSFTTrainer
from polypref.errors import InputError, ModelError
from tiny_sft_training import HELD, ROWS, loss_by_language, measure, row, run
from tiny_training import same, save_tiny_model, weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


def test_it_learns_the_answers_by_heart_and_writes_an_ordinary_checkpoint(start: ModelSpec, tmp_path: Path) -> None:
    rows = ROWS[:4]
    summary = run(rows, start, tmp_path, epochs=60, learning_rate=2e-2, select="last")
    assert summary["rows"] == 4
    assert summary["steps"] == 60
    assert summary["languages"] == {"en": 2, "es": 2}
    assert summary["curve"][-1]["loss"] < 0.1 < summary["curve"][0]["loss"]
    generator = HFGenerator(ModelSpec(path=str(tmp_path), device="cpu"))
    found = generator.generate([Request(o.id, o.answer.messages) for o in rows], Sampling(temperature=0, max_tokens=8))
    assert [answers[0].text.strip() for answers in found] == [one.answer.text for one in rows]
    assert not (tmp_path / ".resume").exists()
    assert not (tmp_path / "training_args.bin").exists()


def test_the_validation_loss_is_the_mean_over_a_languages_tokens_then_over_languages(
    start: ModelSpec, tmp_path: Path
) -> None:
    summary = run(ROWS, start, tmp_path, HELD, evaluations=1, select="last", micro_batch_size=2)
    (point,) = summary["checkpoints"]
    want = loss_by_language(tmp_path, HELD)
    assert point["step"] == 3
    assert {lang: own["loss"] for lang, own in point["by_language"].items()} == pytest.approx(want, rel=1e-4)
    assert point["loss"] == pytest.approx((want["en"] + want["es"]) / 2, rel=1e-4)


def test_the_weights_of_the_lowest_validation_loss_are_kept(start: ModelSpec, tmp_path: Path) -> None:
    summary = run(ROWS, start, tmp_path, HELD, epochs=10, evaluations=5, learning_rate=2e-2)
    losses = {point["step"]: point["loss"] for point in summary["checkpoints"]}
    assert list(losses) == [6, 12, 18, 24, 30]
    best = min(losses, key=losses.__getitem__)
    assert summary["selected"] == best != 30, "the held-out answers are others, so the last are not the best"
    assert summary["select"] == "loss"
    kept = loss_by_language(tmp_path, HELD)
    assert sum(kept.values()) / 2 == pytest.approx(losses[best], rel=1e-4)


def test_figures_of_the_callers_own_select_as_well(start: ModelSpec, tmp_path: Path) -> None:
    """The second of three looks is called the best; its weights are those of a training that ends there."""
    looks: list[list[str]] = []

    def measure(generator: Generator) -> Figures:
        asked = [Request(one.id, one.answer.messages) for one in HELD]
        found = generator.generate(asked, Sampling(temperature=0, max_tokens=6))
        looks.append([answers[0].text for answers in found])
        value = [1.0, 9.0, 5.0][len(looks) - 1]
        return {"chrf": {"en": value, "es": value + 1}}

    told = {"epochs": 4, "evaluations": 3, "save_steps": 100}
    summary = run(ROWS, start, tmp_path / "best", HELD, measure=measure, select="chrf", **told)
    assert summary["selected"] == 8
    assert [point["chrf"] for point in summary["checkpoints"]] == [1.5, 9.5, 5.5]
    assert summary["checkpoints"][1]["by_language"]["es"]["chrf"] == 10.0
    run(ROWS, start, tmp_path / "eight", max_steps=8, select="last")
    assert same(weights(tmp_path / "best"), weights(tmp_path / "eight"))
    # What answered at that look was the model that is kept.
    generator = HFGenerator(ModelSpec(path=str(tmp_path / "best"), device="cpu"))
    again = generator.generate([Request(o.id, o.answer.messages) for o in HELD], Sampling(temperature=0, max_tokens=6))
    assert [answers[0].text for answers in again] == looks[1]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("lora", [None, LoraOptions(r=4)], ids=["full", "adapter"])
def test_prompts_of_any_length_are_answered_as_the_checkpoint_answers_them(
    start: ModelSpec, tmp_path: Path, lora: LoraOptions | None
) -> None:
    """All at once, so that the shorter ones are padded, by a model that counts places from the beginning."""
    counting = tmp_path / "counting"
    tokenizer = AutoTokenizer.from_pretrained(start.path)
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48, "initializer_range": 0.5}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **ids)).save_pretrained(counting)
    tokenizer.save_pretrained(counting)
    prompts = ["say a", "say a b c d e f g", "name one two three red green", "count"]
    asked = [Request(text, [{"role": "user", "content": text}]) for text in prompts]
    greedy = Sampling(temperature=0, max_tokens=8)
    looks = []

    def measure(generator: Generator) -> Figures:
        looks.append([answers[0].text for answers in generator.generate(asked, greedy)])
        return {}

    spec, out = ModelSpec(path=str(counting), device="cpu"), tmp_path / "out"
    run(ROWS, spec, out, HELD, measure=measure, select="last", evaluations=1, learning_rate=1e-3, lora=lora)
    trained = {"path": str(counting), "adapter": str(out)} if lora else {"path": str(out)}
    generator = HFGenerator(ModelSpec(**trained, device="cpu"))
    alone = [generator.generate([request], greedy)[0][0].text for request in asked]
    assert looks == [alone]
    assert len(set(alone)) > 1


def test_looking_changes_no_step(start: ModelSpec, tmp_path: Path) -> None:
    def measure(generator: Generator) -> Figures:
        generator.generate([Request("1", HELD[0].answer.messages)], Sampling(n=2, temperature=1.0, max_tokens=4))
        return {"chrf": {"en": 0.0}}

    lora = LoraOptions(r=2, dropout=0.5, merge=True)
    run(ROWS, start, tmp_path / "blind", select="last", lora=lora, epochs=2)
    run(ROWS, start, tmp_path / "seen", HELD, measure=measure, select="last", lora=lora, epochs=2, evaluations=6)
    assert same(weights(tmp_path / "blind"), weights(tmp_path / "seen"))


@pytest.mark.parametrize("memory", [{}, {"gradient_checkpointing": True}], ids=str)
def test_an_adapter_is_selected_and_written_alone(start: ModelSpec, tmp_path: Path, memory: dict[str, bool]) -> None:
    def measure(generator: Generator) -> Figures:
        (found,) = generator.generate([Request("1", HELD[0].answer.messages)], Sampling(temperature=0, max_tokens=4))
        assert found[0].error is None
        return {}

    summary = run(
        ROWS,
        start,
        tmp_path,
        HELD,
        measure=measure,
        lora=LoraOptions(r=4),
        epochs=10,
        evaluations=5,
        learning_rate=5e-2,
        **memory,
    )
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    assert not summary["merged"]
    losses = {point["step"]: point["loss"] for point in summary["checkpoints"]}
    assert summary["selected"] == min(losses, key=losses.__getitem__) < 30
    kept = loss_by_language(start.path, HELD, adapter=tmp_path)
    assert sum(kept.values()) / 2 == pytest.approx(losses[summary["selected"]], rel=1e-4)


def test_it_looks_in_half_precision_too(start: ModelSpec, tmp_path: Path) -> None:
    """bf16 by autocast, over float32 weights and over an adapter's frozen ones: the loss to two digits."""
    for name, lora in (("full", None), ("adapter", LoraOptions(r=4, merge=True))):
        spec = start.model_copy(update={"dtype": "bfloat16"}) if lora else start
        folder = tmp_path / name
        summary = run(ROWS, spec, folder, HELD, measure=measure, select="chrf", evaluations=1, bf16=True, lora=lora)
        (point,) = summary["checkpoints"]
        want = loss_by_language(folder, HELD)
        assert point["loss"] == pytest.approx((want["en"] + want["es"]) / 2, rel=0.03)
        assert 0 <= point["chrf"] <= 100


def test_without_validation_rows_the_last_weights_are_kept_and_that_is_told(start: ModelSpec, tmp_path: Path) -> None:
    summary = run(ROWS, start, tmp_path)
    assert (summary["select"], summary["selected"], summary["checkpoints"]) == ("last", 3, [])
    assert "the weights are those of the last step" in (tmp_path / "README.md").read_text()


def test_rows_that_cannot_be_used_are_counted_and_never_cut(start: ModelSpec, tmp_path: Path) -> None:
    long = row(0, " ".join(["red"] * 60))  # the model's window is 48 tokens
    summary = run([*ROWS, long, row(1, "")], start, tmp_path, [HELD[0], long], select="last")
    assert (summary["rows"], summary["dropped"]) == (13, {"too_long": 1})
    assert (summary["validation_rows"], summary["validation_dropped"]) == (1, {"too_long": 1})
    with pytest.raises(InputError, match=r"no demonstration is left to train on: 1 too_long"):
        run([long], start, tmp_path / "none")


def test_the_card_says_what_every_look_found(start: ModelSpec, tmp_path: Path) -> None:
    summary = run(ROWS, start, tmp_path, HELD, evaluations=3)
    card = (tmp_path / "README.md").read_text()
    assert "supervised fine-tuning" in card
    assert f"The weights are those of step {summary['selected']}, the best by loss." in card
    for point in summary["checkpoints"]:
        assert f"| {point['step']} | {point['loss']:.4f} |" in card


TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ '<pad>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def test_a_base_model_gets_a_template_and_ends_its_turns_as_that_says(start: ModelSpec, tmp_path: Path) -> None:
    base, file = tmp_path / "base", tmp_path / "own.jinja"
    save_tiny_model(base)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    spec = ModelSpec(path=str(base), device="cpu")
    with pytest.raises(ModelError, match="has no chat template"):
        run(ROWS, spec, tmp_path / "refused")
    file.write_text(TEMPLATE)
    run(ROWS, spec, tmp_path / "made", chat_template=str(file), select="last")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert tokenizer.chat_template == TEMPLATE
    ends = AutoModelForCausalLM.from_pretrained(tmp_path / "made").generation_config.eos_token_id
    assert set(ends) == {tokenizer.convert_tokens_to_ids("<pad>"), tokenizer.eos_token_id}


def test_a_loss_that_is_no_number_stops_the_training(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polypref.backends.trl_sft_trainer import SelectingTrainer

    real = SelectingTrainer._rows

    def broken(self: Any, rows: Any) -> Any:
        sums, tokens = real(self, rows)
        return torch.full_like(sums, torch.nan), tokens

    monkeypatch.setattr(SelectingTrainer, "_rows", broken)
    with pytest.raises(ModelError, match=r"validation loss in en is nan after step 1; lower train.learning_rate"):
        run(ROWS, start, tmp_path, HELD, evaluations=3)


def test_it_is_a_trainer_of_demonstrations() -> None:
    assert isinstance(TRLSFTTrainer(), SFTTrainer)
