"""Reinforcement learning without a model, for tests and trial runs: curves that look like one, from hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polypref.backends.base import Judged, ModelSpec, Progress
from polypref.backends.fake import _digest, _FakeModel, _share, _write
from polypref.backends.rl_training import Identify, RLOptions, RLPrompt, Score
from polypref.errors import InputError


class FakeRLTrainer:
    """Writes a folder that ``FakeGenerator`` and ``FakeLogprobs`` open; its fingerprint follows prompts, start and
    options. The reward is asked once, with a made answer to each prompt, so that one that cannot score is found."""

    fingerprint = "fake-rl-trainer-1"

    def train(
        self,
        prompts: Sequence[RLPrompt],
        validation: Sequence[RLPrompt],
        start: ModelSpec,
        options: RLOptions,
        folder: Path,
        progress: Progress,
        score: Score,
        identify: Identify,
    ) -> dict[str, Any]:
        """Like ``RLTrainer.train``: as many steps as the options ask; nothing is stopped, the last step is selected."""
        if not prompts:
            raise InputError("no prompt is left to train on; look at the data")
        model = _FakeModel(start)
        seen = _digest(model.fingerprint, [asdict(row) for row in prompts], options.model_dump(mode="json"))
        answers = [Judged(row.id, row.lang, row.messages, "fake", row.gold, row.category) for row in prompts]
        rewards = dict(zip((row.id for row in prompts), score(answers), strict=True))
        steps = options.max_steps or max(1, round(len(prompts) * options.epochs / options.batch_size))
        languages = sorted({row.lang for row in prompts})
        first = {lang: _mean([rewards[row.id] for row in prompts if row.lang == lang]) for lang in languages}
        whole: list[dict[str, Any]] = []
        by_language: dict[str, list[dict[str, Any]]] = {lang: [] for lang in languages}
        for step in range(1, steps + 1):
            model.sleep()
            for lang in languages:
                by_language[lang].append(_figures(step, first[lang], _share(seen.hex(), step, lang)))
            noise = _share(seen.hex(), step)
            whole.append(_figures(step, _mean(list(first.values())), noise) | {"loss": noise / 100})
            progress("train", step, steps)
        _write(folder, seen, model.options)
        return {
            "method": options.method,
            "rows": len(prompts),
            "validation_rows": len(validation),
            "steps": steps,
            "tokens": steps * options.batch_size * options.n,
            "seconds": 0.0,
            "dropped": {},
            "languages": dict(sorted(Counter(row.lang for row in prompts).items())),
            "unscored": 0,
            "curve": whole,
            "by_language": by_language,
            "stopped": None,
            "checkpoints": [{k: v for k, v in whole[-1].items() if k != "loss"}] if validation else [],
            "selected": steps,
        }


def _figures(step: int, reward: float | None, noise: float) -> dict[str, Any]:
    """Of one update: the reward rises and the KL with it."""
    return {
        "step": step,
        "reward": None if reward is None else reward + 1 - 1 / step + noise / 64,
        "reward_std": 0.5,
        "kl": step / 16 + noise / 64,
        "length_tokens": 8 + noise,
        "off_target_language": 0.0,
        "truncated": 0.0,
        "unscored": 0.0,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
