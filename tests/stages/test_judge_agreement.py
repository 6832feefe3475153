"""Agreement of judges: what they share, and the figures of it."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.maths.agreement import cohen_kappa, krippendorff_alpha
from polypref.stages.judge_agreement import agreement, shared
from polypref.stages.judgment_figures import figures
from polypref.stages.judgments import Judgment
from polypref.stages.ratings import RatingOptions, ratings
from polypref.stages.winrate import winrate


def judgment(judge: str, id: str, preference: float | None, **rest: str) -> Judgment:
    names = {"language": "en", "model": "m", "baseline": "b"} | rest
    error = "unreadable" if preference is None else None
    return Judgment(
        id,
        names["language"],
        preference,
        10,
        10,
        model=names["model"],
        baseline=names["baseline"],
        judge=judge,
        error=error,
    )


def judged(models: tuple[str, ...] = ("m",), languages: tuple[str, ...] = ("en",), seed: int = 0) -> list[Judgment]:
    """Two judges on 30 prompts; the second repeats the first three times of four."""
    noise, rows = random.Random(seed), []
    for model in models:
        for language in languages:
            for i in range(30):
                said = noise.choice([0.0, 0.5, 1.0])
                again = said if noise.random() < 0.75 else noise.choice([0.0, 0.5, 1.0])
                rows += [
                    judgment(judge, f"p{i}", preference, model=model, language=language)
                    for judge, preference in (("gpt", said), ("oracle", again))
                ]
    return rows


def test_two_judges_by_hand():
    """Win–win, win–loss, tie–tie, loss–loss: three of four alike. Shares of the first ½, ¼, ¼, of the second ¼, ¼, ½:
    p_e = 1/8 + 1/16 + 1/8 = 5/16, κ = (3/4 − 5/16)/(11/16) = 7/11."""
    rows = [judgment("a", str(i), p) for i, p in enumerate([1, 1, 0.5, 0])]
    rows += [judgment("b", str(i), p) for i, p in enumerate([1, 0, 0.5, 0])]
    found = agreement(rows, resamples=100)
    (pair,) = found["pairs"]
    assert (pair["judges"], pair["n"], pair["raw"]) == (["a", "b"], 4, 0.75)
    assert pair["kappa"] == pytest.approx(7 / 11)
    assert (found["judges"], found["n"], found["prompts"]) == (["a", "b"], 4, 4)
    assert "by_language" not in found


def test_figures_are_those_of_the_maths_clustered_by_prompt():
    rows = judged(models=("m", "n"))
    found = agreement(rows, seed=3, resamples=100)
    first, second = ([j for j in rows if j.judge == judge] for judge in ("gpt", "oracle"))
    ids = [j.id for j in first]
    units = [[float(a.preference or 0), float(b.preference or 0)] for a, b in zip(first, second, strict=True)]
    kappa = cohen_kappa([u[0] for u in units], [u[1] for u in units], ids)
    assert kappa is not None
    assert found["pairs"][0]["kappa"] == pytest.approx(kappa.value)
    assert found["pairs"][0]["kappa_stderr"] == pytest.approx(kappa.stderr)
    for level in ("nominal", "ordinal", "interval"):
        alpha = krippendorff_alpha(units, level, ids, seed=3, resamples=100)
        assert alpha is not None
        assert found["alpha"][level] == {name: pytest.approx(getattr(alpha, name)) for name in ("value", "low", "high")}
    assert (found["n"], found["prompts"]) == (60, 30)


def test_what_is_shared_is_told_by_language():
    found = agreement(judged(languages=("en", "es")), resamples=100)
    assert list(found["by_language"]) == ["en", "es"]
    assert found["by_language"]["es"]["n"] == 30
    alone = agreement([j for j in judged(languages=("en", "es")) if j.language == "es"], resamples=100)
    assert found["by_language"]["es"] == {name: alone[name] for name in ("n", "prompts", "alpha", "pairs")}


def test_a_judge_who_was_told_the_models_the_other_way_round_agrees_all_the_same():
    rows = [judgment("a", str(i), p) for i, p in enumerate([1, 0, 0.5, 0.8])]
    rows += [judgment("b", str(i), 1 - p, model="b", baseline="m") for i, p in enumerate([1, 0, 0.5, 0.8])]
    found = agreement(rows, resamples=100)
    assert found["pairs"][0]["raw"] == 1
    assert found["alpha"]["interval"]["value"] == pytest.approx(1)


def test_a_fraction_is_a_verdict_to_its_side_but_for_interval_alpha():
    rows = [judgment("a", str(i), p) for i, p in enumerate([1, 0.6, 0, 0.4])]
    rows += [judgment("b", str(i), p) for i, p in enumerate([0.7, 1, 0.2, 0])]
    found = agreement(rows, resamples=100)
    assert found["alpha"]["nominal"]["value"] == 1
    assert found["alpha"]["interval"]["value"] < 1


def test_only_shared_comparisons_with_a_verdict_count():
    rows = [judgment("a", str(i), i % 2) for i in range(6)] + [judgment("b", str(i), i % 2) for i in range(4)]
    rows += [judgment("b", "4", None), judgment("c", "5", 0.5), judgment("c", "9", 0.5)]
    found = agreement(rows, resamples=100)
    assert found["n"] == 5
    assert [(pair["judges"], pair["n"]) for pair in found["pairs"]] == [(["a", "b"], 4), (["a", "c"], 1)]
    assert found["pairs"][1]["raw_stderr"] is None
    json.dumps(found, allow_nan=False)


def test_ranks_of_models_are_compared_by_their_win_rates():
    """Win rates 1, ½, 0 by the one and 0.9, 0, 0.4 by the other: ranks 1 2 3 and 1 3 2, ρ = 1 − 6·2/(3·8) = ½."""
    rows = []
    for model, first, second in (("x", 1, 0.9), ("y", 0.5, 0.0), ("z", 0, 0.4)):
        rows += [judgment(j, str(i), p, model=model) for j, p in (("a", first), ("b", second)) for i in range(2)]
    (pair,) = agreement(rows, resamples=100)["pairs"]
    assert (pair["spearman"], pair["spearman_n"]) == (pytest.approx(0.5), 3)
    (two,) = agreement([j for j in rows if j.model != "z"], resamples=100)["pairs"]
    assert (two["spearman"], two["spearman_n"]) == (None, 2)


def test_judges_who_always_say_the_same_have_no_alpha():
    rows = [judgment(judge, str(i), 1.0) for judge in "ab" for i in range(3)]
    found = agreement(rows)
    assert found["alpha"] == {"nominal": None, "ordinal": None, "interval": None}
    assert (found["pairs"][0]["raw"], found["pairs"][0]["kappa"]) == (1, None)


def test_what_has_no_agreement_is_refused():
    with pytest.raises(InputError, match="all judgments are by a; agreement needs two judges"):
        agreement([judgment("a", "1", 1.0)])
    with pytest.raises(InputError, match="no comparison was judged by two of a, b"):
        agreement([judgment("a", "1", 1.0), judgment("b", "2", 1.0)])
    with pytest.raises(InputError, match=r"a judged m against b on '1' \(en\) twice"):
        agreement([judgment("a", "1", 1.0), judgment("a", "1", 1.0), judgment("b", "1", 1.0)])


def test_all_figures_of_a_file_in_one():
    one = judged()
    assert figures(one[::2]) == {"win_rates": winrate(one[::2]), "ratings": None, "agreement": None}
    two, options = judged(models=("m", "n")), RatingOptions(resamples=100)
    found = figures(two, options)
    assert found["ratings"] == ratings(two, options)
    assert found["agreement"] == agreement(two, resamples=100)


def test_one_judge_who_judged_a_comparison_twice_still_has_win_rates():
    found = figures([judgment("a", "1", 1.0), judgment("a", "1", 0.0)])
    assert (found["win_rates"]["win_rate"], found["agreement"]) == (50, None)


def test_judges_who_share_nothing_have_no_agreement_among_the_figures():
    rows = [judgment("a", "1", 1.0), judgment("b", "2", 1.0)]
    assert figures(rows)["agreement"] is None
    failed = [judgment(judge, "1", None, model=model) for judge in "ab" for model in "mn"]
    found = figures(failed)
    assert (found["ratings"], found["agreement"], found["win_rates"]["n"]) == (None, None, 0)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("jkl"),
            st.sampled_from("pqrs"),
            st.sampled_from(["en", "es"]),
            st.sampled_from([0, 0.3, 0.5, 1]),
        ),
        min_size=2,
        max_size=20,
        unique_by=lambda row: row[:3],
    )
)
def test_no_file_gives_an_agreement_that_is_no_number(rows: list[tuple[str, str, str, float]]) -> None:
    judgments = [judgment(judge, id, preference, language=language) for judge, id, language, preference in rows]
    if shared(judgments):
        json.dumps(agreement(judgments, resamples=20), allow_nan=False)
