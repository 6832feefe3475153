"""Which language leads: means, the leader's paired intervals, ties, and what is said of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from polypref import cli_dominant
from polypref.errors import InputError
from polypref.records import Candidate, Example, to_json
from polypref.stages.dominance import Dominance, dominance, sentence


def examples(**scores: list[float | None]) -> list[Example]:
    """Prompt i of every language, answered with the i-th score; None is not answered."""
    out = []
    for number in range(max(len(by) for by in scores.values())):
        prompts = {lang: [{"role": "user", "content": "?"}] for lang in scores}
        candidates = [
            Candidate(f"{lang}/0", lang, "x", "sampled", model="policy", scores={"q": float(by[number])})  # type: ignore[arg-type]
            for lang, by in scores.items()
            if number < len(by) and by[number] is not None
        ]
        out.append(Example(f"p{number}", prompts, candidates))
    return out


def found(pivot: str = "en", **scores: list[float | None]) -> Dominance:
    return dominance(examples(**scores), "q", tuple(scores), pivot)


def test_the_language_with_the_highest_mean_leads_with_its_paired_difference() -> None:
    """en 10 12 14, de 5 6 10: means 12 and 7 with s = 2 and √7, so stderr 2/√3 and √(7/3). Differences 5 6 4: mean 5,
    s = 1, stderr 1/√3, t(0.975, 2) = 4.302653, so 5 ± 2.484138."""
    told = found(de=[5, 6, 10], en=[10, 12, 14])
    assert (told.language, told.leader, told.tied) == ("en", "en", ())
    assert told.figures["en"] == {"quality": 12.0, "quality_stderr": pytest.approx(2 / 3**0.5), "quality_n": 3}
    assert told.figures["de"] == {"quality": 7.0, "quality_stderr": pytest.approx((7 / 3) ** 0.5), "quality_n": 3}
    gap = {"difference": 5.0, "low": pytest.approx(2.515862), "high": pytest.approx(7.484138), "n": 3}
    assert told.against == {"de": gap}


def test_an_interval_that_reaches_0_is_a_tie_and_the_pivot_wins_it() -> None:
    """Differences de − en 1 0 1 0: mean ½, stderr √(1/3)/2, t(0.975, 3) = 3.182446, so ½ ± 0.918693."""
    told = found(en=[0, 1, 0, 0], de=[1, 1, 1, 0])
    assert (told.language, told.leader, told.tied) == ("en", "de", ("en",))
    assert told.against["en"]["low"] == pytest.approx(0.5 - 0.918693, abs=1e-5)


def test_a_tie_without_the_pivot_leaves_the_highest_mean() -> None:
    told = found(en=[0, 0, 0, 0.1], de=[8, 9, 8, 8], fr=[8, 9, 8, 7])
    assert (told.language, told.leader, told.tied) == ("de", "de", ("fr",))


def test_a_pivot_that_is_behind_does_not_lead() -> None:
    told = found(en=[1, 1, 2], de=[8, 9, 8])
    assert (told.language, told.tied) == ("de", ())


def test_equal_languages_are_tied() -> None:
    told = found(de=[1, 0], en=[1, 0])
    assert (told.language, told.tied) == ("en", ("en",))


def test_a_leader_that_loses_on_the_shared_prompts_is_tied() -> None:
    """en leads by its two other prompts alone: on those that both answered it is behind by 1."""
    told = found(de=[2, 2, None, None], en=[1, 1, 9, 9])
    assert told.leader == "en"
    assert told.against["de"] == {"difference": -1.0, "low": -1.0, "high": -1.0, "n": 2}
    assert told.tied == ("de",)


def test_several_answers_to_a_prompt_count_as_their_mean() -> None:
    given_ = examples(en=[1, 3], de=[0, 0])
    given_[0].candidates.append(Candidate("en/1", "en", "y", "sampled", model="policy", scores={"q": 2.0}))
    assert dominance(given_, "q", ("en", "de"), "en").figures["en"]["quality"] == 2.25


def test_translations_failures_and_other_languages_do_not_count() -> None:
    given_ = examples(en=[1, 3], de=[0, 0])
    before = dominance(given_, "q", ("en", "de"), "en")
    given_[0].candidates += [
        Candidate("de>en", "en", "x", "translated", "de/0", scores={"q": 99.0}),
        Candidate("en/failed", "en", "", "sampled", error="timeout"),
        Candidate("fr/0", "fr", "x", "sampled"),
    ]
    assert dominance(given_, "q", ("en", "de"), "en") == before


def test_the_confidence_widens_the_interval() -> None:
    """t(0.995, 2) = 9.924843, so 5 ± 5.730111 reaches 0."""
    told = dominance(examples(en=[10, 12, 14], de=[5, 6, 10]), "q", ("en", "de"), "de", 0.99)
    assert told.against["de"]["low"] == pytest.approx(5 - 5.730111, abs=1e-5)
    assert told.language == "de"


@pytest.mark.parametrize(
    ("scores", "pivot", "says"),
    [
        ({"en": [1, 2], "de": [1]}, "en", "de has scored answers to 1 prompt; which language leads needs at least 2"),
        ({"en": [1, 2], "de": []}, "en", "de has scored answers to 0 prompts"),
        ({"en": [1, 2, None], "de": [None, 2, 1]}, "en", "en and de share answers to 1 prompt;"),
        ({"en": [1, 2], "de": [1, 2]}, "fr", "the pivot fr is none of the languages that have answers (en, de)"),
        ({"en": [1, 2]}, "en", "en is the only language"),
    ],
)
def test_what_cannot_be_told_is_refused(scores: dict[str, Any], pivot: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        found(pivot, **scores)
    assert says in str(raised.value)


def test_a_missing_score_is_named() -> None:
    with pytest.raises(InputError, match=r"'en/0' of example 'p0' has no score 'qq'; score it first \(did you mean q"):
        dominance(examples(en=[1, 2], de=[1, 2]), "qq", ("en", "de"), "en")


def test_an_example_that_comes_twice_and_several_models_are_refused() -> None:
    given_ = examples(en=[1, 2], de=[1, 2])
    with pytest.raises(InputError, match="comes a second time"):
        dominance([*given_, given_[0]], "q", ("en", "de"), "en")
    given_[1].candidates[0].model = "reference"
    with pytest.raises(InputError, match=r"several models \(policy, reference\)"):
        dominance(given_, "q", ("en", "de"), "en")


def test_it_goes_through_json() -> None:
    told = found(en=[0, 1, 0, 0], de=[1, 1, 1, 0])
    assert Dominance.from_json(json.loads(json.dumps(told.to_json()))) == told


SCORES = st.lists(st.integers(-50, 50), min_size=2, max_size=6)
WORLDS = st.fixed_dictionaries({"en": SCORES, "de": SCORES, "fr": SCORES})


@given(WORLDS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_examples_and_answers_changes_nothing(scores: dict[str, Any], noise: random.Random) -> None:
    world = examples(**{lang: [value / 7 for value in by] for lang, by in scores.items()})
    before = dominance(world, "q", ("en", "de", "fr"), "en")
    for example in world:
        noise.shuffle(example.candidates)
    noise.shuffle(world)
    assert dominance(world, "q", ("en", "de", "fr"), "en") == before


@given(WORLDS, st.integers(-1000, 1000))
@settings(deadline=None)
def test_a_constant_changes_no_tie(scores: dict[str, Any], constant: int) -> None:
    """Whole scores, so that the sums are exact."""
    before = found(**scores)
    after = found(**{lang: [value + constant for value in by] for lang, by in scores.items()})
    assert (after.language, after.leader, after.tied) == (before.language, before.leader, before.tied)


# --- in words --------------------------------------------------------------------------------------------------------


def figures(**means: float) -> dict[str, Any]:
    return {lang: {"quality": value, "quality_stderr": 0.02, "quality_n": 100} for lang, value in means.items()}


def gap(difference: float, half: float, n: int = 100) -> dict[str, Any]:
    return {"difference": difference, "low": difference - half, "high": difference + half, "n": n}


def test_a_leader_is_said_with_the_nearest() -> None:
    means = figures(en=0.7, de=0.5, fr=0.6)
    told = Dominance("en", "en", "en", (), means, {"de": gap(0.2, 0.05), "fr": gap(0.1, 0.05, 99)})
    expected = (
        "English leads with 70.0% over 100 prompts (over French, the nearest, +10.0 [+5.0, +15.0] points, n = 99)."
    )
    assert sentence(told) == expected


def test_another_leader_than_the_pivot_is_said_against_both() -> None:
    means = figures(de=7, en=5, fr=6)
    told = Dominance("de", "de", "en", (), means, {"en": gap(2, 0.5), "fr": gap(1, 0.5)})
    expected = "German leads with 7.00 over 100 prompts (over French, the nearest, +1.00 [+0.50, +1.50], n = 100; "
    assert sentence(told) == expected + "over English +2.00 [+1.50, +2.50], n = 100). The recipe's pivot is English."


def test_a_tie_is_said_plainly_and_who_is_taken_why() -> None:
    means = figures(de=52.2, en=51, fr=30)
    told = Dominance("en", "de", "en", ("en",), means, {"en": gap(1.2, 3.2), "fr": gap(22, 2)})
    expected = "German and English cannot be told apart (German over English +1.2 [−2.0, +4.4], n = 100); "
    assert sentence(told) == expected + "English is taken, since the recipe names it as pivot."


def test_a_tie_without_the_pivot_says_how_far_it_is_behind() -> None:
    means = figures(de=52, fr=51, sw=50, en=20)
    against = {"fr": gap(1, 3), "sw": gap(2, 3), "en": gap(32, 3)}
    told = Dominance("de", "de", "en", ("fr", "sw"), means, against)
    expected = "German, French and Swahili cannot be told apart (German over French +1.0 [−2.0, +4.0], n = 100; over "
    expected += "Swahili +2.0 [−1.0, +5.0], n = 100); German is taken, since its mean is the highest (over the pivot, "
    assert sentence(told) == expected + "English, +32.0 [+29.0, +35.0], n = 100)."


# --- the command -----------------------------------------------------------------------------------------------------


def command(tmp_path: Path, *arguments: str, world: list[Example]) -> Any:
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(to_json(e)) + "\n" for e in world), encoding="utf-8")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_dominant.add_to(app)
    return CliRunner().invoke(app, ["dominant", "--input", str(path), "--score", "q", *arguments])


def test_the_command_says_who_leads(tmp_path: Path) -> None:
    world = examples(de=[5, 6, 10], en=[10, 12, 14])
    assert command(tmp_path, world=world).stdout == sentence(dominance(world, "q", ("de", "en"), "en")) + "\n"


def test_the_command_answers_a_machine(tmp_path: Path) -> None:
    world = examples(de=[5, 6, 10], en=[10, 12, 14])
    done = command(tmp_path, "--pivot", "German", "--json", world=world)
    assert Dominance.from_json(json.loads(done.stdout)) == dominance(world, "q", ("de", "en"), "de")


def test_the_command_refuses_a_pivot_without_answers(tmp_path: Path) -> None:
    done = command(tmp_path, "--pivot", "fr", world=examples(de=[5, 6], en=[1, 2]))
    assert isinstance(done.exception, InputError)
