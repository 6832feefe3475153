"""MT-Bench: its questions and answers, of several languages, in FastChat's layout.

Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (arXiv 2306.05685): questions of two turns
in eight categories; a judge gives the answer of each turn a number from 1 to 10, shown the turns before it, and for
categories with one right answer a reference.

    {"question_id": 101, "category": "reasoning", "turns": ["…", "…"], "reference": ["…", "…"]}
    {"question_id": 101, "model_id": "icr-1", "choices": [{"index": 0, "turns": ["…", "…"]}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from polypref import languages
from polypref.errors import InputError
from polypref.records import dumps
from polypref.stages.prompt_files import find_sources
from polypref.store.atomic import replacing

TEMPERATURES: Final[Mapping[str, float]] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""At what temperature a category is answered, as FastChat's scripts have it."""
OTHER_TEMPERATURE: Final = 0.7
REFERENCED: Final = ("math", "coding", "reasoning")
"""The categories whose answers are graded beside a reference."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question in one language. ``id`` is the same in all of them: the cluster of every standard error.

    ``reference`` holds a right answer to each turn, empty where there is none.
    """

    id: str
    language: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's answers to a question, turn by turn; one that failed is None, with ``error`` saying why."""

    id: str
    language: str
    model: str
    turns: tuple[str | None, ...]
    error: str | None = None


Answers = dict[tuple[str, str], Answered]
"""(question id, language) → its answers."""


def read_questions(path: str, language: str = "en") -> list[Question]:
    """The questions of a file, a folder with a file a language, or a path with ``{language}``, in the files' order.

    Args:
        language: of a single file whose rows and name tell none.

    Raises:
        InputError: a row is wrong, a question stands twice in a language, or its category or number of turns differs
            between languages.
    """
    found: dict[tuple[str, str], Question] = {}
    first: dict[str, Question] = {}
    for where, row, tag in _rows(path, (), language):
        question = _question(row, tag, where)
        if (question.id, tag) in found:
            raise InputError(f"{where}: question_id {question.id} stands twice in {tag}")
        other = first.setdefault(question.id, question)
        if (other.category, len(other.turns)) != (question.category, len(question.turns)):
            raise InputError(
                f"{where}: question_id {question.id} is {question.category} with {len(question.turns)} turns here "
                f"and {other.category} with {len(other.turns)} in {other.language}; parallel questions must agree"
            )
        found[question.id, tag] = question
    if not found:
        raise InputError(f"{path} is empty: it holds no question; give question.jsonl as MT-Bench has it")
    return list(found.values())


def with_references(questions: Sequence[Question], path: str) -> list[Question]:
    """The questions with the references of files in the layout of answers, where they have none of their own.

    Raises:
        InputError: as ``read_answers``, or a reference has not a text for each turn.
    """
    given = read_answers(path, "reference", questions)
    out = []
    for question in questions:
        answered = given.get((question.id, question.language))
        if answered is not None and not question.reference:
            texts = tuple(text for text in answered.turns if text is not None)
            if len(texts) != len(question.turns):
                raise InputError(
                    f"{path}: the reference of question_id {question.id} in {question.language} has {len(texts)} texts "
                    f"and the question {len(question.turns)} turns; give one a turn"
                )
            question = replace(question, reference=texts)
        out.append(question)
    return out


def read_answers(path: str, model: str, questions: Sequence[Question]) -> Answers:
    """A model's answers, from a path like that of the questions; of several choices the first counts.

    Raises:
        InputError: a row is wrong, or a question is answered twice in a language.
    """
    spoken = list(dict.fromkeys(question.language for question in questions))
    found: Answers = {}
    for where, row, tag in _rows(path, spoken, spoken[0] if len(spoken) == 1 else None):
        identity = _id(row, where)
        if (identity, tag) in found:
            raise InputError(f"{where}: question_id {identity} is answered twice in {tag}")
        error = row.get("error")
        found[identity, tag] = Answered(
            identity, tag, model, _answer_turns(row, where), None if error is None else str(error)
        )
    return found


def missing(questions: Sequence[Question], answers: Answers, model: str) -> list[str]:
    """What is left unanswered, a sentence a language."""
    lacking: dict[str, list[str]] = {}
    for question in questions:
        if (question.id, question.language) not in answers:
            lacking.setdefault(question.language, []).append(question.id)
    return [
        f"{model} has no answer to {len(ids)} questions in {language} (first: {ids[0]})"
        for language, ids in lacking.items()
    ]


def write_answers(path: Path, answers: Iterable[Answered]) -> None:
    """Write answers of one language in FastChat's layout, at once."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for answered in answers:
            row: dict[str, Any] = {
                "question_id": int(answered.id) if answered.id.isdecimal() else answered.id,
                "model_id": answered.model,
                "language": answered.language,
                "choices": [{"index": 0, "turns": list(answered.turns)}],
            }
            file.write(dumps(row if answered.error is None else row | {"error": answered.error}) + "\n")


def _rows(path: str, spoken: Sequence[str], otherwise: str | None) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(``file:line``, row, language) of every row.

    The name of a single file tells its language only where it is one of ``spoken``, or nothing else in the name
    (``mt_bench.jsonl`` is not in Maltese).
    """
    sources, _ = find_sources(path.replace("{language}", "{lang}"), None)
    alone = len(sources) == 1 and "{lang" not in path
    for source in sources:
        told = source.lang
        if alone and told not in spoken and source.name.split(".")[0] != told:
            told = None
        for where, row in source.open():
            yield where, row, _language(row, told, otherwise, where)


def _question(row: Mapping[str, Any], language: str, where: str) -> Question:
    turns = _texts(row.get("turns"), "turns", where)
    if not turns:
        raise InputError(f"{where}: turns is empty; a question has at least one turn")
    reference = _texts(row.get("reference") or [], "reference", where)
    if reference and len(reference) != len(turns):
        raise InputError(f"{where}: reference has {len(reference)} texts and turns {len(turns)}; give one a turn")
    category = row.get("category")
    if not isinstance(category, str) or not category:
        raise InputError(f"{where}: category is {category!r}; it must be a name such as writing")
    return Question(_id(row, where), language, category, turns, reference)


def _id(row: Mapping[str, Any], where: str) -> str:
    found = row.get("question_id")
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        raise InputError(f"{where}: question_id is {found!r}; it must be a number or a text")
    return str(found)


def _language(row: Mapping[str, Any], of_file: str | None, otherwise: str | None, where: str) -> str:
    """The row's own language, which must be its file's; else the file's, else what is said for rows that tell none."""
    told = row.get("language")
    if told is None:
        if found := of_file or otherwise:
            return found
        raise InputError(f"{where}: nothing tells the language; name it in the row, or give a file a language")
    try:
        tag = languages.normalise(str(told))
    except InputError as error:
        raise InputError(f"{where}: language: {error}") from None
    if of_file not in (None, tag):
        raise InputError(f"{where}: language is {told!r}, but the file's name says {of_file}; mend one of the two")
    return tag


def _texts(value: Any, field: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{where}: {field} is {value!r:.40}; it must be a list of texts")
    return tuple(value)


def _answer_turns(row: Mapping[str, Any], where: str) -> tuple[str | None, ...]:
    choices = row.get("choices")
    turns = choices[0].get("turns") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if not isinstance(turns, list) or not all(text is None or isinstance(text, str) for text in turns):
        raise InputError(f'{where}: choices must be [{{"turns": ["…", "…"]}}], the answers turn by turn')
    return tuple(turns)
