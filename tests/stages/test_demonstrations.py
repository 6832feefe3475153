"""Which answers show how it is done."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, Pair
from polypref.stages.demonstrations import demonstrations

PROMPTS = {lang: [{"role": "user", "content": f"prompt in {lang}"}] for lang in ("en", "es")}


def example(*candidates: Candidate, **rest: Any) -> Example:
    return Example("1", PROMPTS, list(candidates), **rest)


def shown(given: Example, **by: Any) -> list[tuple[str, str]]:
    """(language, id) of what demonstrates."""
    found = demonstrations([given], **by)
    assert all(c.label is True and c.parent is None for e in found for c in e.candidates)
    assert all(not e.pairs for e in found)
    return [(c.lang, c.id) for e in found for c in e.candidates]


def test_answers_without_a_label_show_unless_they_were_sampled_failed_or_say_nothing() -> None:
    given = example(
        Candidate("human", "en", "x", origin="human"),
        Candidate("reference", "en", "x", origin="reference"),
        Candidate("unknown", "es", "x"),
        Candidate("sampled", "en", "x", origin="sampled"),
        Candidate("failed", "en", "x", origin="human", error="refused"),
        Candidate("blank", "en", " \n", origin="human"),
    )
    assert shown(given) == [("en", "human"), ("en", "reference"), ("es", "unknown")]


@pytest.mark.parametrize(
    ("label", "good"), [(True, 1), (False, 0), (1, 1), (0.5, 0), (0.51, 1), ("Good", 1), ("bad", 0)]
)
def test_labelled_answers_show_where_the_label_is_above_a_half(label: object, good: int) -> None:
    """Whoever wrote them; beside them, unlabelled answers in the language show nothing, in another they do."""
    given = example(
        Candidate("a", "en", "x", origin="sampled", label=label),
        Candidate("b", "en", "x", origin="human"),
        Candidate("c", "es", "x", origin="human"),
    )
    assert shown(given) == [("en", "a")] * good + [("es", "c")]


def test_a_label_that_cannot_be_read_is_refused() -> None:
    for label in ("fine", 2, float("nan")):
        with pytest.raises(InputError, match=r"label of 'a' of example '1' is"):
            demonstrations([example(Candidate("a", "en", "x", label=label))])


def test_answers_of_pairs_show_only_where_the_chosen_ones_are_asked_for() -> None:
    given = example(
        Candidate("a", "en", "x", origin="human"),
        Candidate("b", "en", "y", origin="human"),
        Candidate("c", "en", "z", origin="human"),
        Candidate("d", "en", "z", origin="human", error="refused"),
        pairs=[Pair("en", "a", "b"), Pair("en", "a", "c"), Pair("es", "a", "b"), Pair("en", "d", "b")],
    )
    with pytest.raises(InputError, match="set by to chosen"):
        demonstrations([given])
    assert shown(given, by="chosen") == [("en", "a"), ("es", "a in es")]


def test_chosen_answers_need_pairs() -> None:
    with pytest.raises(InputError, match=r"no pair whose chosen answer .* set by to answers"):
        demonstrations([example(Candidate("a", "en", "x"))], by="chosen")
    with pytest.raises(InputError, match="no answer to learn from"):
        demonstrations([example()])


def test_a_translation_on_the_way_to_another_one_shows_nothing_and_neither_does_what_was_replaced() -> None:
    """es → en → es: the first is replaced, the second is a step, the third is the demonstration."""
    given = example(
        Candidate("own", "es", "x", origin="human"),
        Candidate("there", "en", "x", origin="translated", parent="own"),
        Candidate("back", "es", "x", origin="translated", parent="there"),
        dropped=[Drop("translate_preferences", "replaced", "es", "own")],
    )
    assert shown(given) == [("es", "back")]
    # A translation of what has a prompt and a place of its own leaves that where it is.
    forward = example(
        Candidate("own", "en", "x", origin="human"), Candidate("there", "es", "x", origin="translated", parent="own")
    )
    assert shown(forward) == [("en", "own"), ("es", "there")]


def test_an_answer_without_a_prompt_is_refused_but_a_translation_without_one_is_none() -> None:
    alone = dataclasses.replace(example(Candidate("a", "es", "x")), prompts={"en": PROMPTS["en"]})
    with pytest.raises(InputError, match=r"example '1' has answers in es but no prompt in it"):
        demonstrations([alone])
    other = dataclasses.replace(
        alone, candidates=[Candidate("b", "en", "x"), Candidate("a", "es", "x", origin="translated", parent="b")]
    )
    assert shown(other) == [("en", "b")]


def test_what_shows_once_shows_again() -> None:
    given = [example(Candidate("a", "en", "x", origin="human"), Candidate("s", "es", "x", origin="sampled"))]
    once = demonstrations(given)
    assert demonstrations(once) == once


@pytest.mark.parametrize("back", [False, True])
def test_of_a_translated_set_the_translations_show(back: bool) -> None:
    """Translated by the stage itself: with back, Spanish is replaced and English has nothing of its own."""
    from polypref import registry
    from polypref.stages.translate_preferences import TranslatePreferencesOptions, translate_preferences

    source = "es" if back else "en"
    given = Example("1", {source: PROMPTS[source]}, [Candidate("own", source, "a b c", origin="human")])
    options = TranslatePreferencesOptions(
        languages=("es",),
        source="en",
        back=back,
        language_check=False,
        translator={"model": {"path": "fake", "backend": "fake"}},
    )
    context: Context = registry.context(("en", "es"), identifier="fake")[0]
    (done,) = translate_preferences([given], options, context)
    (found,) = demonstrations([done])
    texts = {c.id: c.text for c in done.candidates}
    last = done.candidates[-1]
    assert last.lang == "es"
    assert last.origin == "translated"
    assert [c.id for c in found.candidates] == ([last.id] if back else ["own", last.id])
    assert len(done.candidates) == (3 if back else 2)
    assert texts[last.id] == last.text
