"""The imbalance rule: four answers in, a target and a pivot pair out, or neither."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, Pair
from polypref.stages.imbalance import ImbalanceOptions, check_listed, imbalance

CONTEXT = Context(open=lambda role, spec: FakeLanguageIdentifier(), languages=("en", "fr", "es"))


def world(*targets: str, without: tuple[str, ...] = (), **changes: dict[str, Any]) -> Example:
    """The model's answer in English and in each target, and its translations of each into the other."""
    candidates = [Candidate("en", "en", "hello", "sampled")]
    for lang in targets:
        candidates += [
            Candidate(lang, lang, f"own {lang}", "sampled"),
            Candidate(f"en>{lang}", lang, f"hello in {lang}", "translated", "en"),
            Candidate(f"{lang}>en", "en", f"own {lang} in English", "translated", lang),
        ]
    for name, change in changes.items():
        found = next(c for c in candidates if c.id == name.replace("_to_", ">"))
        for key, value in change.items():
            setattr(found, key, value)
    prompts = {lang: [{"role": "user", "content": "?"}] for lang in ("en", *targets)}
    return Example("x", prompts, [c for c in candidates if c.id not in without])


def paired(given: Example, **values: Any) -> Example:
    return next(imbalance([given], ImbalanceOptions.model_validate(values), CONTEXT))


def test_target_and_pivot_pair() -> None:
    """(x^ℓ: y^{en→ℓ} over y^ℓ) and (x^en: y^en over y^{ℓ→en})."""
    found = paired(world("fr"))
    assert found.pairs == [
        Pair("fr", "en>fr", "fr", rule="imbalance"),
        Pair("en", "en", "fr>en", rule="imbalance"),
    ]
    assert found.dropped == []


def test_all_pivot_pairs_or_the_last_languages() -> None:
    given = world("fr", "es")
    assert [p.rejected for p in paired(given).pairs if p.lang == "en"] == ["fr>en", "es>en"]
    assert [p.rejected for p in paired(given, pivot_pairs="one").pairs if p.lang == "en"] == ["es>en"]


def test_a_prompt_about_translation_keeps_the_answer_untranslated() -> None:
    assert paired(world("fr"), translation_prompts=["x"]).pairs == [
        Pair("fr", "en", "fr", rule="imbalance"),
        Pair("en", "en", "fr>en", rule="imbalance"),
    ]


def test_prompts_that_ask_for_a_translation_count_when_they_are_to_be_detected() -> None:
    given = [world("fr"), world("fr"), world("fr")]
    for number, (example, text) in enumerate(zip(given, ["Hi", "Translate into German: Hi", "Hi"], strict=True)):
        example.id = str(number)
        example.prompts["en"] = [{"role": "user", "content": text}]

    def chosen(**values: Any) -> tuple[list[str], dict[str, int]]:
        found: Counter[str] = Counter()
        done = imbalance(given, ImbalanceOptions.model_validate(values), CONTEXT, found)
        return [e.pairs[0].chosen for e in done], dict(found)

    assert chosen() == (["en>fr"] * 3, {})
    assert chosen(detect_translation_prompts=True) == (["en>fr", "en", "en>fr"], {"detector": 1})
    assert chosen(detect_translation_prompts=True, translation_prompts=["1", "2"]) == (
        ["en>fr", "en", "en"],
        {"list": 2},
    )


def told(listed: list[str], known: set[str]) -> list[str]:
    said: list[str] = []
    check_listed(listed, known, "ids.json", said.append)
    return said


def test_listed_ids_that_no_example_has_are_told_with_their_number() -> None:
    assert told(["a", "b"], {"a", "b", "c"}) == told([], {"a"}) == []
    assert told(["a", "x", "y", "z", "w", "x"], {"a", "b"}) == [
        "4 of 5 ids of ids.json are in no example, e.g. 'x', 'y', 'z'; the others count"
    ]


@pytest.mark.parametrize(
    ("listed", "known", "fix"),
    [
        (["17"], {"alpagasus-17"}, "did you mean 'alpagasus-17'? Write the ids as the examples have them"),
        (["alpagasus-17"], {"17"}, "did you mean '17'? Write"),
        (["alpagasus-017"], {"alpagasus-17"}, "did you mean 'alpagasus-17'? Write"),
        (["A "], {"a"}, "did you mean 'a'? Write"),
        (["17"], {"x-18"}, "the examples have ids such as 'x-18': name another list, or leave it out"),
    ],
)
def test_a_list_of_which_no_id_is_known_is_refused_with_the_fix(listed: list[str], known: set[str], fix: str) -> None:
    with pytest.raises(InputError) as error:
        told(listed, known)
    begin = f"none of the 1 ids of ids.json is in any example, e.g. {listed[0]!r}; "
    assert str(error.value).startswith(begin + fix)


@pytest.mark.parametrize("failed", ["en_to_fr", "fr_to_en"])
def test_a_failure_in_either_direction_drops_both_pairs_of_that_language_alone(failed: str) -> None:
    found = paired(world("fr", "es", **{failed: {"error": "no closing tag", "text": ""}}))
    assert [(p.lang, p.rejected) for p in found.pairs] == [("es", "es"), ("en", "es>en")]
    name = failed.replace("_to_", ">")
    assert found.dropped == [Drop("pair", "translation_failed", tag, name) for tag in ("fr", "en")]


@pytest.mark.parametrize(
    ("change", "reason", "candidate"),
    [
        ({"fr": {"error": "timeout"}}, "failed", "fr"),
        ({"en": {"finish_reason": "length"}}, "truncated", "en"),
        ({"en_to_fr": {"finish_reason": "length"}}, "truncated", "en>fr"),
        ({"fr_to_en": {"text": " "}}, "empty", "fr>en"),
    ],
)
def test_an_unusable_answer_is_named_with_its_reason(change: dict[str, Any], reason: str, candidate: str) -> None:
    found = paired(world("fr", **change))
    assert found.pairs == []
    assert found.dropped == [Drop("pair", reason, tag, candidate) for tag in ("fr", "en")]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("en", "no_answer"), ("fr", "no_answer"), ("en>fr", "no_translation"), ("fr>en", "no_translation")],
)
def test_what_was_never_made_is_said(missing: str, reason: str) -> None:
    found = paired(world("fr", without=(missing,)))
    assert found.pairs == []
    assert found.dropped == [Drop("pair", reason, "fr"), Drop("pair", reason, "en")]


def test_a_second_try_stands_for_the_first() -> None:
    given = world("fr", en_to_fr={"error": "no closing tag"})
    given.candidates.append(Candidate("again", "fr", "bonjour", "translated", "en"))
    assert paired(given).pairs[0] == Pair("fr", "again", "fr", rule="imbalance")


def test_equal_texts_drop_their_own_pair() -> None:
    found = paired(world("fr", en_to_fr={"text": "own fr"}))
    assert [p.lang for p in found.pairs] == ["en"]
    assert found.dropped == [Drop("pair", "duplicate", "fr")]


def test_a_pivot_alone_says_why_it_has_no_pair() -> None:
    assert paired(world()).dropped == [Drop("pair", "no_target", "en")]


def test_earlier_pairs_are_replaced_and_the_given_example_is_left_alone() -> None:
    given = world("fr")
    given.pairs = [Pair("fr", "fr", "en>fr", rule="human")]
    given.dropped = [Drop("pair", "tied", "fr"), Drop("translate", "too_long", "de")]
    before = copy.deepcopy(given)
    found = paired(given)
    assert given == before
    assert [p.rule for p in found.pairs] == ["imbalance", "imbalance"]
    assert found.dropped == [Drop("translate", "too_long", "de")]


def test_the_pivot_may_be_another_language() -> None:
    given = world("fr")
    given.candidates = [
        Candidate("en", "en", "weak", "sampled"),
        Candidate("fr", "fr", "fort", "sampled"),
        Candidate("fr>en", "en", "strong", "translated", "fr"),
        Candidate("en>fr", "fr", "faible", "translated", "en"),
    ]
    assert [(p.lang, p.chosen, p.rejected) for p in paired(given, pivot="fr").pairs] == [
        ("en", "fr>en", "en"),
        ("fr", "fr", "en>fr"),
    ]


def test_the_language_check_is_off_unless_asked_for() -> None:
    given = world("fr", en_to_fr={"text": "[es] hola"})
    assert len(paired(given).pairs) == 2
    assert paired(given, language_check=True).dropped == [Drop("pair", "language", t, "en>fr") for t in ("fr", "en")]


def test_real_translations_of_which_78_failed(real_data: Path) -> None:
    """Llama-3-8B-Instruct's 1000 answers to Alpagasus prompts and its own translations: 78 lack the closing tag, and
    7 of the prompts that are left are about translation."""
    folder = real_data / "lidr"
    ids = tuple(json.loads((folder / "translation_instruction_ids.json").read_text()))
    examples = []
    for line in (folder / "llama3_8b_instruct_en_to_fr.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        failed = row["en2fr_reponse"] == "Translation Error"
        translation = {"error": "translation failed", "text": ""} if failed else {"text": row["en2fr_reponse"]}
        found = world("fr", en={"text": row["response"]}, en_to_fr=translation)
        found.id = row["id"]
        examples.append(found)
    done = list(imbalance(examples, ImbalanceOptions(translation_prompts=ids), CONTEXT))
    target = [p for e in done for p in e.pairs if p.lang == "fr"]
    assert len(target) == len([p for e in done for p in e.pairs if p.lang == "en"]) == 922
    assert sum(p.chosen == "en" for p in target) == 7
    assert sum(not e.pairs and e.dropped != [] for e in done) == 78
