"""The oracle: right in the right language is 1, everything else is 0 and has a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.sandbox.lexicon import LANGUAGES, REFUSALS
from polypref.sandbox.oracle import language_of, quality, verdict
from polypref.sandbox.world import answer, prompts, sft_rows

EXAMPLES = prompts("train", 2000, 0) + prompts("test", 750, 0)
LANGS = st.sampled_from(LANGUAGES)
SORT = {"gold": "3 5 7"}
WORDS = {"gold": "dog red egg"}


@pytest.mark.parametrize(
    ("example", "lang", "text", "expected"),
    [
        (SORT, "en", "three then five then seven", "right"),
        (SORT, "en", "  Three then five,\nthen SEVEN. ", "right"),
        (SORT, "en", "three then seven then five", "wrong"),
        (SORT, "en", "three then five", "wrong"),
        (SORT, "en", "three then five then seven then nine", "wrong"),
        (SORT, "en", "3 then 5 then 7", "wrong"),
        (SORT, "en", "3 5 7", "wrong"),
        (SORT, "en", "lorem ipsum", "wrong"),
        (SORT, "en", "I do not know", "refusal"),
        (SORT, "en", "tres luego cinco luego siete", "language"),
        (SORT, "en", "Je ne sais pas", "language"),
        (SORT, "en", "", "empty"),
        (SORT, "en", " .\n", "empty"),
        (SORT, "es", "tres luego cinco luego siete", "right"),
        (SORT, "es", "tres then cinco then siete", "wrong"),
        (SORT, "es", "Eso no lo sé.", "refusal"),
        (SORT, "es", "three then five then seven", "language"),
        (SORT, "de", "drei dann fu\u0308nf dann sieben", "right"),
        (SORT, "de", "Ich weiß es nicht", "refusal"),
        (SORT, "fr", "trois puis cinq puis sept", "right"),
        (SORT, "fr", "je ne sais pas", "refusal"),
        (SORT, "sw", "tatu kisha tano kisha saba", "right"),
        (SORT, "sw", "Mimi sijui", "refusal"),
        (WORDS, "de", "Hund dann rot dann Ei", "right"),
        (WORDS, "de", "HUND DANN ROT DANN EI", "right"),
        (WORDS, "de", "rot dann Hund dann Ei", "wrong"),
        (WORDS, "fr", "chien puis rouge puis œuf", "right"),
        (WORDS, "sw", "dog then red then egg", "language"),
    ],
)
def test_verdicts(example: dict[str, str], lang: str, text: str, expected: str) -> None:
    assert verdict(example, lang, text) == expected
    assert quality(example, lang, text) == (1.0 if expected == "right" else 0.0)


@given(st.sampled_from(EXAMPLES), LANGS, LANGS)
def test_a_right_answer_is_right_in_its_language_alone(example: dict, spoken: str, asked: str) -> None:
    text = answer(example, spoken)
    assert language_of(text) == spoken
    assert verdict(example, asked, text) == ("right" if spoken == asked else "language")


@given(LANGS)
def test_a_refusal_belongs_to_its_language(lang: str) -> None:
    assert language_of(REFUSALS[lang]) == lang


@given(st.sampled_from(EXAMPLES), LANGS, st.text())
def test_any_text_gets_a_verdict(example: dict, lang: str, text: str) -> None:
    assert verdict(example, lang, text) in {"right", "wrong", "refusal", "language", "empty"}


def test_the_oracle_agrees_with_what_the_sft_rows_say_of_themselves() -> None:
    golds = {text: e["gold"] for e in prompts("train", 3200, 0) for text in e["prompts"].values()}
    checked = 0
    for row in sft_rows(2500, 0):
        gold = golds.get(row["prompt"].removeprefix("Answer in ").split(". ")[-1])
        if gold is not None:
            assert verdict({"gold": gold}, row["language"], row["completion"]) == row["answer"], row
            checked += 1
    assert checked > 1500


def test_language_of_what_is_no_answer_is_none() -> None:
    assert language_of("") is None
    assert language_of("7") is None
    assert language_of("six") is None  # English and French
