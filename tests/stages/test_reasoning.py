"""Reasoning, from MGSM's own files to figures: accuracy and off-target rate by language of answers that are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from polypref import registry
from polypref.backends.base import Completion, Context, ModelSpec, Request, Sampling
from polypref.mistakes import checked
from polypref.records import Example
from polypref.stages.evaluate import EvaluateOptions, evaluate
from polypref.stages.generate import GenerateOptions, generate
from polypref.stages.prompts import PromptOptions, read_prompts
from polypref.stages.score import ScorerOptions, by_scorer

LANGUAGES = ("en", "de", "bn", "sw")
ROWS = 20
STEPS = {
    "en": "First we add up what she earns in a week, then we take away what she spends. The answer is {}.",
    "de": "Zuerst zählen wir zusammen, was sie verdient, dann ziehen wir die Ausgaben ab. Antwort: {} Dollar",
    "bn": "প্রথমে আমরা সপ্তাহে তার আয় যোগ করি, তারপর তার খরচ বাদ দিই। উত্তর হল {}।",
    "sw": "Kwanza tunajumlisha anachopata kwa wiki, kisha tunaondoa anachotumia. Jibu ni {}.",
}
BENGALI = str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")


def written(number: int, lang: str) -> str:
    """As the language writes it: 1.234 in German, native digits in Bengali."""
    text = f"{number:,}"
    return text.replace(",", ".") if lang == "de" else text.translate(BENGALI) if lang == "bn" else text


class Solver:
    """Every fourth question wrong by one in every language; of the Swahili ones every fifth answered in English."""

    fingerprint = "solver"

    def __init__(self, examples: Sequence[Example]) -> None:
        self.gold = {e.id: (k, int(str(e.gold).replace(",", ""))) for k, e in enumerate(examples)}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[Completion(self._answer(request))] for request in requests]

    def _answer(self, request: Request) -> str:
        lang = next(part for part in request.id.split("/") if part in LANGUAGES)
        question = next(part for part in request.id.split("/") if part in self.gold)
        assert str(request.messages[-1]["content"]).endswith("####.")
        place, gold = self.gold[question]
        lang = "en" if lang == "sw" and place % 5 == 0 else lang
        return STEPS[lang].format(written(gold + (place % 4 == 0), lang))


@pytest.fixture
def answered(real_data: Path) -> list[Example]:
    """Twenty questions of MGSM as they lie there, answered in four languages and scored against gold."""
    options = checked(
        PromptOptions,
        {
            "path": str(real_data / "mgsm"),
            "id_key": "position",
            "gold_key": "response",
            "languages": LANGUAGES,
            "limit": ROWS,
            "instruction": "Think step by step in {language} and end with the number after ####.",
        },
    )
    context, _ = registry.context(LANGUAGES)
    examples, summary = read_prompts(options, context)
    assert (summary.ids, summary.examples, summary.incomplete) == (250, ROWS, 0)
    solver = Context(open=lambda role, spec: Solver(examples), languages=LANGUAGES)
    source = {"role": "policy", "model": ModelSpec(path="solver", backend="fake"), "n": 1}
    done = generate(examples, checked(GenerateOptions, {"sources": [source]}), solver)
    return list(by_scorer(done, checked(ScorerOptions, {"scorer": "number", "name": "quality"}), context))


def test_accuracy_and_off_target_rate_by_language(answered: list[Example]) -> None:
    """15 of 20 right in each language: .75 ± √(.75·.25/19); 4 of 20 Swahili answers in English, right or wrong."""
    context, _ = registry.context(LANGUAGES)
    found = evaluate(answered, EvaluateOptions(quality="quality"), context).figures()
    assert found.keys() == set(LANGUAGES)
    for lang, figures in found.items():
        assert (figures["quality"], figures["quality_n"]) == (0.75, ROWS)
        assert figures["quality_stderr"] == pytest.approx((0.75 * 0.25 / 19) ** 0.5)
        off = 0.2 if lang == "sw" else 0.0
        assert (figures["off_target_language"], figures["off_target_language_n"]) == (pytest.approx(off), ROWS)
        assert figures["off_target_language_stderr"] == pytest.approx((off * (1 - off) / 19) ** 0.5)
        assert figures["language_fidelity"] == pytest.approx(1 - off)
