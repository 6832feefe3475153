"""What judging will take, before anything is asked: requests, tokens and cost, by language. No server is asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from polypref import languages
from polypref.backends.base import Comparison, Context, ModelSpec, Recall, Request, Usage
from polypref.backends.running_text import alphabet_of
from polypref.records import Message
from polypref.stages.judge_matches import JudgeOptions, cost, named, question
from polypref.stages.matches import Match

VERDICT_TOKENS: Final = 150
"""What a judge that compares in a few sentences is expected to say, where nothing is known of it."""

ENGLISH: Final = 0.22
TOKENS_A_LETTER: Final = {
    "LATIN": 0.27, "CYRILLIC": 0.30, "ARABIC": 0.35, "THAI": 0.45, "HANGUL": 0.57, "HIRAGANA": 0.65, "KATAKANA": 0.65,
    "CJK": 0.70, "BENGALI": 0.71, "TELUGU": 0.97,
}  # fmt: skip
"""Tokens a character by the alphabet of a text's letters: the mean of the tokenizers of GPT-4o, Llama 3, Qwen 3 and
Gemma 3 on the prompts and answers of X-AlpacaEval (Latin: German, Spanish, French, Italian, Swahili) and on MGSM. They
are within a tenth of it in Western European languages, within a quarter in the others, and differ by more than twice
in Bengali and Telugu."""
OTHER_ALPHABETS: Final = 0.7


@runtime_checkable
class Asker(Protocol):
    """A judge of pairs whose questions can be seen before they are asked."""

    max_tokens: int

    def requests(self, comparison: Comparison) -> tuple[Request, Request]:
        """The questions of both orders."""
        ...

    def key(self, request: Request) -> str:
        """What the answer is kept under."""
        ...


@dataclass(slots=True)
class Planned:
    """What is to be done in one language, or in all.

    Of ``matches``, ``unasked`` need no judge. Each other is two requests; ``recalled`` ones were answered before, and
    ``requests`` are left, those that ask the same counting once. ``tokens_asked`` is theirs; ``tokens_answered`` is
    what may be expected of the answers and ``tokens_answered_at_most`` what the judge's ``max_tokens`` allow. Costs are
    None where the model has no price.
    """

    matches: int = 0
    unasked: int = 0
    requests: int = 0
    recalled: int = 0
    tokens_asked: int = 0
    tokens_answered: int = 0
    tokens_answered_at_most: int = 0
    cost: float | None = None
    cost_at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one judge will be asked.

    ``counted`` says in words where ``tokens_asked`` come from, ``expected`` the same of ``tokens_answered``.
    """

    judge: str
    by_language: dict[str, Planned] = field(default_factory=dict)
    counted: str = ""
    expected: str = ""

    @property
    def total(self) -> Planned:
        """The sum over the languages."""
        sums: dict[str, Any] = {}
        for given in dataclasses.fields(Planned):
            values = [getattr(row, given.name) for row in self.by_language.values()]
            sums[given.name] = None if None in values else sum(values)
        return Planned(**sums)

    def to_json(self) -> dict[str, Any]:
        """``{"judge", "total": {…}, "by_language": {language: {…}}, "counted", "expected"}``."""
        rows = {lang: dataclasses.asdict(row) for lang, row in self.by_language.items()}
        words = {"counted": self.counted, "expected": self.expected}
        return {"judge": self.judge, "total": dataclasses.asdict(self.total), "by_language": rows, **words}

    def told(self) -> str:
        """In a few sentences, for a person."""
        all_ = self.total
        words = f"{self.judge}: {all_.matches:,} matches, {all_.unasked:,} of them need no judge. "
        words += f"{all_.requests:,} requests to ask, {all_.recalled:,} were answered before."
        if not all_.requests:
            return words
        words += f" About {all_.tokens_asked:,} tokens asked ({self.counted}) and {all_.tokens_answered:,} answered "
        words += f"({self.expected}), at most {all_.tokens_answered_at_most:,}."
        if all_.cost is not None:
            words += f" Cost about {all_.cost:.2f}, at most {all_.cost_at_most:.2f}."
        return words


@dataclass(slots=True)
class _Known:
    """What the server counted of orders that were answered before, and what had been reckoned of them."""

    orders: int = 0
    usage: Usage = field(default_factory=Usage)
    reckoned: int = 0

    def add(self, kept: Any, reckoned: int) -> None:
        """One order, as a judge keeps it."""
        if (counted := kept[0].get("usage")) is not None:
            self.orders += 1
            self.usage += Usage(*counted)
            self.reckoned += reckoned


def plan(matches: Iterable[Match], options: JudgeOptions, context: Context, recall: Recall | None = None) -> Plan:
    """What ``judge_matches`` would ask a judge on a server with the same arguments.

    Tokens are counted by the model's tokenizer where its path is a folder; else they are estimated by characters, and
    set right by what the server counted of the requests that ``recall`` holds. A judge in this process, a scorer too,
    sends nothing and is not opened.

    Raises:
        RecipeError: the judge cannot be asked as its spec says.
    """
    judge = _asker(options, context)
    model = options.judge.model
    count = None if judge is None or model is None else _counter(model)
    rows: dict[str, Planned] = {}
    known = _Known()
    asked: set[str] = set()
    for match, name in named(matches):
        row = rows.setdefault(match.language, Planned())
        row.matches += 1
        comparison = question(match, name)
        if comparison is None:
            row.unasked += 1
        elif judge is not None:
            requests = judge.requests(comparison)
            # The two differ in the order of the answers alone.
            tokens = estimate(requests[0].messages, match.language) if count is None else count(requests[0].messages)
            for request in requests:
                key = judge.key(request)
                if recall is not None and (kept := recall.get(key)) is not None:
                    row.recalled += 1
                    known.add(kept, tokens)
                elif key not in asked:
                    asked.add(key)
                    row.requests += 1
                    row.tokens_asked += tokens
    most = 0 if judge is None else judge.max_tokens
    for row in rows.values():
        _reckon(row, known, most, exact=count is not None, price=None if model is None else model.price)
    return Plan(
        options.name,
        dict(sorted(rows.items())),
        counted="by the model's tokenizer" if count is not None else _with("estimated by characters", known),
        expected=_with(f"{min(most, VERDICT_TOKENS)} an answer, a guess", known),
    )


def _reckon(row: Planned, known: _Known, most: int, *, exact: bool, price: tuple[float, float] | None) -> None:
    """Fill in the tokens of the answers and the costs, and set estimates right by what is known."""
    if known.orders and not exact:
        row.tokens_asked = round(row.tokens_asked * known.usage.asked / known.reckoned)
    row.tokens_answered_at_most = row.requests * most
    answer = known.usage.answered / known.orders if known.orders else min(most, VERDICT_TOKENS)
    row.tokens_answered = round(row.requests * answer)
    if price is not None:
        row.cost = cost(Usage(row.tokens_asked, row.tokens_answered), price)
        row.cost_at_most = cost(Usage(row.tokens_asked, row.tokens_answered_at_most), price)


def _with(guess: str, known: _Known) -> str:
    return f"as the server counted {known.orders:,} requests" if known.orders else guess


def _asker(options: JudgeOptions, context: Context) -> Asker | None:
    """The judge of pairs on a server; None for any other judge."""
    model = options.judge.model
    if model is None or model.backend not in ("openai", "fake"):
        return None
    judge = context.open("comparer", options.judge)
    if isinstance(judge, Asker):
        return judge
    context.warn(f"what {options.name} will ask is not planned: {options.judge.scorer} is no judge of pairs")
    return None


def estimate(messages: Sequence[Message], lang: str) -> int:
    """The tokens of a conversation by its characters: ``TOKENS_A_LETTER`` in the mean over its letters."""
    text = "".join(str(message["content"]) for message in messages)
    letters: Counter[str] = Counter()
    for character, times in Counter(text).items():
        if character.isalpha():
            letters[alphabet_of(character)] += times
    rates = TOKENS_A_LETTER | {"LATIN": ENGLISH} if languages.same(lang, "en") else TOKENS_A_LETTER
    mass = sum(rates.get(alphabet, OTHER_ALPHABETS) * times for alphabet, times in letters.items())
    return round(len(text) * mass / letters.total()) if letters else len(text)


def _counter(model: ModelSpec) -> Callable[[Sequence[Message]], int] | None:
    """Counts by the tokenizer of a model whose folder is here, although a server runs it."""
    if not Path(model.path).is_dir():
        return None
    from polypref.backends.prompt_tokens import counter

    return counter(model.model_copy(update={"backend": "hf"}))
