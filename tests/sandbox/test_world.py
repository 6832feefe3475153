"""The world: what its prompts, answers and supervised rows are like."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from polypref.sandbox.world import (
    ANSWER_SHARES,
    KINDS,
    LANGUAGES,
    PREFIXED_SHARE,
    SFT_SHARES,
    SUMMARY,
    TASKS,
    TRANSLATION_SHARE,
    answer,
    prompts,
    refusal,
    sft_rows,
    translation,
)


def texts(examples: list[dict]) -> set[str]:
    return {text for example in examples for text in example["prompts"].values()}


def test_an_example_is_one_content_in_every_language() -> None:
    example = next(e for e in prompts("train", 20, 0) if e["category"] == "repeat")
    items = example["id"].split("-")[1:]
    assert set(example) == {"id", "prompts", "category", "gold", "candidates", "pairs"}
    assert set(example["prompts"]) == set(LANGUAGES)
    assert example["prompts"]["en"] == "Repeat " + " ".join(items)
    assert example["prompts"]["sw"].startswith("Rudia ")
    assert example["gold"] == " ".join(items)
    assert example["candidates"] == example["pairs"] == []


@pytest.mark.parametrize(
    ("gold", "lang", "expected"),
    [
        ("3 5 7", "en", "three then five then seven"),
        ("3 5 7", "es", "tres luego cinco luego siete"),
        ("7 5 3", "de", "sieben dann fünf dann drei"),
        ("9 0 1", "fr", "neuf puis zéro puis un"),
        ("dog red egg", "sw", "mbwa kisha nyekundu kisha yai"),
    ],
)
def test_answers_are_in_words(gold: str, lang: str, expected: str) -> None:
    assert answer({"gold": gold}, lang) == expected


def test_gold_solves_the_task() -> None:
    for example in prompts("train", 600, 3):
        name, *items = example["id"].split("-")
        solutions = {
            "sort": sorted(items),
            "descend": sorted(items)[::-1],
            "repeat": items,
            "reverse": items[::-1],
        }
        assert example["category"] == name
        assert example["gold"].split() == solutions[name]


def test_no_prompt_is_in_both_splits_whatever_the_seeds() -> None:
    train, test = prompts("train", 3200, 1), prompts("test", 750, 2)
    assert not texts(train) & texts(test)
    assert not {e["id"] for e in train} & {e["id"] for e in test}


def test_sft_never_shows_a_test_prompt() -> None:
    seen = {row["prompt"].split(". ")[-1] for row in sft_rows(20_000, 0)}
    assert not seen & texts(prompts("test", 750, 0))


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    large = prompts("train", 900, 5)
    assert prompts("train", 100, 5) == large[:100]
    assert len({e["id"] for e in large}) == 900
    assert {e["category"] for e in large[:4]} == set(TASKS) == set(KINDS) - {SUMMARY}


def test_an_id_means_the_same_prompt_under_every_seed() -> None:
    one, two = ({e["id"]: e for e in prompts("test", 700, seed)} for seed in (0, 1))
    assert list(one) != list(two)
    common = set(one) & set(two)
    assert len(common) > 300
    assert all(one[name] == two[name] for name in common)


def test_asking_for_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="were asked for"):
        prompts("test", 10**6, 0)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        prompts("dev", 1, 0)


def test_sft_rows_have_their_declared_shares() -> None:
    """Of some 16,000 answers a share's standard error is at most .5 / √16000 = .004; of 4,000 translations, .008.

    Four of them are allowed.
    """
    rows = sft_rows(20_000, 0)
    answers = [row for row in rows if row["task"] != "translate"]
    assert len(answers) / len(rows) == pytest.approx(1 - TRANSLATION_SHARE, abs=0.014)
    for key, shares in (("language", SFT_SHARES), ("answer", ANSWER_SHARES)):
        counts = Counter(row[key] for row in answers)
        assert {name: counts[name] / len(answers) for name in shares} == pytest.approx(shares, abs=0.016)
    assert {row["task"] for row in answers} == set(TASKS)
    other = [row for row in answers if row["language"] != "en"]
    prefixed = [row for row in other if row["prompt"].startswith("Answer in ")]
    assert len(prefixed) / len(other) == pytest.approx(PREFIXED_SHARE, abs=0.032)


def test_translations_go_both_ways_and_by_the_languages_shares() -> None:
    rows = [row["prompt"].split() for row in sft_rows(20_000, 0) if row["task"] == "translate"]
    ways = Counter((words[1], words[3]) for words in rows)  # Translate English into Spanish …
    others = {"Spanish": 0.12 / 0.30, "German": 0.08 / 0.30, "French": 0.06 / 0.30, "Swahili": 0.04 / 0.30}
    assert set(ways) == {way for name in others for way in (("English", name), (name, "English"))}
    for name, share in others.items():
        for way in (("English", name), (name, "English")):
            assert ways[way] / len(rows) == pytest.approx(share / 2, abs=0.026)


def test_fewer_supervised_rows_and_nothing_else_make_a_language_weak() -> None:
    """Every language has the same shares of answers; of the 640 Swahili ones the standard error is at most .02."""
    answers = [row for row in sft_rows(20_000, 0) if row["task"] != "translate"]
    for lang in LANGUAGES:
        own = Counter(row["answer"] for row in answers if row["language"] == lang)
        assert {kind: own[kind] / own.total() for kind in ANSWER_SHARES} == pytest.approx(ANSWER_SHARES, abs=0.08)


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        ("three then five then seven", "en", "es", "tres luego cinco luego siete"),
        ("siete luego cinco luego siete", "es", "en", "seven then five then seven"),
        ("Hund dann weiß dann Ei", "de", "en", "dog then white then egg"),
        ("six then zero then one", "en", "fr", "six puis zéro puis un"),
        ("supu kisha paka kisha nyekundu", "sw", "en", "soup then cat then red"),
        ("mbili", "sw", "de", "zwei"),
        ("I do not know", "en", "sw", "Mimi sijui"),
        ("Je ne sais pas", "fr", "en", "I do not know"),
    ],
)
def test_a_translation_goes_word_by_word(text: str, source: str, target: str, expected: str) -> None:
    assert translation(text, source, target) == expected
    assert translation(expected, target, source) == text


@pytest.mark.parametrize("text", ["three then fünf", "tres luego cinco", "", "three, five"])
def test_what_is_no_answer_has_no_translation(text: str) -> None:
    with pytest.raises(ValueError, match="is no answer in en"):
        translation(text, "en", "de")


def test_translation_rows_translate_what_they_show() -> None:
    tags = {"English": "en", "Spanish": "es", "German": "de", "French": "fr", "Swahili": "sw"}
    texts_seen = set()
    for row in sft_rows(5000, 0):
        if row["task"] == "translate":
            asked = re.fullmatch(r"Translate (\w+) into (\w+) <sentence>(.*)</sentence>", row["prompt"])
            given = re.fullmatch(r"<translated>(.*)</translated>", row["completion"])
            assert asked, row
            assert given, row
            source, target = tags[asked[1]], tags[asked[2]]
            assert given[1] == translation(asked[3], source, target)
            assert row["language"] == target
            texts_seen.add(asked[3])
    assert {refusal(lang) for lang in LANGUAGES} <= texts_seen
    assert len(texts_seen) > 600


def test_sft_rows_depend_on_the_seed_alone() -> None:
    assert sft_rows(50, 7) == sft_rows(50, 7)
    assert sft_rows(50, 7) != sft_rows(50, 8)


def test_world_and_oracle_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\n"
        "from polypref.sandbox import model, oracle, settings, summaries, world\n"
        "assert not {'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
