"""How people are asked and how they answer: CSV for a spreadsheet, Argilla's records, Label Studio's tasks.

    comparisons.csv                              item, language, prompt, answer_a, answer_b, verdict, annotator, comment
    argilla/records.json, argilla/settings.json  what ``rg.Dataset.records`` and ``rg.Settings.from_json`` read
    label_studio/tasks.json, label_studio/labelling.xml

A verdict is A, B or tie. A row without one has not been judged.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from polypref.errors import InputError
from polypref.stages.people import CHOICES, Choice, Item, Said
from polypref.stages.prompt_files import rows_of
from polypref.store.atomic import write_json, write_text

SHOWN: Final = ("item", "language", "prompt", "answer_a", "answer_b")
ASKED: Final = ("verdict", "annotator", "comment")
CELL: Final = 32_767
"""Characters that a cell of Excel and LibreOffice holds; what is beyond is lost when such a file is saved."""
TITLES: Final[Mapping[Choice, str]] = {"A": "Answer A is better", "B": "Answer B is better", "tie": "Equally good"}
QUESTION: Final = "Which answer is better?"
GUIDELINES: Final = (
    "Read the prompt and both answers. Say which answer is better: whether it is correct, does what was asked, leaves "
    "nothing needed out, is clear, and harms nobody. An answer should be in the language of the prompt, unless the "
    "prompt asks for another. Length by itself is no merit. It is chance which answer stands as A."
)
_CHOICES: Final[Mapping[str, Choice]] = {choice.casefold(): choice for choice in CHOICES}

# A spreadsheet takes a cell that begins so for a formula and would run what a model has written.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(slots=True)
class Read:
    """The verdicts of files, and how many items stand there without one, by annotator or file."""

    said: list[Said] = field(default_factory=list)
    unjudged: Counter[str] = field(default_factory=Counter)


# --- written -------------------------------------------------------------------------------------------------------


def write_items(folder: Path, items: Sequence[Item], warn: Callable[[str], None] = lambda message: None) -> None:
    """Write a folder with every format. What stood there under the same names is replaced."""
    write_text(folder / "comparisons.csv", "\ufeff" + csv_of(items))
    write_json(folder / "argilla" / "records.json", argilla_records(items))
    write_json(folder / "argilla" / "settings.json", argilla_settings(items))
    write_json(folder / "label_studio" / "tasks.json", [{"data": asdict(item)} for item in items])
    write_text(folder / "label_studio" / "labelling.xml", LABELLING)
    if long := sum(any(len(text) > CELL for text in (item.prompt, item.answer_a, item.answer_b)) for item in items):
        warn(
            f"comparisons.csv: {long} items hold a text of more than {CELL:,} characters, which a spreadsheet cuts; "
            "show them in Argilla or Label Studio"
        )


def csv_of(items: Sequence[Item]) -> str:
    """Every cell quoted, lines ended by CR LF (RFC 4180), and a text that a spreadsheet would run opened by ``'``."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow((*SHOWN, *ASKED))
    for item in items:
        writer.writerow([_inert(getattr(item, name)) for name in SHOWN] + [""] * len(ASKED))
    return file.getvalue()


def _inert(text: str) -> str:
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text


def argilla_records(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The records as ``Dataset.records.to_json`` writes them, and ``from_json`` reads."""
    return [
        {
            "id": item.item,
            "fields": {"prompt": item.prompt, "answer_a": item.answer_a, "answer_b": item.answer_b},
            "metadata": {"language": item.language},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for item in items
    ]


def argilla_settings(items: Sequence[Item]) -> dict[str, Any]:
    """The settings of a data set for the records: three texts, a verdict, a comment."""
    texts = {"prompt": "Prompt", "answer_a": "Answer A", "answer_b": "Answer B"}
    options = [{"value": choice, "text": title, "description": None} for choice, title in TITLES.items()]
    languages = sorted({item.language for item in items})
    return {
        "guidelines": GUIDELINES,
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "fields": [
            {"name": name, "title": title, "required": True, "settings": {"type": "text", "use_markdown": False}}
            for name, title in texts.items()
        ],
        "questions": [
            {
                "name": "verdict",
                "title": QUESTION,
                "description": None,
                "required": True,
                "settings": {"type": "label_selection", "options": options, "visible_options": len(options)},
            },
            {
                "name": "comment",
                "title": "Why?",
                "description": None,
                "required": False,
                "settings": {"type": "text", "use_markdown": False},
            },
        ],
        "metadata": [
            {
                "name": "language",
                "title": "Language",
                "settings": {"type": "terms", "values": languages},
                "visible_for_annotators": True,
            }
        ],
        "vectors": [],
    }


LABELLING: Final = "\n".join(
    [
        "<View>",
        '  <Header value="Prompt"/>',
        '  <Text name="prompt" value="$prompt"/>',
        '  <Header value="Answer A"/>',
        '  <Text name="answer_a" value="$answer_a"/>',
        '  <Header value="Answer B"/>',
        '  <Text name="answer_b" value="$answer_b"/>',
        f'  <Header value="{QUESTION}"/>',
        '  <Choices name="verdict" toName="prompt" choice="single-radio" required="true">',
        *(f'    <Choice value="{title}" alias="{choice}"/>' for choice, title in TITLES.items()),
        "  </Choices>",
        '  <TextArea name="comment" toName="prompt" placeholder="Why?" maxSubmissions="1"/>',
        "</View>",
        "",
    ]
)
"""Label Studio's labelling configuration. A choice is stored under its ``alias``."""


# --- read ----------------------------------------------------------------------------------------------------------


def read_verdicts(path: Path, annotator: str | None = None, names: Mapping[str, str] | None = None) -> Read:
    """The verdicts of one file: a CSV as it was written and filled in, or what Argilla or Label Studio export.

    Args:
        annotator: whose verdicts they are where a row does not tell.
        names: what the annotators that a file tells of (a user's id, an e-mail address) are called.

    Raises:
        InputError: a row is of no known kind, or has no item, a wrong verdict, or nobody who gave it (``file:line``).
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; name what people filled in")
    rows = _cells(path) if path.suffix in (".csv", ".tsv") else rows_of(path)
    read = Read()
    for where, row in rows:
        for item, verdict, who, comment in _given(row, where):
            who = who or annotator
            called = (names or {}).get(who, who) if who else None
            if verdict is None:
                read.unjudged[called or path.name] += 1
                continue
            if called is None:
                raise InputError(f"{where}: nothing tells who gave the verdict; fill in annotator, or name a person")
            read.said.append(Said(where, item, _choice(verdict, where), called, comment or None))
    return read


_Given = tuple[str, Any, str | None, str | None]
"""Item, verdict (None where there is none), annotator, comment."""


def _given(row: Mapping[str, Any], where: str) -> Iterator[_Given]:
    if "annotations" in row:
        yield from _label_studio(row, where)
    elif "responses" in row:
        yield from _argilla(row, where)
    elif "item" in row:  # our CSV, and Label Studio's CSV and JSON-MIN
        who = row.get("annotator")
        comment = row.get("comment")
        yield _item(row, where), _filled(row.get("verdict")), _filled(who), _filled(comment)
    else:
        fields = ", ".join(list(row)[:6])
        raise InputError(
            f"{where}: no verdict can be read of a row with {fields}; give the filled CSV, Argilla's records or "
            "Label Studio's export, both as JSON"
        )


def _filled(cell: Any) -> str | None:
    text = "" if cell is None else str(cell).strip()
    return text or None


def _item(row: Mapping[str, Any], where: str) -> str:
    found = row.get("item")
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"{where}: item is {found!r}; leave the column as it was written")
    return found.strip()


def _choice(verdict: Any, where: str) -> Choice:
    found = _CHOICES.get(str(verdict).strip().casefold())
    if found is None:
        raise InputError(f"{where}: the verdict is {str(verdict)!r:.40}; write A, B or tie, or nothing")
    return found


def _argilla(row: Mapping[str, Any], where: str) -> Iterator[_Given]:
    """A record of ``Dataset.records.to_json``: responses are lists by question, each entry with its user."""
    item, responses = row.get("id"), row.get("responses")
    if not isinstance(item, str) or not isinstance(responses, dict | None):
        raise InputError(f"{where}: this is no record of Argilla; export with dataset.records.to_json")
    entries, said = (_objects((responses or {}).get(name)) for name in ("verdict", "comment"))
    if entries is None or said is None:
        raise InputError(f"{where}: this is no record of Argilla; export with dataset.records.to_json")
    comments = {str(entry.get("user_id")): entry.get("value") for entry in said}
    if not entries:
        yield item, None, None, None
    for entry in entries:
        if entry.get("status", "submitted") == "submitted":
            who = entry.get("user_id")
            yield item, entry.get("value"), _filled(who), _filled(comments.get(str(who)))


def _objects(value: Any) -> list[dict[str, Any]] | None:
    """A list of objects; an empty one where there is nothing, None where it is something else."""
    found = value or []
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else None


def _label_studio(row: Mapping[str, Any], where: str) -> Iterator[_Given]:
    """A task of Label Studio's JSON export: annotations, each with its results. Skipped ones have no verdict."""
    data = row.get("data")
    annotations = _objects(row["annotations"])
    of_each = [_objects(annotation.get("result")) for annotation in annotations or []]
    if not isinstance(data, dict) or annotations is None or None in of_each:
        raise InputError(f"{where}: this is no task of Label Studio; export the project as JSON")
    item = _item(data, where)
    if not annotations:
        yield item, None, None, None
    for annotation, results in zip(annotations, of_each, strict=True):
        found = {str(result.get("from_name")): result.get("value") for result in results or ()}
        choices, text = _texts(found, "verdict", "choices", where), _texts(found, "comment", "text", where)
        if len(choices) > 1:
            raise InputError(f"{where}: an annotation has the verdicts {', '.join(choices)}; keep one")
        verdict = None if annotation.get("was_cancelled") or not choices else choices[0]
        comment = "\n".join(text)
        yield item, verdict, _completed_by(annotation.get("completed_by")), _filled(comment)


def _texts(found: Mapping[str, Any], name: str, key: str, where: str) -> list[str]:
    """The texts of one question's answer: a list, or one alone."""
    value = found.get(name) or {}
    texts = (value.get(key) or []) if isinstance(value, dict) else None
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: the {name} is no {key} of Label Studio; export the project as JSON")
    return texts


def _completed_by(who: Any) -> str | None:
    """A user of Label Studio is a number, or an object with an e-mail address."""
    if isinstance(who, dict):
        return _filled(who.get("email") or who.get("id"))
    return _filled(who)


def _cells(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(``file:line``, row) of a CSV; a spreadsheet may have put semicolons or tabs between its cells.

    Raises:
        InputError: it is not UTF-8, or has no column item or verdict.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path.name}:{line}: not UTF-8; save the sheet as CSV UTF-8") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        if absent := [name for name in ("item", "verdict") if name not in columns]:
            raise InputError(f"{path.name}:1: there is no column {absent[0]}; leave the first row as it was written")
        first = reader.line_num + 1
        for cells in reader:
            where = f"{path.name}:{first}"
            first = reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise InputError(f"{where}: the row has {len(cells)} cells and the first row {len(columns)}; mend it")
            yield where, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path.name}:{reader.line_num}: not CSV ({error}); quote cells with line breaks") from None


def read_all(paths: Sequence[tuple[str | None, Path]], names: Mapping[str, str] | None = None) -> Read:
    """The verdicts of several files, each with the person whose they are where its rows do not tell."""
    read = Read()
    for annotator, path in paths:
        found = read_verdicts(path, annotator, names)
        read.said += found.said
        read.unjudged += found.unjudged
    if not read.said:
        raise InputError(
            f"{', '.join(path.name for _, path in paths)}: nobody has given a verdict; fill in the column verdict"
        )
    return read
