"""Reinforcement learning through TRL on a real model of a few thousand parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from polypref.backends import trl_rl
from polypref.backends.base import Judged, ModelSpec
from polypref.backends.rl_figures import Sample
from polypref.backends.training import LoraOptions
from polypref.backends.trl_rl_trainer import GroupRelative, LeaveOneOut
from polypref.errors import InputError, ModelError, RecipeError
from tiny_rl import HELD, PROMPTS, late, logprobs, opened, options, prompt, recorded, run, speaks
from tiny_training import BLIND, same, save_tiny_model, weights
from tiny_training import run as prefer

ONE = {"max_steps": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")


def answered(seen: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """The token ids of prompt and answer of each row, without padding."""

    def bare(name: str) -> list[list[int]]:
        ids, mask = seen[f"{name}_ids"], seen[f"{name}_mask"].bool()
        return [row[here].tolist() for row, here in zip(ids, mask, strict=True)]

    return list(zip(bare("prompt"), bare("completion"), strict=True))


def ratios(
    policy: Any, reference: Any, rows: list[tuple[list[int], list[int]]], temperature: float = 1.0
) -> list[float]:
    """Σ_t log π(y_t) − log π_start(y_t) of each answer, one sequence at a time."""
    return [sum(logprobs(policy, *row, temperature)) - sum(logprobs(reference, *row, temperature)) for row in rows]


def test_an_answers_advantage_is_its_reward_above_the_mean_of_the_others(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first update π is the start and its log-ratio 0, so A_i = r_i − mean of the other three rewards.

    Rewards 1, 2, 6, 3 have A = 1 − 11/3, 2 − 10/3, 6 − 6/3, 3 − 9/3 = −8/3, −4/3, 4, 0.
    """
    seen = recorded(monkeypatch, LeaveOneOut)
    values = [1.0, 2.0, 6.0, 3.0]
    run(start, tmp_path / "out", lambda answers: (values * len(answers))[: len(answers)], **ONE)
    expected = torch.tensor([-8 / 3, -4 / 3, 4.0, 0.0] * 2)
    torch.testing.assert_close(seen[0]["advantages"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_kl_is_taken_off_the_reward_and_told_in_nats_an_answer(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    """At the second update r̃_i = r_i − β Σ_t [log π(y_t) − log π_start(y_t)], π being the model after one step. Both
    are taken at the temperature of the answers."""
    seen = recorded(monkeypatch, LeaveOneOut)
    changes = {"learning_rate": 0.05, "schedule": "constant", "optimizer": "sgd", "beta": 0.5, "max_grad_norm": 100.0}
    changes |= {"temperature": temperature}
    run(start, tmp_path / "one", **ONE | changes)
    summary = run(start, tmp_path / "two", **ONE | changes | {"max_steps": 2})
    policy, reference = opened(tmp_path / "one")[0], opened(start)[0]
    rows, samples = answered(seen[2]), seen[2]["samples"]
    found = ratios(policy, reference, rows, temperature)
    assert max(map(abs, found)) > 0.01
    assert summary["curve"][0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert summary["curve"][1]["kl"] == pytest.approx(sum(found) / 8, abs=1e-4)
    net = torch.tensor([s.reward - 0.5 * kl for s, kl in zip(samples, found, strict=True)]).view(2, 4)
    expected = net - (net.sum(1, keepdim=True) - net) / 3
    torch.testing.assert_close(seen[2]["advantages"], expected.view(-1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_without_a_penalty_the_kl_is_measured_all_the_same(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    seen = recorded(monkeypatch, LeaveOneOut if method == "rloo" else GroupRelative)
    changes = {"learning_rate": 0.05, "schedule": "constant", "optimizer": "sgd", "beta": 0.0, "method": method}
    run(start, tmp_path / "one", **ONE | changes)
    summary = run(start, tmp_path / "two", **ONE | changes | {"max_steps": 2})
    found = ratios(opened(tmp_path / "one")[0], opened(start)[0], answered(seen[2]))
    assert max(map(abs, found)) > 0.001
    assert summary["curve"][1]["kl"] == pytest.approx(sum(found) / 8, abs=1e-4)


def test_grpo_divides_by_the_standard_deviation_of_a_prompts_rewards(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards 1, 2, 6, 3: mean 3, standard deviation √(14/3); without scaling A_i = r_i − 3."""
    seen = recorded(monkeypatch, GroupRelative)
    values = [1.0, 2.0, 6.0, 3.0]
    for number, scale in enumerate(("group", "none")):
        changes = ONE | {"method": "grpo", "scale_rewards": scale}
        run(start, tmp_path / scale, lambda answers: (values * len(answers))[: len(answers)], **changes)
        centred = torch.tensor([-2.0, -1.0, 3.0, 0.0] * 2)
        expected = centred / (14 / 3) ** 0.5 if scale == "group" else centred
        torch.testing.assert_close(seen[number]["advantages"], expected, rtol=1e-3, atol=1e-3)


def test_an_answer_without_a_reward_teaches_nothing_and_is_counted(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards 1, none, 4, none: each is held against the other alone; a prompt with one reward teaches nothing."""
    seen = recorded(monkeypatch, LeaveOneOut)
    values = [1.0, None, 4.0, None, 2.0, None, None, None]
    summary = run(start, tmp_path / "out", lambda answers: values, **ONE)
    expected = torch.tensor([-3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(seen[0]["advantages"], expected, rtol=1e-4, atol=1e-4)
    assert (summary["unscored"], summary["curve"][0]["unscored"]) == (5, 5)
    assert summary["curve"][0]["reward"] == pytest.approx(7 / 3)


def test_rewards_are_clipped_for_training_and_told_as_they_were(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipped to [2, 3], rewards 1, 2, 6, 3 are 2, 2, 3, 3; their mean as they were is 3."""
    seen = recorded(monkeypatch, LeaveOneOut)
    values = [1.0, 2.0, 6.0, 3.0]
    changes = ONE | {"reward_clip": (2.0, 3.0)}
    summary = run(start, tmp_path / "out", lambda answers: (values * len(answers))[: len(answers)], **changes)
    expected = torch.tensor([-2 / 3, -2 / 3, 2 / 3, 2 / 3] * 2)
    torch.testing.assert_close(seen[0]["advantages"], expected, rtol=1e-4, atol=1e-4)
    assert summary["curve"][0]["reward"] == 3.0


def test_an_answer_in_another_language_pays_the_penalty(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rewards are 1, so that an answer is held against the others by the penalty alone; the figure includes it."""
    seen, asked = recorded(monkeypatch, LeaveOneOut), []

    def noting(answers: Sequence[Judged]) -> list[float | None]:
        asked.extend(answers)
        return [1.0] * len(answers)

    summary = run(start, tmp_path / "out", noting, **ONE, language_penalty=4.0)
    found = [said.tag for said in speaks([answer.text for answer in asked])]
    rewards = [1.0 if tag in (None, answer.lang) else -3.0 for tag, answer in zip(found, asked, strict=True)]
    assert {1.0, -3.0} == set(rewards)
    expected = [r - (sum(rewards[i - i % 4 : i - i % 4 + 4]) - r) / 3 for i, r in enumerate(rewards)]
    torch.testing.assert_close(seen[0]["advantages"], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert summary["curve"][0]["reward"] == pytest.approx(sum(rewards) / 8)


def test_a_reward_that_is_no_number_or_is_missing_everywhere_stops_the_training(start: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the reward of the answer p[0-9]+/0 is nan; give a finite number or None"):
        run(start, tmp_path / "nan", lambda answers: [float("nan")] * len(answers), **ONE)
    with pytest.raises(ModelError, match="gave none of the 8 answers after step 0 a number"):
        run(start, tmp_path / "none", lambda answers: [None] * len(answers), **ONE)


def test_the_scorer_is_told_prompt_answer_and_what_is_right(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, asked = recorded(monkeypatch, LeaveOneOut), []

    def noting(answers: Sequence[Judged]) -> list[float | None]:
        asked.extend(answers)
        return late(answers)

    run(start, tmp_path / "out", noting, **ONE)
    template = opened(start)[1]
    assert [answer.id.rpartition("/")[2] for answer in asked] == ["0", "1", "2", "3"] * 2
    for answer, (prompt_ids, ids) in zip(asked, answered(seen[0]), strict=True):
        [row] = [row for row in PROMPTS if row.id == answer.id.partition("/")[0]]
        assert (answer.lang, answer.messages, answer.gold) == (row.lang, row.messages, row.gold)
        assert template.prompt_ids(row.messages) == prompt_ids
        assert answer.text == template.text(ids)  # without the token that ended it


def test_figures_are_those_of_the_updates_own_answers(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorded(monkeypatch, LeaveOneOut)
    summary = run(start, tmp_path / "out", max_steps=2)
    for entry, told in zip(summary["curve"], seen, strict=True):
        samples: list[Sample] = told["samples"]
        rows = answered(told)
        assert [s.tokens for s in samples] == [len(ids) for _, ids in rows]
        assert [s.truncated for s in samples] == [ids[-1] != 1 for _, ids in rows]
        assert entry["length_tokens"] == pytest.approx(sum(len(ids) for _, ids in rows) / 16)
        assert entry["reward"] == pytest.approx(sum(s.reward or 0 for s in samples) / 16)
        for lang in ("en", "es"):
            own = [s for s in samples if s.lang == lang]
            [figures] = [e for e in summary["by_language"][lang] if e["step"] == entry["step"]]
            assert figures["reward"] == pytest.approx(sum(s.reward or 0 for s in own) / len(own))
            told_langs = [s.off_target for s in own if s.off_target is not None]
            assert figures["off_target_language"] == pytest.approx(sum(told_langs) / len(told_langs))
    assert (summary["method"], summary["rows"], summary["steps"], summary["selected"]) == ("rloo", 12, 2, 2)
    assert (summary["languages"], summary["stopped"], summary["checkpoints"]) == ({"en": 6, "es": 6}, None, [])


@pytest.mark.parametrize("changes", [{"method": "rloo"}, {"method": "grpo"}, {"method": "rloo", "lora": {"r": 4}}])
def test_answers_come_to_have_what_is_rewarded(start: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    summary = run(start, tmp_path / "out", **{"max_steps": 15, "n": 8, "beta": 0.01, "learning_rate": 3e-2} | changes)
    rewards = [entry["reward"] for entry in summary["curve"]]
    assert rewards[-1] > rewards[0] + 0.3


def test_two_trainings_are_the_same_and_micro_batches_change_nothing(start: Path, tmp_path: Path) -> None:
    told = {"optimizer": "sgd", "learning_rate": 0.1}
    first, again, small = (
        run(start, tmp_path / name, micro_batch_size=size, **told)
        for name, size in (("first", 16), ("again", 16), ("small", 2))
    )
    assert first | {"seconds": 0} == again | {"seconds": 0}
    assert same(weights(tmp_path / "first"), weights(tmp_path / "again"))
    assert not same(weights(tmp_path / "first"), weights(start))
    for name, value in weights(tmp_path / "small").items():
        torch.testing.assert_close(value, weights(tmp_path / "first")[name], rtol=1e-4, atol=1e-5)
    assert small["curve"][0]["reward"] == first["curve"][0]["reward"]


def test_several_steps_on_the_same_answers(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch, LeaveOneOut)
    summary = run(start, tmp_path / "out", max_steps=6, iterations=3)
    assert len(seen) == 2
    assert [entry["step"] for entry in summary["curve"]] == [3, 6]
    assert summary["steps"] == 6


def test_an_adapter_is_trained_on_an_untouched_base(start: Path, tmp_path: Path) -> None:
    summary = run(start, tmp_path / "out", lora=LoraOptions(r=4))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(start)
    assert summary["merged"] is False
    assert summary["curve"][0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert summary["curve"][-1]["kl"] != 0.0
    run(start, tmp_path / "merged", lora=LoraOptions(r=4, merge=True))
    assert weights(tmp_path / "merged").keys() == weights(start).keys()


def test_the_reference_is_the_start_with_its_adapter(start: Path, tmp_path: Path) -> None:
    """Under an adapter that changes much, the KL to the bare base would be far from 0 at the first update."""
    prefer(BLIND, ModelSpec(path=str(start), device="cpu"), tmp_path / "adapter", lora=LoraOptions(r=4), epochs=5.0)
    spec = ModelSpec(path=str(start), adapter=str(tmp_path / "adapter"), device="cpu")
    summary = run(spec, tmp_path / "out")
    assert summary["curve"][0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert weights(tmp_path / "out").keys() == weights(start).keys()


def test_the_checkpoint_is_an_ordinary_one(start: Path, tmp_path: Path) -> None:
    run(start, tmp_path / "out", held=HELD, max_kl=100.0)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth")) or name.startswith(".")]
    told = [json.loads((folder / "config.json").read_text()) for folder in (start, tmp_path / "out")]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "dtype"):
        assert told[0][name] == told[1][name]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "REINFORCE leave-one-out" in card
    assert "| Spanish (es) | 6 |" in card
    assert str(start.parent) not in card


def test_under_bfloat16_policy_and_start_agree_at_first_and_the_weights_stay_as_they_were(
    start: Path, tmp_path: Path
) -> None:
    summary = run(start, tmp_path / "out", bf16=True, max_steps=2)
    assert summary["curve"][0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert summary["curve"][1]["kl"] != 0.0
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.float32}


def test_prompts_that_are_too_long_are_dropped_and_counted(start: Path, tmp_path: Path) -> None:
    long = prompt(99)
    long.messages[0]["content"] = "say " + "uno " * 60
    summary = run(start, tmp_path / "out", prompts=[*PROMPTS, long], **ONE)
    assert (summary["rows"], summary["dropped"]) == (12, {"prompt_too_long": 1})
    with pytest.raises(InputError, match=r"1 prompt_too_long; raise train\.max_prompt_length"):
        run(start, tmp_path / "none", prompts=[long], **ONE)


def test_what_cannot_be_used_here_is_told_before_anything_is_opened(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_rl.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"train\.vllm needs vllm, which is not installed here"):
        run(start, tmp_path / "vllm", vllm=True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="4 prompts, which 3 processes cannot share equally"):
        run(start, tmp_path / "three")


def test_a_sharded_model_is_refused(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LeaveOneOut.create_accelerator_and_postprocess

    def sharding(self: Any) -> None:
        real(self)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(LeaveOneOut, "create_accelerator_and_postprocess", sharding)
    with pytest.raises(RecipeError, match="accelerate is set to shard it by FSDP or DeepSpeed; choose plain multi-GPU"):
        run(start, tmp_path / "out", **ONE)


def test_memory_that_is_out_is_met_with_smaller_micro_batches(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LeaveOneOut.training_step

    def small(self: Any, model: Any, inputs: Any, count: Any) -> Any:
        if self.args.per_device_train_batch_size > 4:
            raise torch.OutOfMemoryError
        return real(self, model, inputs, count)

    monkeypatch.setattr(LeaveOneOut, "training_step", small)
    assert run(start, tmp_path / "out", **ONE)["micro_batch_size"] == 4


def test_options_that_do_not_fit_together_are_refused() -> None:
    for wrong, said in (
        ({"loss_type": "grpo"}, "loss_type grpo is a loss of grpo; rloo has but one"),
        ({"scale_rewards": "group"}, "scale_rewards group is grpo's"),
        ({"max_steps": 3, "iterations": 2}, "max_steps 3 is no multiple of iterations 2"),
        ({"reward_clip": (1, 1)}, "the lower first"),
        ({"select": "reward", "validation_share": 0}, "select reward needs held-out prompts"),
        ({"micro_batch_size": 3}, "micro_batch_size 3 does not divide the 4 × 4 answers"),
        ({"lora": {"dropout": 0.1}}, "lora.dropout"),
    ):
        with pytest.raises(ValueError, match=said):
            options(**wrong)
