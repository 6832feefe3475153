"""Numbers in real answers: what each answer says its result is was read by hand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

from polypref.maths.numbers import extract_number

STATED_BY_LLAMA = {
    23: "15",
    52: "3",
    71: "35",
    105: "1.57",
    206: "15",
    270: "5",
    272: "25.12",
    363: "29.70",
    406: "113.04",
    802: "314.16",
    839: "12",
    959: "4.02",
}
"""Row of Llama-3-8B-Instruct's English answers → the number that it ends with, as does its French translation."""

STATED_BY_GPT = {
    150: {
        "gpt-3.5-turbo-0125": "de 78 en 151 es 128 fr 136 ru 128",
        "gpt-4-turbo-2024-04-09": "de 70 en 133 es 120 fr 145 ru 120 sw 128",
        "gpt-4o-mini": "de 78 en 120 es 145 fr 145 ru 128",
    },
    269: {
        "gpt-3.5-turbo-0125": "de 23 en 23 es 23 fr 23 ru 23",
        "gpt-4-turbo-2024-04-09": "de 23 en 20 es 23 fr 23 ru 23 sw 20",
        "gpt-4o-mini": "de 23 en 23 es 23 fr 23 ru 23",
    },
    449: {
        "gpt-3.5-turbo-0125": "de 5 en 5 es 5 fr 5 ru 5",
        "gpt-4-turbo-2024-04-09": "de 12 en 7 es 7 fr 7 ru 5 sw 5",
        "gpt-4o-mini": "de 5 en 7 es 5 fr 5 ru 5",
    },
    794: {
        "gpt-3.5-turbo-0125": "de 10 en 10 es 10 fr 10 ru 10",
        "gpt-4-turbo-2024-04-09": "de 10 en 10 es 10 fr 10 ru 10 sw 10",
        "gpt-4o-mini": "de 10 en 10 es 10 fr 10 ru 10",
    },
}
"""X-AlpacaEval's questions of arithmetic, by id: what each answer says the result is, right or wrong, read by hand."""

MISREAD = {
    (269, "gpt-3.5-turbo-0125"): "es ru",
    (269, "gpt-4-turbo-2024-04-09"): "de en es fr ru sw",
    (269, "gpt-4o-mini"): "en es fr",
    (449, "gpt-4-turbo-2024-04-09"): "de",
}
"""Another number stands after the result and nothing announces the result: "… $23 when she is 22 years old"."""


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_number_that_a_real_answer_states_is_read(real_data: Path) -> None:
    """88 answers of four models in six languages, drawn without being told how to end: 76 are read as by hand."""
    right = wrong = 0
    answers = real_data / "lidr" / "llama3_8b_instruct_en_responses.jsonl"
    french = {
        row["id"]: row["en2fr_reponse"] for row in lines(real_data / "lidr" / "llama3_8b_instruct_en_to_fr.jsonl")
    }
    english = lines(answers)
    for index, stated in STATED_BY_LLAMA.items():
        assert extract_number(english[index]["response"], "en") == Fraction(stated)
        assert extract_number(french[english[index]["id"]], "fr") == Fraction(stated)
        right += 2
    for question, by_model in STATED_BY_GPT.items():
        for model, told in by_model.items():
            words = told.split()
            for lang, stated in zip(words[::2], words[1::2], strict=True):
                rows = lines(real_data / "responses" / "x_alpacaeval" / model / f"{lang}.jsonl")
                (text,) = [row["response"] for row in rows if row["id"] == question]
                misread = lang in MISREAD.get((question, model), "").split()
                assert (extract_number(text, lang) != Fraction(stated)) == misread, (question, model, lang)
                # Told to end with ####, the same answer is read rightly.
                assert extract_number(f"{text}\n#### {stated}", lang) == Fraction(stated)
                right, wrong = right + (not misread), wrong + misread
    assert (right, wrong) == (76, 12)
