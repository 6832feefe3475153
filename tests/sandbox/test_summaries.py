"""Summaries of the sandbox: what is asked, which answers there are, and what their labels say."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.records import parse_example, to_json
from polypref.sandbox.lexicon import CONNECTIVES, LANGUAGES, NUMBERS, REFUSALS
from polypref.sandbox.oracle import verdict
from polypref.sandbox.preferences import NOISE
from polypref.sandbox.summaries import OBJECTIVES, labels, summaries
from polypref.sandbox.world import SUMMARY, TASKS, answer, prompts, sft_rows, translation
from polypref.stages.prompt_objectives import objective


def candidates(example: dict, lang: str) -> list[dict]:
    return [c for c in example["candidates"] if c["lang"] == lang]


def numbers(text: str, lang: str) -> list[str]:
    """The numbers that an answer says, none where it is no answer in the language."""
    said = text.split(CONNECTIVES[lang])
    return said if set(said) <= set(NUMBERS[lang]) else []


def kind(label: dict) -> tuple[bool, bool]:
    return label["faithful"], label["concise"]


def test_a_summary_names_each_number_of_its_text_once_and_in_ascending_order() -> None:
    for example in prompts("train", 300, 0, tasks=(SUMMARY,)):
        name, *symbols = example["id"].split("-")
        assert (name, example["category"], len(symbols)) == (SUMMARY, SUMMARY, 4)
        assert example["prompts"]["en"] == f"Summarise {' '.join(symbols)}"
        assert example["prompts"]["de"] == f"Fasse {' '.join(symbols)} zusammen"
        assert example["gold"].split() == sorted(set(symbols))


@pytest.mark.parametrize(
    ("text", "right", "faithful", "concise"),
    [
        ("three then five then seven", True, True, True),
        ("Three, five, seven.", False, True, True),  # the oracle asks for the connective
        ("seven then three then five", False, True, True),
        ("three then five then seven then three", False, True, False),
        ("three then five", False, False, True),
        ("three then five then eight", False, False, True),
        ("three then five then seven then eight", False, False, True),
        ("three then three then five", False, False, False),
        ("tres luego cinco luego siete", False, False, False),
        ("six puis sept", False, False, False),  # six is a number of both, but not here
        ("I do not know", False, False, False),
        ("", False, False, False),
    ],
)
def test_labels_are_what_the_objectives_say(text: str, right: bool, faithful: bool, concise: bool) -> None:
    """Of a text such as 7 3 7 5."""
    found = labels({"gold": "3 5 7"}, "en", text)
    assert found == {"right": right, "faithful": faithful, "concise": concise}
    assert tuple(found) == OBJECTIVES


def test_what_is_right_is_faithful_and_concise_in_every_language() -> None:
    for example in prompts("test", 100, 0, tasks=(SUMMARY,)):
        for lang in LANGUAGES:
            assert labels(example, lang, answer(example, lang)) == dict.fromkeys(OBJECTIVES, True)
            assert not any(labels(example, lang, REFUSALS[lang]).values())


def test_a_fifth_of_the_contents_are_refused_once_in_every_language() -> None:
    """Of 900 contents a share's standard error is .013; four of them are allowed."""
    refused = 0
    for row in summaries("train", 900, 0):
        counts = {sum(c["text"] == REFUSALS[lang] for c in candidates(row, lang)) for lang in LANGUAGES}
        assert counts in ({0}, {1})
        refused += counts == {1}
    assert refused / 900 == pytest.approx(0.2, abs=0.053)


def test_an_example_has_one_answer_of_each_kind_in_every_language() -> None:
    for row in summaries("test", 100, 0):
        example = parse_example(row)
        assert parse_example(to_json(example)) == example
        for lang in LANGUAGES:
            own = candidates(row, lang)
            assert Counter(kind(c["label"]) for c in own) == dict.fromkeys(
                [(True, True), (True, False), (False, True), (False, False)], 1
            )
            assert all(c["label"] == labels(row, lang, c["text"]) for c in own)
            assert all(c["label"]["right"] == (verdict(row, lang, c["text"]) == "right") for c in own)
            own, english = (
                [c["text"] for c in candidates(row, tag) if numbers(c["text"], tag)] for tag in (lang, "en")
            )
            assert len(own) >= 3
            assert lang == "en" or Counter(translation(text, lang, "en") for text in own) == Counter(english)


def test_length_and_order_tell_little_of_what_is_faithful() -> None:
    """By the best rule for each clue, over 800 answers; by chance it would be a half, with a standard error of .018.
    Refusals and answers of one number are never faithful, and what says a number twice is longer by it."""
    rows = summaries("test", 200, 0)
    seen: dict[str, dict[object, Counter[bool]]] = {}
    for row in rows:
        for c in candidates(row, "en"):
            said = numbers(c["text"], "en")
            places = [NUMBERS["en"].index(word) for word in said]
            clues = {"length": len(said), "order": places == sorted(places)}
            for name in ("faithful", "concise"):
                for clue, value in clues.items():
                    seen.setdefault(f"{name} by {clue}", {}).setdefault(value, Counter())[c["label"][name]] += 1
    best = {what: sum(max(counts.values()) for counts in by.values()) / 800 for what, by in seen.items()}
    assert max(best["faithful by order"], best["concise by order"]) < 0.6
    assert best["faithful by length"] < 0.65
    assert best["concise by length"] < 0.8


def test_annotators_err_at_the_rate_that_is_given() -> None:
    """Of 1600 labels of an objective at .2 the standard error is .01; four of them are allowed. Errors of a better
    annotator are among those of a worse one."""
    wrong: dict[float, set] = {}
    for noise in (0.1, 0.2):
        wrong[noise] = {
            (row["id"], c["id"], name)
            for row in summaries("train", 400, 0, noise=noise, langs=("en",))
            for c in row["candidates"]
            for name, value in c["label"].items()
            if value != labels(row, "en", c["text"])[name]
        }
    for name in OBJECTIVES:
        assert sum(one[2] == name for one in wrong[0.2]) / 1600 == pytest.approx(0.2, abs=0.04)
    assert wrong[0.1] < wrong[0.2]
    assert summaries("train", 20, 0) == summaries("train", 20, 0, noise=NOISE["train"])


def test_splits_share_no_text_and_sft_never_shows_a_test_text() -> None:
    train, test = ({e["id"]: e for e in summaries(split, n, 1)} for split, n in (("train", 1000), ("test", 200)))
    assert not set(train) & set(test)
    rows = sft_rows(20_000, 0, tasks=(*TASKS, SUMMARY))
    asked = {text for e in test.values() for text in e["prompts"].values()}
    assert not {row["prompt"].split(". ")[-1] for row in rows} & asked


def test_sft_shows_summaries_where_they_are_asked_for_and_says_which_are_right() -> None:
    rows = [row for row in sft_rows(4000, 0, tasks=("sort", SUMMARY)) if row["task"] == SUMMARY]
    assert 1300 < len(rows) < 1900  # half of the four fifths that are no translation
    shown = Counter()
    for row in rows:
        asked = {word for word in row["prompt"].split() if word.isdigit()}
        example = {"gold": " ".join(sorted(asked))}
        found = verdict(example, row["language"], row["completion"])
        assert found == row["answer"]
        if found == "wrong":
            shown[kind(labels(example, row["language"], row["completion"]))] += 1
    assert set(shown) == {(True, True), (True, False), (False, True)}  # out of order, repeated, another number
    assert all(row["task"] != SUMMARY for row in sft_rows(2000, 0))


def test_as_many_texts_of_each_length_of_the_summary() -> None:
    """Half each before the split: of 1000 a share's standard error is .016; four of them are allowed."""
    lengths = Counter(len(e["gold"].split()) for e in prompts("train", 1000, 0, tasks=(SUMMARY,)))
    assert set(lengths) == {2, 3}
    assert lengths[2] / 1000 == pytest.approx(0.5, abs=0.064)


@given(n=st.integers(1, 30), langs=st.lists(st.sampled_from(LANGUAGES), unique=True, min_size=1))
def test_fewer_examples_or_languages_are_a_part_of_more(n: int, langs: list[str]) -> None:
    for part, whole in zip(summaries("train", n, 3, langs=langs), summaries("train", 30, 3), strict=False):
        assert list(part["prompts"]) == langs
        assert all(candidates(part, lang) == candidates(whole, lang) for lang in langs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_becomes_the_label_and_pairs(name: str) -> None:
    """Of four answers two are faithful, two concise: four pairs."""
    examples = objective(map(parse_example, summaries("test", 20, 0)), name, pair_labels=True)
    for example, row in zip(examples, summaries("test", 20, 0), strict=True):
        assert [c.label for c in example.candidates] == [c["label"][name] for c in row["candidates"]]
        if name != "right":
            assert Counter(p.lang for p in example.pairs) == dict.fromkeys(LANGUAGES, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("dev", 1, 0), {}, "'train' or 'test'"),
        (("train", 10**6, 0), {}, "were asked for"),
        (("train", 1, 0), {"noise": -0.1}, "between 0 and 1"),
        (("train", 1, 0), {"langs": ("en", "ja")}, "does not speak 'ja'"),
    ],
)
def test_what_the_sandbox_has_not_is_refused(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summaries(*arguments, **options)
