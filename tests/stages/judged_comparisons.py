"""Judgments for tests of their page."""

import random

from polypref.stages.judgment_figures import figures
from polypref.stages.judgments import Judgment
from polypref.stages.ratings import RatingOptions


def judgment(id="p1", language="en", preference=1.0, model="icr", baseline="base", judge="gpt", **more):
    more = {"model_length": 100, "baseline_length": 80, "prompt": "Why?", "model_answer": "So.", **more}
    more = {"baseline_answer": "Thus.", **more}
    return Judgment(id, language, preference, model=model, baseline=baseline, judge=judge, **more)


def many(prompts=24, languages=("en", "es"), models=("icr", "sft"), judges=("gpt", "oracle"), **more):
    """Judgments by noise of a seed; the longer answer is preferred a little."""
    noise = random.Random(7)
    out = []
    for i in range(prompts):
        for language in languages:
            for model in models:
                mine, its = noise.randint(20, 200), noise.randint(20, 200)
                for judge in judges:
                    told = [float(noise.random() < (0.7 if mine > its else 0.4)) for _ in range(2)]
                    out.append(
                        judgment(
                            f"p{i}",
                            language,
                            sum(told) / 2,
                            model,
                            judge=judge,
                            orders=tuple(told),
                            flipped=told[0] != told[1],
                            model_length=mine,
                            baseline_length=its,
                            said=("First.\n[[A]]", "Second.\n[[B]]"),
                            **more,
                        )
                    )
    return out


def told(judgments):
    return figures(judgments, RatingOptions(resamples=100))
