"""The dataset card: front matter that ``datasets`` and the hub read, then counts, settings and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import yaml

from polypref import languages

MARK = "generated-by: polypref"

_MESSAGES = [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
_TURN = [{"name": "from", "dtype": "string"}, {"name": "value", "dtype": "string"}]
_ANSWERS = {
    "trl": ("chosen", "rejected"),
    "trl-unpaired": ("completion",),
    "trl-completion": ("completion",),
}
_USES = {
    "trl": "`trl.DPOTrainer` and `trl.RewardTrainer` take it as it is.",
    "trl-unpaired": "`trl`'s KTO trainer takes it as it is.",
    "trl-completion": "`trl.SFTTrainer` takes it as it is.",
    "llamafactory": "LLaMA-Factory: `llamafactory-cli train train_dpo.yaml` in this folder.",
}


class Written(Protocol):
    """The counts that the card shows."""

    @property
    def pairs(self) -> dict[str, int]: ...
    @property
    def rows(self) -> dict[str, int]: ...
    @property
    def left_out(self) -> dict[str, dict[str, int]]: ...


def features(format: str, conversational: bool) -> list[dict[str, Any]]:
    """The columns as the hub's front matter writes them, so that a column of nulls is still one of numbers."""
    if format == "llamafactory":
        columns: list[dict[str, Any]] = [
            {"name": "system", "dtype": "string"},
            {"name": "conversations", "list": _TURN},
            {"name": "chosen", "struct": _TURN},
            {"name": "rejected", "struct": _TURN},
        ]
    else:
        kind: dict[str, Any] = {"list": _MESSAGES} if conversational else {"dtype": "string"}
        columns = [{"name": name, **kind} for name in ("prompt", *_ANSWERS[format])]
        if format == "trl-unpaired":
            columns.append({"name": "label", "dtype": "bool"})
    columns += [{"name": name, "dtype": "string"} for name in ("id", "language")]
    return columns + [{"name": name, "dtype": "float64"} for name in ("score_chosen", "score_rejected", "margin")]


def card(
    name: str, format: str, conversational: bool, written: Written, provenance: Mapping[str, Any] | None = None
) -> str:
    """The text of ``README.md``; no date and no place, so that the same export gives the same bytes."""
    front = {
        "pretty_name": name,
        "language": sorted({languages.primary(tag) for tag in written.pairs}),
        "task_categories": ["text-generation"],
        "tags": ["polypref", "preference", "multilingual"] + (["trl"] if format.startswith("trl") else []),
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}],
        "dataset_info": {"features": features(format, conversational)},
    }
    lines = [
        "---",
        f"# {MARK}",
        yaml.safe_dump(_plain(front), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        "Preference pairs made with polypref: answers of a model, ranked in several languages.",
        _USES[format],
        "",
        "```python",
        "import datasets",
        "",
        'rows = datasets.load_dataset("json", data_files="train.jsonl", split="train")  # or load_dataset(this folder)',
        "```",
        "",
        "Beside the columns of the format every row has `id`, `language`, `score_chosen`, `score_rejected` and",
        "`margin` (null where the pair was made without a score).",
        "",
        "| language | pairs | rows |",
        "|---|---:|---:|",
        *(f"| {tag} | {count} | {written.rows[tag]} |" for tag, count in written.pairs.items()),
        f"| all | {sum(written.pairs.values())} | {sum(written.rows.values())} |",
    ]
    if written.left_out:
        lines += ["", "| left out | language | pairs |", "|---|---|---:|"]
        lines += [f"| {why} | {tag} | {n} |" for why, counts in written.left_out.items() for tag, n in counts.items()]
    if provenance:
        settings = yaml.safe_dump(_plain(provenance), sort_keys=False, allow_unicode=True).rstrip()
        lines += ["", "## Settings", "", "```yaml", *settings.replace("```", "'''").split("\n"), "```"]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """Mappings, sequences and scalars that YAML's safe dumper writes, without aliases for what comes twice."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
