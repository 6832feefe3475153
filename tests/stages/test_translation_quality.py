"""Round-trip chrF: hand-derived scores, the right texts compared, failures counted and not scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.backends.translation import Translation, TranslationRequest
from polypref.records import Candidate, Example
from polypref.stages.evaluate import Evaluation
from polypref.stages.translation_quality import RoundTripOptions, chrf, round_trip_evaluation, signature


class Back:
    fingerprint = "back"

    def __init__(self, answers: dict[str, str | None]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, str]] = []

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        self.asked += [(r.text, r.source, r.target) for r in requests]
        found = [self.answers[r.text] for r in requests]
        return [Translation(text, None if text else "no_closing_tag") for text in found]


def example(name: str, text: str, **children: str | None) -> Example:
    candidates = [
        Candidate(f"{name}/en/0", "en", text, "sampled"),
        Candidate(f"{name}/es/0", "es", "propia", "sampled"),
    ]
    for lang, child in children.items():
        error = None if child else "no_closing_tag"
        candidates.append(
            Candidate(f"{name}/en/0>{lang}", lang, child or "", "translated", f"{name}/en/0", error=error)
        )
    candidates.append(Candidate(f"{name}/es/0>en", "en", "own", "translated", f"{name}/es/0"))
    return Example(name, {tag: [{"role": "user", "content": "?"}] for tag in ("en", "es", "ja")}, candidates)


def evaluated(examples: list[Example], back: Back, **values: object) -> Evaluation:
    opened = {"translator": back, "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es", "ja"))
    spec = {"model": {"path": "fake", "backend": "fake"}}
    options = RoundTripOptions.model_validate({"translator": spec, **values})
    return round_trip_evaluation(examples, options, context)


def measured(examples: list[Example], back: Back, limit: int = 100) -> dict[str, dict[str, float | int | None]]:
    return evaluated(examples, back, limit=limit).figures()


def test_chrf_by_hand() -> None:
    """abcd against abce: 3 of 4 characters, 2 of 3 bigrams, 1 of 2 trigrams and 0 of 1 four-grams are shared, on both
    sides alike, so F = P = R = their mean over the four orders that exist: (3/4 + 2/3 + 1/2 + 0)/4 = 23/48."""
    assert chrf("abcd", "abce") == pytest.approx(100 * 23 / 48)
    assert chrf("abcd", "abcd") == pytest.approx(100)
    assert chrf("abcd", "wxyz") == pytest.approx(0, abs=1e-6)
    assert signature().startswith("chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_by_language_against_the_pivots_own_answer() -> None:
    """100 and 2300/48: mean 73.96, s = 52.08/√2, stderr = 52.08/2."""
    back = Back({"uno": "abcd", "dos": "abce", "ichi": "abcd"})
    found = measured([example("1", "abcd", es="uno", ja="ichi"), example("2", "abcd", es="dos")], back)
    low = 2300 / 48
    assert found["es"]["round_trip_chrf"] == pytest.approx((100 + low) / 2)
    assert found["es"]["round_trip_chrf_stderr"] == pytest.approx((100 - low) / 2)
    assert (found["es"]["round_trip_chrf_n"], found["es"]["translation_failed"]) == (2, 0.0)
    assert found["ja"]["round_trip_chrf_n"] == 1
    # What was asked is the way back alone, of the pivot's answers alone.
    assert sorted(back.asked) == [("dos", "es", "en"), ("ichi", "ja", "en"), ("uno", "es", "en")]


def test_failures_on_either_way_are_counted_and_not_scored() -> None:
    back = Back({"uno": "abcd", "dos": None, "lengua": "[es] abcd"})
    rows = {"1": "uno", "2": "dos", "3": None, "4": "lengua"}
    found = measured([example(name, "abcd", es=child) for name, child in rows.items()], back)
    assert found["es"]["translation_failed"] == pytest.approx(3 / 4)
    assert found["es"]["translation_failed_n"] == 4
    assert (found["es"]["round_trip_chrf"], found["es"]["round_trip_chrf_n"]) == (pytest.approx(100), 1)
    assert found["es"]["round_trip_chrf_stderr"] is None
    nothing = measured([example("1", "abcd", es=None)], back)
    assert "round_trip_chrf" not in nothing["es"]
    assert not math.isnan(float(nothing["es"]["translation_failed"] or 0))


def test_the_first_few_alone() -> None:
    back = Back({f"texto{n}": "abcd" for n in range(9)})
    found = measured([example(f"e{n}", "abcd", es=f"texto{n}") for n in range(9)], back, limit=2)
    assert found["es"]["round_trip_chrf_n"] == 2
    assert len(back.asked) == 2


def test_a_value_an_example_and_language_that_merges_with_other_figures() -> None:
    back = Back({"uno": "abcd", "ichi": "abce"})
    found = evaluated([example("1", "abcd", es="uno", ja="ichi"), example("2", "abcd", es=None)], back, chunk=1)
    assert found.values["translation_failed"] == {"es": {"1": 0.0, "2": 1.0}, "ja": {"1": 0.0}}
    assert found.values["round_trip_chrf"] == {
        "es": {"1": pytest.approx(100)},
        "ja": {"1": pytest.approx(100 * 23 / 48)},
    }
    both = Evaluation({"quality": {"es": {"1": 0.5}}}).merge(found).figures()
    assert set(both["es"]) >= {"quality", "round_trip_chrf_stderr", "translation_failed_n"}


def test_an_answer_to_a_prompt_about_another_language_may_come_back_in_it() -> None:
    asked = example("1", "hallo", es="hola")
    asked.prompts["en"] = [{"role": "user", "content": "Translate hello into German."}]
    back = Back({"hola": "[de] hallo"})
    assert evaluated([asked], back).figures()["es"]["translation_failed"] == 0
    assert evaluated([example("1", "hallo", es="hola")], back).figures()["es"]["translation_failed"] == 1
    assert (
        evaluated([example("1", "x", es="hola")], back, language_check=False).figures()["es"]["translation_failed"] == 0
    )


def test_without_translations_there_is_nothing_to_say() -> None:
    assert evaluated([example("1", "abcd")], Back({})).values == {}
