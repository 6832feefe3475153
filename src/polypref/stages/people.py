"""Comparisons for people: drawn, blinded and shuffled for them; their verdicts put back to the models' names.

People see an item's prompt and two answers, A and B. Which is whose stands in a key that they are not given. Item
names, places and order are hashes of a seed and the comparison, so that the same call gives the same items, and a
further comparison moves none of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from polypref.backends.base import Options, Tag
from polypref.errors import InputError
from polypref.records import Message, dumps, last_user_text
from polypref.stages.judgments import Judgment
from polypref.stages.matches import Match
from polypref.store.atomic import replacing
from polypref.store.jsonl import read_lines

Choice = Literal["A", "B", "tie"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
_FOR_A: Mapping[Choice, float] = {"A": 1.0, "B": 0.0, "tie": 0.5}


class PeopleOptions(Options):
    """Which comparisons people are asked for."""

    per_language: int | None = Field(None, gt=0, description="comparisons of each language; all when left out")
    stratify: Literal["none", "disagreement"] = Field(
        "none", description="disagreement: half of those drawn are comparisons that the judges dispute"
    )
    languages: tuple[Tag, ...] = Field((), description="only these; all when left out")
    seed: int = Field(0, ge=0, description="of the draw, the places A and B, and the order")


@dataclass(frozen=True, slots=True)
class Contest:
    """One comparison as it may be shown. ``prompt`` is the conversation as a text, ``last`` its last user turn.

    ``stratum`` is ``disputed`` where judges stand on different sides, an order flipped or nobody gave a verdict, else
    ``agreed``; None where nobody judged. ``sample`` is that of judgments.
    """

    id: str
    language: str
    model: str
    baseline: str
    prompt: str
    last: str
    model_answer: str
    baseline_answer: str
    category: str | None = None
    difficulty: float | None = None
    stratum: str | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """What people see of a comparison."""

    item: str
    language: str
    prompt: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """Who is who in an item. ``a`` says whose answer stands as A; ``prompt`` is the last user turn; ``weight`` is how
    many comparisons of its language and stratum each drawn one stands for."""

    item: str
    a: Literal["model", "baseline"]
    id: str
    language: str
    model: str
    baseline: str
    prompt: str
    model_answer: str
    baseline_answer: str
    category: str | None = None
    difficulty: float | None = None
    stratum: str | None = None
    weight: float = 1.0
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Blinded:
    """Items in the order in which they are shown, the key to them, and how many comparisons were left out, by why."""

    items: Sequence[Item]
    key: Sequence[KeyRow]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Said:
    """A person's verdict on an item; ``where`` is its place in the file, for complaints."""

    where: str
    item: str
    verdict: Choice
    annotator: str
    comment: str | None = None


def of_matches(matches: Iterable[Match]) -> tuple[list[Contest], Counter[str]]:
    """Comparisons that nobody has judged; those that need no person are counted by why they are left out.

    Raises:
        InputError: two matches of the same models to the same prompt and sample.
    """
    found: dict[tuple[str, str, str, str, int], Contest] = {}
    left_out: Counter[str] = Counter()
    for match in matches:
        who = (match.id, match.language, match.model, match.baseline)
        key = (*who, match.sample)
        if key in found:
            raise InputError(
                f"{match.id} in {match.language} has two comparisons of {match.model} and {match.baseline}"
            )
        if match.model_answer is None or match.baseline_answer is None:
            left_out["an answer failed"] += 1
        elif match.model_answer == match.baseline_answer:
            left_out["equal answers"] += 1
        else:
            prompt, last = shown(match.messages), last_user_text(match.messages)
            texts = (prompt, last, match.model_answer, match.baseline_answer)
            found[key] = Contest(*who, *texts, match.category, match.difficulty, sample=match.sample)
    return list(found.values()), left_out


def of_judgments(judgments: Iterable[Judgment]) -> tuple[list[Contest], Counter[str]]:
    """The comparisons of a file of judgments, each once, with what the judges said as its stratum.

    Raises:
        InputError: the judgments hold no texts, or two judges saw different texts under one id.
    """
    judged: dict[tuple[str, str, str, str, int], list[Judgment]] = {}
    for j in judgments:
        judged.setdefault((j.id, j.language, j.model, j.baseline, j.sample), []).append(j)
    found, left_out = [], Counter[str]()
    for (*who, sample), rows in judged.items():
        first = rows[0]
        texts = (first.prompt, first.model_answer, first.baseline_answer)
        if any((row.prompt, row.model_answer, row.baseline_answer) != texts for row in rows):
            raise InputError(
                f"{first.id} in {first.language}: judges saw different texts of {first.model} and {first.baseline}; "
                "ask people for the judgments of one run"
            )
        if first.model_answer is None or first.baseline_answer is None:
            left_out["an answer failed or was not kept"] += 1
        elif first.model_answer == first.baseline_answer:
            left_out["equal answers"] += 1
        elif first.prompt is None:
            left_out["the prompt was not kept"] += 1
        else:
            texts = (first.prompt, first.prompt, first.model_answer, first.baseline_answer)
            found.append(Contest(*who, *texts, first.category, first.difficulty, _stratum(rows), sample))
    if not found:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there is no judgment"
        raise InputError(f"no comparison can be shown to people: {why}; give judgments that hold prompt and answers")
    return found, left_out


def _stratum(rows: Sequence[Judgment]) -> str:
    sides = {(row.preference > 0.5) - (row.preference < 0.5) for row in rows if row.preference is not None}
    return "agreed" if len(sides) == 1 and not any(row.flipped for row in rows) else "disputed"


def shown(messages: Sequence[Message]) -> str:
    """A conversation as a text: one user turn as it is, several with who speaks before each."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def blinded(
    comparisons: Iterable[Contest], options: PeopleOptions, left_out: Mapping[str, int] | None = None
) -> Blinded:
    """Draw, blind and shuffle: languages one after the other, the items of a language in the order of their hashes.

    Raises:
        InputError: no comparison is left, or strata are asked for and nobody has judged.
    """
    by_language: dict[str, list[tuple[str, Contest]]] = {}
    for one in comparisons:
        if not options.languages or one.language in options.languages:
            by_language.setdefault(one.language, []).append((_item(one, options.seed), one))
    if not by_language:
        raise InputError("no comparison is left to ask people for; check the languages")
    drawn = [pair for named in by_language.values() for pair in _drawn(named, options)]
    return Blinded([item for item, _ in drawn], [row for _, row in drawn], dict(left_out or {}))


def _drawn(named: list[tuple[str, Contest]], options: PeopleOptions) -> list[tuple[Item, KeyRow]]:
    """A language's items and their key: n of them by strata, in the order of their hashes."""
    # Without the language, so that parallel languages are asked about the same prompts and can be compared.
    named = sorted(named, key=lambda entry: _hash(options.seed, "draw", *_who(entry[1])))
    n = min(options.per_language or len(named), len(named))
    strata: dict[str | None, list[tuple[str, Contest]]] = {}
    for entry in named:
        strata.setdefault(entry[1].stratum if options.stratify == "disagreement" else None, []).append(entry)
    if options.stratify == "disagreement":
        if None in strata:
            raise InputError("strata by disagreement need what judges said; give a file of judgments")
        disputed, agreed = strata.get("disputed", []), strata.get("agreed", [])
        hard = max(min(len(disputed), n - n // 2), n - len(agreed))
        drawn = {"disputed": disputed[:hard], "agreed": agreed[: n - hard]}
    else:
        drawn = {None: named[:n]}
    pairs = [
        _blind(item, one, options.seed, len(strata[stratum]) / len(entries))
        for stratum, entries in drawn.items()
        for item, one in entries
    ]
    return sorted(pairs, key=lambda pair: _hash(options.seed, "order", pair[0].item))


def _blind(item: str, one: Contest, seed: int, weight: float) -> tuple[Item, KeyRow]:
    swapped = int(_hash(seed, "place", item)[:2], 16) % 2 == 1
    answers = (one.baseline_answer, one.model_answer) if swapped else (one.model_answer, one.baseline_answer)
    told = asdict(one)
    told["prompt"] = told.pop("last")
    key = KeyRow(item=item, a="baseline" if swapped else "model", weight=weight, **told)
    return Item(item, one.language, one.prompt, *answers), key


def _item(one: Contest, seed: int) -> str:
    """A name that begins with a letter, so that no spreadsheet reads it as a number."""
    return "c" + _hash(seed, "item", one.language, *_who(one))[:12]


def _who(one: Contest) -> tuple[str | int, ...]:
    return one.id, one.model, one.baseline, *([one.sample] if one.sample else [])


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def write_key(path: Path, key: Sequence[KeyRow]) -> None:
    """Write the key as JSON Lines, at once."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in key:
            file.write(dumps(asdict(row)) + "\n")


def read_key(path: Path | str) -> dict[str, KeyRow]:
    """Item → its row of a key file.

    Raises:
        InputError: a line is no row of a key, or an item stands twice (``file:line``).
    """
    found: dict[str, KeyRow] = {}
    for where, value in read_lines(path):
        try:
            row = KeyRow(**value)
        except TypeError:
            row = None
        if row is None or not _whole(row):
            raise InputError(f"{where}: this is no row of a key; give the key that people-export wrote")
        if row.a not in ("model", "baseline"):
            raise InputError(f"{where}: a is {row.a!r:.40}; it must be model or baseline")
        if row.item in found:
            raise InputError(f"{where}: item {row.item} stands twice in the key")
        found[row.item] = row
    if not found:
        raise InputError(f"{Path(path).name} is empty: it holds no key")
    return found


def _whole(row: KeyRow) -> bool:
    """Whether each field is of its kind: a file may hold anything under a right name."""
    texts = (row.item, row.id, row.language, row.model, row.baseline, row.prompt, row.model_answer, row.baseline_answer)
    maybe = (row.category, row.stratum)
    numbers = (row.weight, row.sample, 0 if row.difficulty is None else row.difficulty)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(text, str | None) for text in maybe)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    )


def unblinded(
    verdicts: Iterable[Said], key: Mapping[str, KeyRow], warn: Callable[[str], None] = lambda message: None
) -> list[Judgment]:
    """What people said as judgments: ``judge`` is the annotator, ``preference`` is for the model.

    A verdict that the same annotator gave twice counts once.

    Raises:
        InputError: an item is not in the key, or one annotator contradicts himself (both places).
    """
    found: dict[tuple[str, str], Said] = {}
    repeated = 0
    for said in verdicts:
        if said.item not in key:
            raise InputError(f"{said.where}: item {said.item!r} is not in the key; give the key of the same export")
        before = found.setdefault((said.annotator, said.item), said)
        if before.verdict != said.verdict:
            raise InputError(
                f"{said.where}: {said.annotator} says {said.verdict} of {said.item}, and {before.verdict} at "
                f"{before.where}; keep one of the two"
            )
        repeated += before is not said
    if repeated:
        warn(f"{repeated} verdicts stand twice, by the same person with the same outcome; each counts once")
    return list(_judgments(found.values(), key))


def _judgments(verdicts: Iterable[Said], key: Mapping[str, KeyRow]) -> Iterator[Judgment]:
    for said in verdicts:
        row = key[said.item]
        for_a = _FOR_A[said.verdict]
        yield Judgment(
            id=row.id,
            language=row.language,
            preference=for_a if row.a == "model" else 1.0 - for_a,
            model_length=len(row.model_answer),
            baseline_length=len(row.baseline_answer),
            difficulty=row.difficulty,
            model=row.model,
            baseline=row.baseline,
            judge=said.annotator,
            category=row.category,
            prompt=row.prompt,
            model_answer=row.model_answer,
            baseline_answer=row.baseline_answer,
            said=(said.comment,) if said.comment else (),
            sample=row.sample,
        )
