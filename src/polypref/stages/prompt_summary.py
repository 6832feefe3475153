"""What was found while prompts were read: counts by language, and a sentence for what is not as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polypref.records import Example, dumps
from polypref.stages.prompt_join import EMPTY, REPEATED, Join


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """What was read. Counts by language are over the ids of all languages, before ``require`` and ``limit``.

    ``examples`` are given back, with ``pairs`` and ``labels``; ``ids`` were found; ``read`` has the prompts of each
    language, ``missing`` the ids without one, ``only`` the ids that one language alone has (both without those that a
    drop explains), ``empty`` the blank prompts, ``duplicates`` the rows that say again what stood before, ``same_text``
    the prompts whose text another id has too, ``incomplete`` the examples left out by ``require`` (``all``, ``pivot``
    or ``any``), ``dropped`` the drops by reason and language, ``places`` the first rows (``file:line``) of each reason
    and of the repeated, ``ignored`` the data files left aside, ``id_field`` the field that ids follow where they alone
    name more than one item, ``assumed`` the language of rows that tell none.
    """

    shape: str
    languages: tuple[str, ...]
    examples: int
    ids: int
    pairs: int = 0
    labels: int = 0
    incomplete: int = 0
    read: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    only: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    same_text: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    require: str = "all"
    id_field: str | None = None
    assumed: str | None = None

    def remarks(self) -> list[str]:
        """One sentence for everything that is not as it should be. Answers need no prompt in every language."""
        alone = self.require == "any" and bool(self.pairs or self.labels)
        counts = {
            "ids without a prompt": ({} if alone else self.missing, ""),
            "ids that one language alone has": ({} if alone else self.only, ""),
            "empty prompts": (self.empty, self._at(EMPTY, self.empty)),
            "rows that repeat an earlier one": (self.duplicates, self._at(REPEATED, self.duplicates)),
            "prompts with the text of another id": (self.same_text, ""),
        }
        said = [f"{what}: {_told(by)}{where}" for what, (by, where) in counts.items() if by]
        said += [f"dropped, {why}: {_told(by)}{self._at(why, by)}" for why, by in self.dropped.items() if why != EMPTY]
        if self.incomplete and self.require != "any":
            others = "pivot or any" if self.require == "all" else "any"
            said.append(
                f"examples left out because a required language is missing: {self.incomplete} of {self.ids}; "
                f"require: {others} keeps more than require: {self.require}"
            )
        if self.assumed:
            said.append(f"nothing says which language the rows are in; they are read as {self.assumed}, the pivot")
        if self.id_field:
            said.append(f"one id names several items, so ids follow their {self.id_field}, as in {self.id_field}/id")
        if self.ignored:
            said.append(f"files left aside: {', '.join(self.ignored)}")
        return said

    def _at(self, reason: str, by: Mapping[str, int]) -> str:
        """Where the first of a reason's rows stand, in brackets."""
        places = self.places.get(reason, ())
        more = sum(by.values()) > len(places)
        return f" ({', '.join(places)}{', …' if more else ''})" if places else ""


def _told(by: Mapping[str, int]) -> str:
    return ", ".join(f"{tag} {n}" for tag, n in by.items())


def summarise(
    joined: Join, examples: Sequence[Example], kept: int, chosen: Sequence[str], *, parallel: bool
) -> PromptSummary:
    """The counts of what was joined, over the languages that were chosen. Where nothing is parallel, an id that one
    language alone has is as it should be."""
    read = Counter(tag for example in examples for tag in example.prompts)
    gone = [{d.lang for d in e.dropped if d.stage == "prompts"} - set(e.prompts) for e in examples]
    missing = Counter(
        tag for e, dropped in zip(examples, gone, strict=True) for tag in {*chosen} - {*e.prompts} - dropped
    )
    only = Counter(
        next(iter(e.prompts))
        for e, dropped in zip(examples, gone, strict=True)
        if len(e.prompts) == 1 and not dropped and len(chosen) > 1
    )
    texts = Counter((tag, dumps({"prompt": prompt})) for example in examples for tag, prompt in example.prompts.items())
    same = Counter(dict.fromkeys(chosen, 0))
    for (tag, _), count in texts.items():
        same[tag] += count - 1
    dropped: dict[str, Counter[str]] = {}
    for example in examples:
        for drop in example.dropped:
            if drop.stage == "prompts":
                dropped.setdefault(drop.reason, Counter())[drop.lang or ""] += 1

    def plain(counts: Counter[str]) -> dict[str, int]:
        return {tag: counts[tag] for tag in chosen if counts[tag]}

    return PromptSummary(
        shape="",
        languages=tuple(chosen),
        examples=kept,
        ids=len(examples),
        incomplete=len(examples) - kept,
        read=plain(read),
        missing=plain(missing) if parallel else {},
        only=plain(only) if parallel else {},
        empty=plain(dropped.get(EMPTY, Counter())),
        duplicates=plain(joined.duplicates),
        same_text=plain(same),
        dropped={reason: plain(counts) for reason, counts in dropped.items()},
        places={reason: places for reason, places in joined.places.items() if reason in dropped or reason == REPEATED},
    )
