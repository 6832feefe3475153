"""Features of languages: a folder of WALS as it is published, in CLDF, or a user's own table.

CLDF: https://cldf.clld.org, Forkel et al. 2018. The names of files and columns are those of its StructureDataset.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polypref import languages
from polypref.errors import InputError

MISSING = frozenset({"", "?"})
"""What stands where a value is not known: nothing, or Grambank's mark. NA is a value: noun before adjective."""

CLDF = {
    "languages.csv": ("ID", "Name", "ISO639P3code"),
    "parameters.csv": ("ID", "Name"),
    "codes.csv": ("ID", "Name"),
    "values.csv": ("Language_ID", "Parameter_ID", "Value"),
}


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of some languages.

    ``names`` is feature → its name; ``values`` is language → feature → value, without what is missing; ``labels`` is
    value → its name, where it has one. ``remarks`` are what the reader had to choose or leave out.
    """

    names: dict[str, str]
    values: dict[str, dict[str, str]]
    labels: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_features(path: Path | str, wanted: Sequence[str]) -> Features:
    """The features of the ``wanted`` languages (BCP-47 tags), from a CLDF folder or a CSV with a column ``language``.

    A language is found by its tag, else by its language subtag (``zh-Hans`` by ``zh`` or ``cmn``). Languages of which
    nothing is known are not in ``values``.

    Raises:
        InputError: a file, column or language is missing or wrong.
    """
    path = Path(path)
    if not path.is_dir():
        return _table(path, wanted)
    if not (path / "values.csv").exists() and (path / "cldf").is_dir():
        path = path / "cldf"  # the root of the published repository
    return _cldf(path, wanted)


def _rows(path: Path, columns: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(``file:line``, row) of a CSV file; a field that a short row lacks is empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            found = list(reader.fieldnames or ())
            for name in columns:
                if name not in found:
                    raise InputError(
                        f"{path.name}:1: the column {name} is missing; found: {', '.join(found[:12]) or 'none'}"
                    )
            if len(set(found)) < len(found) or "" in found:
                raise InputError(f"{path.name}:1: a column comes twice or has no name; name each once")
            for row in reader:
                where = f"{path.name}:{reader.line_num}"
                if None in row:
                    raise InputError(f"{where}: there are more fields than the header has; quote fields with commas")
                yield where, row
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except PermissionError:
        raise InputError(f"{path} may not be read; check its permissions") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path.name}: not CSV ({error}); write comma-separated rows under a header") from None


# --- a user's own table ----------------------------------------------------------------------------------------------


def _table(path: Path, wanted: Sequence[str]) -> Features:
    names: dict[str, str] = {}
    known: dict[str, dict[str, str]] = {}
    for where, row in _rows(path, ["language"]):
        try:
            tag = languages.normalise(row["language"].strip())
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if tag in known:
            raise InputError(f"{where}: {tag} comes a second time; keep one of the two rows")
        names = {name: name for name in row if name != "language"}
        known[tag] = {name: row[name].strip() for name in names if row[name].strip() not in MISSING}
    if not names:
        raise InputError(f"{path.name} has no features; write a row a language and a column a feature")
    found = {tag: known.get(tag) or known.get(languages.primary(tag)) for tag in wanted}
    values = {tag: values for tag, values in found.items() if values}
    marked = any("NA" in row.values() for row in values.values())
    remark = (f"{path.name}: NA is read as a value; leave a field empty, or write ?, where none is known",)
    return Features(names, values, remarks=remark if marked else ())


# --- CLDF ------------------------------------------------------------------------------------------------------------


def _cldf(folder: Path, wanted: Sequence[str]) -> Features:
    lacking = [name for name in CLDF if not (folder / name).is_file()]
    if lacking:
        raise InputError(
            f"{folder} lacks {', '.join(lacking)}; name the cldf folder of WALS (github.com/cldf-datasets/wals), "
            "or a CSV with the column language and one column a feature"
        )
    names = {row["ID"]: row["Name"] for _, row in _rows(folder / "parameters.csv", CLDF["parameters.csv"])}
    labels = {row["ID"]: row["Name"] for _, row in _rows(folder / "codes.csv", CLDF["codes.csv"])}
    entries = _entries(folder / "languages.csv", {languages.primary(tag) for tag in wanted})
    values, clashes = _values(folder / "values.csv", {key for keys in entries.values() for key in keys}, names)

    remarks = []
    found = {}
    for language, keys in entries.items():
        # Dialects share a language's code; the entry that the atlas describes most is the language itself.
        best = max(keys, key=lambda key: len(values.get(key, ())))
        if len(keys) > 1:
            others = ", ".join(name for key, name in keys.items() if key != best)
            remarks.append(f"{language} is {keys[best]}, which has the most values; left aside: {others}")
        if best in values:
            found[language] = values[best]
    if clashes:
        remarks.append(f"several values of one feature and language, which count as missing: {clashes}")
    by_tag = {tag: found[languages.primary(tag)] for tag in wanted if languages.primary(tag) in found}
    return Features(names, by_tag, labels, tuple(remarks))


def _entries(path: Path, wanted: Collection[str]) -> dict[str, dict[str, str]]:
    """Language subtag → the key and name of each entry with its code.

    WALS leaves ISO639P3code empty where an entry has several codes (Albanian), and lists them in ISO_codes.
    """
    found: dict[str, dict[str, str]] = {}
    for _, row in _rows(path, CLDF["languages.csv"]):
        for code in row["ISO639P3code"].split() or row.get("ISO_codes", "").split():
            try:
                tag = languages.normalise(code)
            except InputError:
                continue  # a code that BCP-47 does not know is no language that a user could have named
            if languages.primary(tag) in wanted:
                found.setdefault(languages.primary(tag), {})[row["ID"]] = row["Name"]
    return found


def _values(path: Path, wanted: Collection[str], names: Collection[str]) -> tuple[dict[str, dict[str, str]], int]:
    """Entry → feature → value (its code where it has one), and how many were several at once."""
    found: dict[str, dict[str, set[str]]] = {}
    for where, row in _rows(path, CLDF["values.csv"]):
        if row["Language_ID"] not in wanted or row["Value"].strip() in MISSING:
            continue
        if row["Parameter_ID"] not in names:
            raise InputError(
                f"{where}: the parameter {row['Parameter_ID']} is not in parameters.csv; are both of one set?"
            )
        value = row.get("Code_ID", "").strip() or row["Value"].strip()
        found.setdefault(row["Language_ID"], {}).setdefault(row["Parameter_ID"], set()).add(value)
    clashes = sum(len(values) > 1 for features in found.values() for values in features.values())
    single = {key: {f: min(v) for f, v in features.items() if len(v) == 1} for key, features in found.items()}
    return single, clashes
