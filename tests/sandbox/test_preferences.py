"""The sandbox's preference data: what is compared, how often the annotator errs, and what gives nothing away."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.records import Example, parse_example, to_json
from polypref.sandbox.lexicon import LANGUAGES
from polypref.sandbox.oracle import verdict
from polypref.sandbox.preferences import FLAW_SHARES, NOISE, TASKS, preferences
from polypref.sandbox.world import prompts, translation


def texts(example: dict, lang: str) -> tuple[str, str]:
    """Chosen and rejected."""
    [pair] = [pair for pair in example["pairs"] if pair["lang"] == lang]
    by_id = {c["id"]: c for c in example["candidates"]}
    assert by_id[pair["chosen"]]["lang"] == by_id[pair["rejected"]]["lang"] == lang
    return by_id[pair["chosen"]]["text"], by_id[pair["rejected"]]["text"]


def asked(split: str, n: int) -> list[dict]:
    """Those of the first `n` prompts of a split that preferences are about."""
    return [example for example in prompts(split, n, 0) if example["category"] in TASKS]


def errs(example: dict, lang: str) -> bool:
    """Whether the annotator preferred the flawed answer."""
    verdicts = [verdict(example, lang, text) for text in texts(example, lang)]
    assert sorted(v == "right" for v in verdicts) == [False, True]
    return verdicts[1] == "right"


def test_an_example_has_two_answers_and_one_given_pair_a_language() -> None:
    for row, plain in zip(preferences("train", 40, 0), asked("train", 80), strict=True):
        example = parse_example(row)
        assert isinstance(example, Example)
        assert parse_example(to_json(example)) == example
        assert row["prompts"] == plain["prompts"]
        assert [pair["lang"] for pair in row["pairs"]] == list(LANGUAGES)
        assert {pair["rule"] for pair in row["pairs"]} == {"given"}
        assert Counter(c["lang"] for c in row["candidates"]) == dict.fromkeys(LANGUAGES, 2)


def test_without_noise_the_right_answer_is_always_chosen() -> None:
    for example in preferences("test", 250, 0, noise=0.0):
        assert not any(errs(example, lang) for lang in LANGUAGES)


def test_the_annotator_errs_at_the_rate_that_is_given() -> None:
    """Of 1100 independent pairs at .2 the standard error is √(.2 · .8 / 1100) = .012; four of them are allowed.

    Errors of two languages are independent: both are wrong in .2² = .04, standard error .006.
    """
    found = [[errs(example, lang) for lang in LANGUAGES] for example in preferences("train", 1100, 0, noise=0.2)]
    for own in zip(*found, strict=True):
        assert sum(own) / 1100 == pytest.approx(0.2, abs=0.048)
    assert sum(row[0] and row[1] for row in found) / 1100 == pytest.approx(0.04, abs=0.024)


def test_an_annotator_of_noise_one_is_always_wrong() -> None:
    assert all(errs(example, lang) for example in preferences("test", 50, 0, noise=1.0) for lang in LANGUAGES)


def test_the_default_annotator_errs_in_training_and_not_in_the_test() -> None:
    for split, rate in NOISE.items():
        assert preferences(split, 200, 1) == preferences(split, 200, 1, noise=rate)
    assert NOISE["test"] == 0 < NOISE["train"]


def test_errors_of_a_better_annotator_are_among_those_of_a_worse_one() -> None:
    for good, bad in zip(preferences("train", 300, 0, noise=0.1), preferences("train", 300, 0, noise=0.3), strict=True):
        assert good["candidates"] == bad["candidates"]
        assert all(errs(bad, lang) for lang in LANGUAGES if errs(good, lang))


def test_flaws_have_their_declared_shares_and_are_the_same_in_every_language() -> None:
    """Of 1100 contents a share's standard error is at most √(.9 · .1 / 1100) = .009; four of them are allowed."""
    kinds = Counter()
    for example in preferences("train", 1100, 0, noise=0.0):
        found = {verdict(example, lang, texts(example, lang)[1]) for lang in LANGUAGES}
        assert len(found) == 1
        kinds.update(found)
    assert {kind: count / 1100 for kind, count in kinds.items()} == pytest.approx(FLAW_SHARES, abs=0.036)


def test_a_near_mistake_swaps_two_words_the_same_in_every_language() -> None:
    for example in preferences("test", 200, 0):
        right, flawed = texts(example, "en")
        if verdict(example, "en", flawed) == "wrong":
            assert sorted(right.split()) == sorted(flawed.split())
            assert sum(a != b for a, b in zip(right.split(), flawed.split(), strict=True)) == 2
            assert all(translation(texts(example, lang)[1], lang, "en") == flawed for lang in LANGUAGES if lang != "en")


def test_neither_length_nor_place_tells_which_answer_is_right() -> None:
    """The better of "longer" and "shorter" is right in at most 60%, ties counting half; the first of two in half."""
    examples = preferences("test", 250, 0)
    for lang in LANGUAGES:
        gaps = [len(right) - len(flawed) for right, flawed in (texts(example, lang) for example in examples)]
        longer = sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / 250
        assert 0.4 <= longer <= 0.6
        first = sum(pair["chosen"].endswith("/0") for e in examples for pair in e["pairs"] if pair["lang"] == lang)
        assert first / 250 == pytest.approx(0.5, abs=0.126)  # four standard errors, √(.25 / 250) each


@given(n=st.integers(1, 40), langs=st.lists(st.sampled_from(LANGUAGES), unique=True, min_size=1))
def test_fewer_examples_or_languages_are_a_part_of_more(n: int, langs: list[str]) -> None:
    for part, whole in zip(preferences("train", n, 3, langs=langs), preferences("train", 40, 3), strict=False):
        assert list(part["prompts"]) == langs
        for lang in langs:
            assert texts(part, lang) == texts(whole, lang)


def test_seeds_differ_and_splits_share_no_prompt() -> None:
    one, two = preferences("train", 1000, 1), preferences("train", 1000, 2)
    common = {e["id"]: e for e in one}.keys() & {e["id"] for e in two}
    pick = {e["id"]: e for e in two}
    assert any(e["candidates"] != pick[e["id"]]["candidates"] for e in one if e["id"] in common)
    assert not {e["id"] for e in one} & {e["id"] for e in preferences("test", 250, 2)}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("dev", 1, 0), {}, "'train' or 'test'"),
        (("train", 10**6, 0), {}, "were asked for"),
        (("train", 1, 0), {"noise": 1.5}, "between 0 and 1"),
        (("train", 1, 0), {"langs": ("en", "ja")}, "does not speak 'ja'"),
    ],
)
def test_what_the_sandbox_has_not_is_refused(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preferences(*arguments, **options)
