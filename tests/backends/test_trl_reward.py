"""Reward models trained on a tiny model: the loss, what is learned and selected, and what is in the checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from polypref.backends.base import Judged, ModelSpec
from polypref.backends.hf_rewards import HFRewardModel
from polypref.backends.reward_training import ADAPTER_NOTE, RewardTrainer
from polypref.backends.training import LoraOptions
from polypref.backends.trl_reward import TRLRewardTrainer, _Job
from polypref.backends.trl_reward_trainer import RewardModelTrainer
from polypref.errors import ModelError, RecipeError
from polypref.stages.train_reward import TrainRewardOptions, trained_reward
from tiny_reward_training import (
    HELD,
    PAIRS,
    classifier,
    judged,
    loss_of,
    margins_of,
    options,
    pairs,
    points,
    reward,
    run,
)
from tiny_training import TEMPLATE, same, save_tiny_model, weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


def built(start: ModelSpec, folder: Path, rows: list[Any], micro_batch: int = 4, **changes: Any) -> RewardModelTrainer:
    return _Job(rows, [], start, options(**changes)).trainer(micro_batch, folder)


# --- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"centre": 0.1}, {"margin": True}])
def test_the_loss_and_its_gradients_are_trls_on_one_batch(
    changes: dict[str, Any], start: ModelSpec, tmp_path: Path
) -> None:
    trainer = built(start, tmp_path, PAIRS, **changes)
    trainer.args.center_rewards_coefficient = trainer.centre or None
    batch = trainer.data_collator(list(trainer.train_dataset)[:4])
    model = trainer.model.train()
    found = []
    for compute in (RewardModelTrainer.compute_loss, trl.RewardTrainer.compute_loss):
        model.zero_grad()
        inputs = dict(batch)
        if compute is trl.RewardTrainer.compute_loss and "margin" in inputs:
            # It hands the margin to the model as well, which takes no notice.
            monkey = model.forward
            model.forward = lambda margin=None, forward=monkey, **given: forward(**given)  # type: ignore[method-assign]
        loss = compute(trainer, model, inputs)
        loss.backward()
        found.append((loss.item(), {name: value.grad.clone() for name, value in model.named_parameters()}))
    (ours, our_grads), (theirs, their_grads) = found
    assert ours == pytest.approx(theirs, rel=1e-6)
    for name, grad in our_grads.items():
        torch.testing.assert_close(grad, their_grads[name], rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("loss", ["bradley_terry", "pointwise"])
def test_a_step_is_the_mean_over_its_rows_whatever_the_micro_batches(
    loss: str, start: ModelSpec, tmp_path: Path
) -> None:
    """Seven rows in steps of four: the last step has three, which micro-batches of 2 split into two and one."""
    rows = points(14)[:7] if loss == "pointwise" else pairs(7)
    told = {"loss": loss, "optimizer": "sgd", "learning_rate": 0.1, "centre": 0.1 * (loss == "bradley_terry")}
    whole = run(rows, start, tmp_path / "4", micro_batch_size=4, **told)
    assert whole["steps"] == 2
    for size in (1, 2):
        summary = run(rows, start, tmp_path / str(size), micro_batch_size=size, **told)
        for name, value in weights(tmp_path / "4").items():
            torch.testing.assert_close(weights(tmp_path / str(size))[name], value, rtol=1e-5, atol=1e-6, msg=name)
        for point, other in zip(summary["curve"], whole["curve"], strict=True):
            assert point == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_the_curve_begins_at_the_loss_of_the_start(start: ModelSpec, tmp_path: Path) -> None:
    """The first step of the whole data: the mean of −log σ(r_w − r_l), by each sequence's own forward pass."""
    trainer = built(start, tmp_path / "work", PAIRS)
    margins = margins_of(trainer.model.eval(), start.path, PAIRS)
    expected = loss_of(margins)
    first = run(PAIRS, start, tmp_path / "out", batch_size=12, micro_batch_size=4)["curve"][0]
    assert first == pytest.approx(
        {
            "step": 1,
            "loss": expected,
            "accuracy": sum(margin > 0 for margin in margins) / len(PAIRS),
            "margin": sum(margins) / len(PAIRS),
        },
        rel=1e-5,
    )


def test_centring_pulls_the_rewards_to_zero_and_a_margin_pushes_them_apart(start: ModelSpec, tmp_path: Path) -> None:
    told = {"epochs": 10, "batch_size": 12}
    plain, centred, apart = (
        run(PAIRS, start, tmp_path / name, **told, **more)["curve"][-1]["margin"]
        for name, more in (("plain", {}), ("centred", {"centre": 1.0}), ("apart", {"margin": True}))
    )
    assert apart > plain
    sums = {}
    for name in ("plain", "centred"):
        model = classifier(tmp_path / name)
        sums[name] = sum(
            abs(reward(model, tmp_path / name, r, r.chosen) + reward(model, tmp_path / name, r, r.rejected))
            for r in PAIRS
        )
    assert sums["centred"] < sums["plain"] / 2
    assert centred > 0


# --- what is learned and written ------------------------------------------------------------------------------------


def test_the_checkpoint_is_an_ordinary_classifier_and_nothing_else_is_left(
    start: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, int, int | None]] = []
    capfd.readouterr()
    summary = run(pairs(64), start, tmp_path, HELD, lambda *news: told.append(news), epochs=5, evaluations=2)
    assert capfd.readouterr() == ("", "")
    files = {"README.md", "chat_template.jinja", "config.json", "model.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == files | {"tokenizer.json", "tokenizer_config.json"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["polypref"] == {"input": "turns", "max_length": 48, "loss": "bradley_terry"}
    assert (config["pad_token_id"], config["eos_token_id"], config["use_cache"]) == (2, 1, True)
    assert (tmp_path / "chat_template.jinja").read_text() == TEMPLATE
    assert told == [("train", step, 80) for step in range(1, 81)]
    expected = {"rows": 64, "validation_rows": 7, "steps": 80, "head": "new", "pad_token": "<pad>", "merged": False}
    assert {name: summary[name] for name in expected} == expected
    assert (summary["dropped"], summary["languages"]) == ({}, {"en": 32, "es": 32})
    assert [point["step"] for point in summary["validation"]] == [40, 80]
    assert summary["curve"][-1]["accuracy"] == 1
    assert summary["validation"][-1]["accuracy"] == 1  # rows that it was not trained on
    json.dumps(summary, allow_nan=False)
    card = (tmp_path / "README.md").read_text()
    assert "# tiny, trained with polypref" in card
    chosen = next(point for point in summary["validation"] if point["step"] == summary["selected_step"])
    assert f"Validation: accuracy {chosen['accuracy']:.4f}, loss {chosen['loss']:.4f} (n = 7 rows) at step" in card
    assert "Its last 48 tokens are read: 0 of the 128 training sequences were longer." in card
    assert str(Path(start.path).parent) not in card


def test_a_saved_and_reloaded_model_scores_identically(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    publish = _Job.publish
    monkeypatch.setattr(_Job, "publish", lambda self, trainer, to: (publish(self, trainer, to), kept.append(trainer)))
    run(PAIRS, start, tmp_path / "out", HELD, epochs=2)
    memory, disk = kept[0].model.eval(), classifier(tmp_path / "out")
    for row in HELD:
        for text in (row.chosen, row.rejected):
            assert reward(memory, tmp_path / "out", row, text) == reward(disk, tmp_path / "out", row, text)


def test_labelled_answers_become_probabilities(start: ModelSpec, tmp_path: Path) -> None:
    """The loss is least where σ(r) is the label, so rewards end near ±log 9 = ±2.2 and grow no further."""
    rows = points(16)
    summary = run(rows, start, tmp_path, points(8, seed=1), loss="pointwise", epochs=30, schedule="cosine")
    assert set(summary["curve"][0]) == set(summary["validation"][0]) == {"step", "loss", "accuracy"}
    assert summary["curve"][-1]["accuracy"] == 1
    assert json.loads((tmp_path / "config.json").read_text())["polypref"]["loss"] == "pointwise"
    run(rows, start, tmp_path / "last", loss="pointwise", epochs=30, schedule="cosine")
    model = classifier(tmp_path / "last")
    for row in rows:
        found = 1 / (1 + math.exp(-reward(model, tmp_path / "last", row, row.text)))
        assert found == pytest.approx(row.label, abs=0.1)


def test_labels_of_one_half_have_no_accuracy(start: ModelSpec, tmp_path: Path) -> None:
    import dataclasses

    unsure = [dataclasses.replace(row, label=0.5) for row in points(8)]
    summary = run(unsure, start, tmp_path, unsure, loss="pointwise")
    assert set(summary["validation"][0]) == {"step", "loss"}
    assert summary["selected_step"] == min(summary["validation"], key=lambda point: point["loss"])["step"]


def test_truncation_is_applied_and_counted(start: ModelSpec, tmp_path: Path) -> None:
    """With six tokens the prompt's first are gone: the model never sees its special begin token, and nothing is
    dropped; the model's own window of 48 holds whatever max_length says."""
    found = _Job(PAIRS, HELD, start, options(max_length=6))
    assert {len(row[side]) for row in found.training.rows for side in ("chosen_ids", "rejected_ids")} == {6}
    summary = run(PAIRS, start, tmp_path, HELD, max_length=6)
    assert summary["rows"] + sum(summary["dropped"].values()) == len(PAIRS)
    sequences = [f"<s> {r.messages[0]['content']} {text}" for r in PAIRS for text in (r.chosen, r.rejected)]
    long = sum(len(text.split()) + 3 > 6 for text in sequences)  # and two role tokens and the end
    assert summary["truncated"]["train"] == long - 2 * sum(summary["dropped"].values())
    assert summary["max_length"] == 6
    card = (tmp_path / "README.md").read_text()
    assert f"{summary['truncated']['train']} of the {2 * summary['rows']} training sequences were longer" in card
    if summary["dropped"]:
        assert "whose two answers are equal once cut (same_after_truncation)" in card
    assert _Job(PAIRS, HELD, start, options()).max_length == 48


def test_training_goes_on_with_the_head_of_a_reward_model(start: ModelSpec, tmp_path: Path) -> None:
    """The first loss of the second training is that of the model which the first one wrote."""
    run(pairs(32), start, tmp_path / "first", epochs=5)
    first = ModelSpec(path=str(tmp_path / "first"), device="cpu")
    expected = loss_of(margins_of(classifier(first.path), first.path, PAIRS))
    again = run(PAIRS, first, tmp_path / "again", batch_size=12)
    assert again["head"] == "kept"
    assert again["curve"][0]["loss"] == pytest.approx(expected, rel=1e-5)
    anew = run(PAIRS, first, tmp_path / "anew", batch_size=12, head="new")
    assert anew["head"] == "new"
    assert anew["curve"][0]["loss"] > 2 * expected


def test_a_bfloat16_model_trains_in_float32_and_is_written_in_bfloat16(tmp_path: Path) -> None:
    spec = ModelSpec(path=str(save_tiny_model(tmp_path / "half", dtype="bfloat16")), device="cpu")
    assert built(spec, tmp_path / "work", PAIRS).model.dtype == torch.float32
    run(PAIRS, spec, tmp_path / "out", HELD, learning_rate=1e-5)
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.bfloat16}
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_dropout_is_off_in_attention_as_well(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    trainer = built(ModelSpec(path=str(folder), device="cpu"), tmp_path / "work", PAIRS)
    model, batch = trainer.model.train(), trainer.data_collator(list(trainer.train_dataset)[:4])
    first, second = (trainer.compute_loss(model, batch).item() for _ in range(2))
    assert first == second


# --- pad token and template ---------------------------------------------------------------------------------------


def without_pad(folder: Path, rows: int) -> ModelSpec:
    """The tiny model with ``rows`` rows of embeddings, and a tokenizer whose padding is its end of sequence; no other
    token could be the padding."""
    from transformers import AutoModelForCausalLM

    save_tiny_model(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.config.pad_token_id = 1
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text().replace("<pad>", "spare")
        (folder / name).write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(folder)
    return ModelSpec(path=str(folder), device="cpu")


@pytest.mark.parametrize(("rows", "after"), [(25, 26), (40, 40)])
def test_a_new_pad_token_is_in_the_checkpoint_and_the_end_is_what_is_read(
    rows: int, after: int, tmp_path: Path
) -> None:
    spec = without_pad(tmp_path / "tiny", rows)
    assert AutoTokenizer.from_pretrained(spec.path).pad_token_id == 1
    summary = run(PAIRS, spec, tmp_path / "out", HELD, epochs=2)
    assert summary["pad_token"] == "<|pad|>"
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path / "out"), classifier(tmp_path / "out")
    assert (tokenizer.pad_token_id, model.config.pad_token_id) == (25, 25)
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size == after
    # Padding changes no reward, and without it the same token is read, the end-of-turn.
    ids = tokenizer("<s> <|user|> say uno <|assistant|> a b </s>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        alone = model(torch.tensor([ids])).logits
        padded = model(torch.tensor([[*ids, 25, 25]]), attention_mask=torch.tensor([[1] * len(ids) + [0, 0]])).logits
        states = model.model(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(alone, padded)
    torch.testing.assert_close(alone[0], model.score(states[0, -1]).detach())


def test_an_adapter_cannot_bring_a_new_pad_token(tmp_path: Path) -> None:
    spec = without_pad(tmp_path / "tiny", 25)
    with pytest.raises(RecipeError, match=r"no token that could be the padding.*set lora\.merge"):
        run(PAIRS, spec, tmp_path / "adapter", lora=LoraOptions(r=2))
    run(PAIRS, spec, tmp_path / "merged", lora=LoraOptions(r=2, merge=True))
    assert classifier(tmp_path / "merged").config.vocab_size == 26


def test_a_base_model_gets_its_template_from_a_file(start: ModelSpec, tmp_path: Path) -> None:
    import shutil

    base = Path(shutil.copytree(start.path, tmp_path / "base"))
    (base / "chat_template.jinja").unlink()
    spec = ModelSpec(path=str(base), device="cpu")
    with pytest.raises(ModelError, match=r"has no chat template.*chat_template"):
        run(PAIRS, spec, tmp_path / "out")
    with pytest.raises(RecipeError, match=r"nothing\.jinja cannot be read"):
        run(PAIRS, spec, tmp_path / "out", chat_template=str(tmp_path / "nothing.jinja"))
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    run(PAIRS, spec, tmp_path / "out", chat_template=str(tmp_path / "own.jinja"))
    run(PAIRS, start, tmp_path / "instructed")
    assert same(weights(tmp_path / "out"), weights(tmp_path / "instructed"))
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TEMPLATE
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()


# --- selection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "selected"),
    [("accuracy", 6), ("loss", 9), ("last", 12)],
)
def test_the_best_weights_on_the_validation_rows_are_kept(
    select: str, selected: int, start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 6 and 12 have the best accuracy and equal losses, step 3 the same with a higher loss: the earlier of the
    two counts. Its weights are those of a training that ends there."""
    steps = {3: (6.0, 0.5), 6: (6.0, 0.4), 9: (5.5, 0.1), 12: (6.0, 0.4)}
    monkeypatch.setattr(RewardModelTrainer, "_totals", judged(steps))
    told = {"epochs": 4, "evaluations": 4, "save_steps": 100, "select": select}
    summary = run(PAIRS, start, tmp_path / "out", HELD, **told)
    assert summary["selected_step"] == selected
    assert [(p["step"], p["accuracy"], p["loss"]) for p in summary["validation"]] == [
        (step, right / 7, pytest.approx(loss)) for step, (right, loss) in steps.items()
    ]
    monkeypatch.undo()
    run(PAIRS, start, tmp_path / "cut", epochs=4, max_steps=selected)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "cut"))


def test_validation_counts_every_row_once(start: ModelSpec, tmp_path: Path) -> None:
    """Seven rows in micro-batches of four: the mean over rows, not over batches, by each row's own forward pass."""
    summary = run(PAIRS, start, tmp_path, HELD, micro_batch_size=4, evaluations=1)
    margins = margins_of(classifier(tmp_path), tmp_path, HELD)
    [last] = summary["validation"]
    assert last["step"] == summary["steps"] == 3
    assert last["loss"] == pytest.approx(loss_of(margins), rel=1e-5)
    assert last["accuracy"] == sum(m > 0 for m in margins) / 7
    assert last["margin"] == pytest.approx(sum(margins) / 7, rel=1e-5)


def test_without_validation_rows_the_last_weights_stay(start: ModelSpec, tmp_path: Path) -> None:
    summary = run(PAIRS, start, tmp_path)
    assert (summary["validation"], summary["validation_rows"], summary["selected_step"]) == ([], 0, 3)


# --- LoRA ---------------------------------------------------------------------------------------------------------


def adapted(base: ModelSpec, folder: Path) -> Any:
    from peft import PeftModel

    model = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=1)
    model.config.pad_token_id = AutoTokenizer.from_pretrained(folder).pad_token_id
    return PeftModel.from_pretrained(model, folder).eval()


def test_an_adapter_brings_its_head_and_a_merged_model_is_the_same(start: ModelSpec, tmp_path: Path) -> None:
    told = {"epochs": 12, "learning_rate": 2e-2, "evaluations": 1}
    summary = run(pairs(32), start, tmp_path / "adapter", HELD, lora=LoraOptions(r=4), **told)
    merged = run(pairs(32), start, tmp_path / "merged", HELD, lora=LoraOptions(r=4, merge=True), **told)
    assert (summary["merged"], merged["merged"]) == (False, True)
    assert summary["curve"] == merged["curve"]
    assert summary["curve"][-1]["accuracy"] == 1
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    assert not (tmp_path / "adapter" / "config.json").exists()
    note = {"input": "turns", "max_length": 48, "loss": "bradley_terry"}
    assert json.loads((tmp_path / "adapter" / ADAPTER_NOTE).read_text()) == note
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum("score" in name for name in saved) == 1  # the trained head itself, without an adapter of its own
    one, two = adapted(start, tmp_path / "adapter"), classifier(tmp_path / "merged")
    margins = []
    for row in HELD:
        found = [reward(one, tmp_path / "adapter", row, text) for text in (row.chosen, row.rejected)]
        theirs = [reward(two, tmp_path / "merged", row, text) for text in (row.chosen, row.rejected)]
        assert found == pytest.approx(theirs, abs=1e-4)
        margins.append(found[0] - found[1])
    # What validation saw at the end is what the reloaded adapter gives.
    assert summary["validation"][-1]["margin"] == pytest.approx(sum(margins) / 7, rel=1e-4)


def test_the_scorer_reads_what_was_trained_also_where_the_base_pads_with_the_end(tmp_path: Path) -> None:
    """The base's padding is its end-of-turn, as in many released models, so training takes another token; an adapter
    leaves the base's configuration as it is."""
    base = save_tiny_model(tmp_path / "tiny")
    config = json.loads((base / "config.json").read_text()) | {"pad_token_id": 1}
    (base / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(base)
    start = ModelSpec(path=str(base), device="cpu")
    for name, lora in (("whole", None), ("adapter", LoraOptions(r=4))):
        folder = tmp_path / name
        assert run(PAIRS, start, folder, lora=lora, learning_rate=3e-2, epochs=3)["pad_token"] == "<pad>"
        scorer = HFRewardModel.opened(
            trained_reward(TrainRewardOptions(start=start, lora=lora), folder), lambda *_: None
        )
        model = adapted(start, folder) if lora else classifier(folder)
        asked = [(row, text) for row in HELD for text in (row.chosen, row.rejected)]
        found = scorer.score([Judged(row.id, row.lang, row.messages, text) for row, text in asked])
        assert found == pytest.approx([reward(model, folder, row, text) for row, text in asked], abs=1e-4), name


def test_the_best_adapter_is_kept_with_its_head(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RewardModelTrainer, "_totals", judged({6: (6.0, 0.4), 12: (5.0, 0.4)}))
    lora = LoraOptions(r=2)
    summary = run(PAIRS, start, tmp_path / "out", HELD, lora=lora, epochs=4, evaluations=2)
    assert summary["selected_step"] == 6
    monkeypatch.undo()
    run(PAIRS, start, tmp_path / "cut", lora=lora, epochs=4, max_steps=6)
    assert same(*(load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "cut")))


def test_training_goes_on_from_an_adapter_with_its_head(start: ModelSpec, tmp_path: Path) -> None:
    """An adapter of a reward model brings its head, one of a language model does not; both are merged in."""
    from tiny_training import ROWS
    from tiny_training import run as align

    run(pairs(32), start, tmp_path / "reward", lora=LoraOptions(r=4), epochs=5, learning_rate=3e-2)
    expected = loss_of(margins_of(adapted(start, tmp_path / "reward"), tmp_path / "reward", PAIRS))
    on_reward = start.model_copy(update={"adapter": str(tmp_path / "reward")})
    summary = run(PAIRS, on_reward, tmp_path / "again", batch_size=12)
    assert (summary["head"], summary["curve"][0]["loss"]) == ("kept", pytest.approx(expected, rel=1e-4))
    assert classifier(tmp_path / "again").score.weight.shape == (1, 16)
    align(ROWS, start, tmp_path / "policy", lora=LoraOptions(r=2))
    on_policy = start.model_copy(update={"adapter": str(tmp_path / "policy")})
    assert run(PAIRS, on_policy, tmp_path / "new", lora=LoraOptions(r=2))["head"] == "new"
    assert (tmp_path / "new" / "model.safetensors").exists()


def test_it_is_a_reward_trainer() -> None:
    assert isinstance(TRLRewardTrainer(), RewardTrainer)
