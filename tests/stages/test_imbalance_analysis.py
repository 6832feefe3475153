"""What the imbalance was worth: a judge's scores of own and translated answers."""

from __future__ import annotations

import pytest

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example
from polypref.stages.imbalance import ImbalanceOptions, imbalance
from polypref.stages.imbalance_analysis import analyse


def example(name: str = "x", **scores: float) -> Example:
    """en and, for each language named, its own answer, the English one's translation and its own's: ``fr``,
    ``en_fr`` (English into French), ``fr_en``."""
    candidates = []
    for key, score in scores.items():
        parent, _, target = key.partition("_")
        origin = "translated" if target else "sampled"
        candidates.append(
            Candidate(key, target or parent, key, origin, parent if target else None, scores={"judge": score})
        )
    prompts = {c.lang: [{"role": "user", "content": "?"}] for c in candidates}
    return Example(name, prompts, candidates)


def test_target_and_pivot_by_hand() -> None:
    """x: y^en 5 into fr 4 over y^fr 1 and into es 2 under y^es 3; back 2 from fr and 5 from es. So fr is better, es
    worse; y^en beats the French way back and ties with the Spanish: (1 + ½)/2.
    z: French alone, a tie both ways."""
    found = analyse(
        [
            example("x", en=5, fr=1, en_fr=4, fr_en=2, es=3, en_es=2, es_en=5),
            example("z", en=1, fr=1, en_fr=1, fr_en=1),
        ],
        "judge",
        "en",
    ).values
    assert found["imbalance_accuracy"] == {"fr": {"x": 1.0, "z": 0.5}, "es": {"x": 0.0}, "en": {"x": 0.75, "z": 0.5}}
    assert found["imbalance_better"] == {"fr": {"x": 1.0, "z": 0.0}, "es": {"x": 0.0}, "en": {"x": 0.5, "z": 0.0}}
    assert found["imbalance_worse"] == {"fr": {"x": 0.0, "z": 0.0}, "es": {"x": 1.0}, "en": {"x": 0.0, "z": 0.0}}
    assert found["own_quality"] == {"fr": {"x": 1.0, "z": 1.0}, "es": {"x": 3.0}, "en": {"x": 5.0, "z": 1.0}}
    assert found["translated_quality"] == {"fr": {"x": 4.0, "z": 1.0}, "es": {"x": 2.0}, "en": {"x": 3.5, "z": 1.0}}


def test_the_figures_are_means_over_prompts_with_their_error() -> None:
    """Verdicts 1 ½ 0 1: mean 0.625, s = √((0.375² + 0.125² + 0.625² + 0.375²)/3) = 0.478714, stderr s/2."""
    worlds = [example(f"p{i}", en=1, fr=fr, en_fr=1, fr_en=0) for i, fr in enumerate((0, 1, 2, 0))]
    figures = analyse(worlds, "judge", "en").figures()["fr"]
    assert figures["imbalance_accuracy"] == 0.625
    assert figures["imbalance_accuracy_stderr"] == pytest.approx(0.478714 / 2, abs=1e-6)
    assert figures["imbalance_accuracy_n"] == 4
    assert (figures["imbalance_better"], figures["imbalance_worse"]) == (0.5, 0.25)


@pytest.mark.parametrize("missing", ["en", "fr", "en_fr", "fr_en"])
@pytest.mark.parametrize("how", ["absent", "failed", "dropped"])
def test_a_language_counts_only_where_all_four_stand(missing: str, how: str) -> None:
    given = example(en=1, fr=0, en_fr=1, fr_en=0, es=0, en_es=1, es_en=0)
    if how == "absent":
        given.candidates = [c for c in given.candidates if c.id != missing]
    elif how == "failed":
        given.candidate(missing).error = "timeout"
        given.candidate(missing).scores = {}
    else:
        given.dropped.append(Drop("translate", "wrong_language", "fr", missing))
    found = analyse([given], "judge", "en").values
    told = ["es", "en"] if missing != "en" else []
    assert list(found.get("imbalance_accuracy", {})) == told


def test_it_looks_at_the_same_prompts_as_the_pairs() -> None:
    """One answer was cut off, so pairing dropped it: its prompt says nothing here, either."""
    worlds = [example(f"p{i}", en=1, fr=0, en_fr=1, fr_en=0) for i in range(3)]
    worlds[1].candidate("fr").finish_reason = "length"
    context = Context(open=lambda role, spec: None)
    paired = list(imbalance(worlds, ImbalanceOptions(), context))
    assert list(analyse(paired, "judge", "en").values["own_quality"]["fr"]) == ["p0", "p2"]


def test_a_first_answer_that_stands_is_taken() -> None:
    given = example(en=1, fr=0, en_fr=1, fr_en=0)
    given.candidates.insert(0, Candidate("broken", "fr", "", "sampled", error="timeout"))
    assert analyse([given], "judge", "en").values["own_quality"]["fr"] == {"x": 0.0}


def test_the_pivot_may_be_another_language() -> None:
    found = analyse([example(en=2, fr=7, en_fr=3, fr_en=4)], "judge", "fr").values
    assert found["own_quality"] == {"en": {"x": 2.0}, "fr": {"x": 7.0}}
    assert found["translated_quality"] == {"en": {"x": 4.0}, "fr": {"x": 3.0}}


def test_a_missing_score_is_named() -> None:
    given = example(en=1, fr=0, en_fr=1, fr_en=0)
    given.candidate("en_fr").scores = {}
    with pytest.raises(
        InputError, match=r"'en_fr' of example 'x' has no score 'judge'; score answers and translations"
    ):
        analyse([given], "judge", "en")
