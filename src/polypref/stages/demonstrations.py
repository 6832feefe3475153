"""Which answers of an example show how it is done: the rows of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from polypref.errors import InputError
from polypref.records import Candidate, Example, live
from polypref.stages.carry_over import STAGE as CARRIED
from polypref.stages.evaluate import LABELS

By = Literal["answers", "chosen"]
"""Who demonstrates: answers in their own right, or the chosen ones of pairs."""


def demonstrations(examples: Iterable[Example], by: By = "answers") -> list[Example]:
    """The examples with their demonstrations alone, each labelled True; those without any are left out.

    Of ``answers``: in each language those with a label above ½, or where none has a label, those that were not sampled.
    A language with pairs has labelled ones alone, since the others are the pairs'. What a back-translation replaced
    does not demonstrate, nor does a translation on the way to another one, or one without a prompt. Of ``chosen``: the
    chosen answer of each pair, once. Failed and blank answers never demonstrate.

    Raises:
        InputError: none demonstrates; an answer has no prompt in its language, or a label that cannot be read.
    """
    examples = list(examples)
    find = _answers if by == "answers" else _chosen
    found = [replace(example, candidates=shown, pairs=[]) for example in examples if (shown := list(find(example)))]
    if not found:
        raise InputError(_none(examples, by))
    return found


def _answers(example: Example) -> Iterator[Candidate]:
    paired = {pair.lang for pair in example.pairs}
    own = [c for c in example.candidates if live(c) and c.text.strip()]
    labelled = {c.lang for c in own if c.label is not None}
    passed = {d.candidate for d in example.dropped if d.stage == CARRIED}  # replaced by its back-translation
    passed |= {c.parent for c in example.candidates if c.origin == "translated"} & {
        c.id for c in own if c.origin == "translated"
    }
    for candidate in own:
        if candidate.id in passed or (candidate.origin == "translated" and candidate.lang not in example.prompts):
            continue
        if candidate.lang in labelled:
            shows = candidate.label is not None and _good(example, candidate)
        else:
            shows = candidate.origin != "sampled" and candidate.lang not in paired
        if shows:
            yield _shown(example, candidate, candidate.lang)


def _chosen(example: Example) -> Iterator[Candidate]:
    seen = set()
    for pair in example.pairs:
        candidate = example.candidate(pair.chosen)
        if (pair.lang, pair.chosen) not in seen and live(candidate) and candidate.text.strip():
            seen.add((pair.lang, pair.chosen))
            yield _shown(example, candidate, pair.lang)


def _shown(example: Example, candidate: Candidate, lang: str) -> Candidate:
    """The answer under the prompt in ``lang``; one that stands under several prompts has an id under each."""
    if lang not in example.prompts:
        raise InputError(f"example {example.id!r} has answers in {lang} but no prompt in it; add the prompt")
    name = candidate.id if candidate.lang == lang else f"{candidate.id} in {lang}"
    return replace(candidate, id=name, lang=lang, parent=None, label=True)


def _good(example: Example, candidate: Candidate) -> bool:
    label = candidate.label
    value = LABELS.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"the label of {candidate.id!r} of example {example.id!r} is {label!r}; write true or false, a number from "
            f"0 to 1, or one of {', '.join(LABELS)}"
        )
    return value > 0.5


def _none(examples: list[Example], by: By) -> str:
    if by == "chosen":
        return "the data has no pair whose chosen answer could be learned from; give pairs, or set by to answers"
    if any(example.pairs for example in examples):
        return (
            "the data has pairs but no answer that demonstrates alone; set by to chosen to learn from the chosen ones"
        )
    return (
        "the data has no answer to learn from: none that is labelled good, and none without a label that was not "
        "sampled; give prompts with their answers"
    )
