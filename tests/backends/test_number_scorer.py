"""An answer is right when its last number is the gold one, however either is written."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Judged, Scorer
from polypref.backends.number_scorer import NumberScorer
from polypref.errors import InputError


def judged(text: str, gold: Any, lang: str = "en") -> Judged:
    return Judged(id=f"q1/{lang}/0", lang=lang, messages=[{"role": "user", "content": "?"}], text=text, gold=gold)


def test_it_is_a_scorer() -> None:
    assert isinstance(NumberScorer(), Scorer)
    assert NumberScorer(None).fingerprint == "number:1"
    assert NumberScorer().score([]) == []


def test_the_number_decides_and_the_answers_language_reads_it() -> None:
    """1.125 is 1125 in German and 1 1/8 in English."""
    answers = [
        judged("9 * 2 = 18. The answer is 18.", 18),
        judged("The answer is 19, not 18.", 18),
        judged("I do not know.", 18),
        judged("", 18),
        judged("Die Antwort lautet 1.125.", 1125, "de"),
        judged("The answer is 1.125.", 1125),
        judged("The answer is 1.125.", 1.125),
        judged("উত্তর হল ১৮।", 18, "bn"),
    ]
    assert NumberScorer().score(answers) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "gold", [2125, 2125.0, "2,125", "2125", "$2,125.00", "17 * 125 = 2125\n#### 2,125", Fraction(2125)]
)
def test_gold_may_be_a_number_or_a_text_with_one(gold: Any) -> None:
    """A text of gold is the same for all languages, so the answer's language does not read it."""
    for lang, text in (("en", "2,125"), ("de", "2.125"), ("fr", "2 125"), ("es", "2,125"), ("th", "๒,๑๒๕")):
        assert NumberScorer().score([judged(text, gold, lang)]) == [1.0]


def test_a_decimal_gold_is_the_decimal_that_was_written() -> None:
    """0.1 is no binary fraction; the answer 0.1 is right all the same."""
    assert NumberScorer().score([judged("0.1", 0.1), judged("1/10", 0.1), judged("0,1", "0.1", "de")]) == [1.0] * 3


def test_gold_by_language_is_read_as_its_language_writes() -> None:
    """1.125 is 1125 in German gold and 1 1/8 in English gold; native digits and plain numbers do as well."""
    gold = {"de": "1.125", "en": "1.125", "bn": "১,১২৫", "th": "#### ๑๑๒๕", "fr": 1125, "sw": 1125.0}
    answers = {"de": "1125", "en": "1 1/8", "bn": "উত্তর হল ১১২৫।", "th": "1,125", "fr": "1 125", "sw": "Jibu ni 1,125."}
    scorer = NumberScorer()
    assert scorer.score([judged(text, gold, lang) for lang, text in answers.items()]) == [1.0] * 6
    assert scorer.score([judged("1125", gold, "en"), judged("1.125", gold, "de")]) == [0.0, 1.0]
    with pytest.raises(InputError, match="q1/ja/0 has no gold in ja; give each example the right number"):
        scorer.score([judged("1125", gold, "ja")])
    with pytest.raises(InputError, match="q1/de/0 has 'acht' as gold in de, which is no number"):
        scorer.score([judged("8", {"de": "acht"}, "de")])


@pytest.mark.parametrize("gold", [None, "", "eighteen", True, float("nan"), float("inf"), [18], {"answer": 18}])
def test_gold_that_is_missing_or_no_number_is_told_with_the_answer(gold: Any) -> None:
    with pytest.raises(
        InputError, match=r"q1/en/0 has (?:no gold(?: in en)?|.* as gold, which is no number); give each example"
    ):
        NumberScorer().score([judged("18", gold)])


def test_mgsm_gold_answers_are_right_and_other_rows_answers_are_not(real_data: Path) -> None:
    """Gold against itself is always right; against the next row's it is right only where both are the same number."""
    for path in sorted((real_data / "mgsm").glob("*.jsonl")):
        golds = [json.loads(line)["response"] for line in path.read_text(encoding="utf-8").splitlines()]
        lang, shifted = path.stem, [*golds[1:], golds[0]]
        assert NumberScorer().score([judged(g, g, lang) for g in golds]) == [1.0] * 250
        same = [float(a == b) for a, b in zip(golds, shifted, strict=True)]
        assert NumberScorer().score([judged(a, b, lang) for a, b in zip(golds, shifted, strict=True)]) == same
