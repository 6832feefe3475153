"""Language fidelity: does a model answer in the language that it is asked to answer in, line by line and word by word?

The pass rates are those of the Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052, §2.2): an answer
passes by lines where every line of at least five words is in the wanted language; of the answers in another script than
Latin that do, one passes by words where it holds no English word. There fastText tells languages, here lingua, which
may leave one undetermined.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from polypref import languages
from polypref.backends.base import Context, LanguageIdentifier, Options, Tag, batches
from polypref.backends.running_text import alphabets
from polypref.errors import InputError
from polypref.records import Candidate, Example, live
from polypref.stages.asked_language import asks_other_language
from polypref.stages.evaluate import Evaluation
from polypref.stages.language_lines import has_english_word, has_foreign_word, judged_lines

VERSION: int = 1

LINE, WORD, BOTH, SWITCHING = "line_pass_rate", "word_pass_rate", "language_confusion_pass_rate", "code_switching"
UNJUDGED, ASKS_OTHER, ANSWERED = "no_judged_line", "asks_other_language", "answered_in_"
CROSSLINGUAL: Final = "crosslingual_"
"""Before every metric of answers that are wanted in another language than their prompt's."""
UNDETERMINED: Final = "und"
RATES: Final = (LINE, WORD, BOTH, SWITCHING, UNJUDGED, ASKS_OTHER)


class LanguageFidelityOptions(Options):
    """Which answers, in which language each is wanted, and what a line must be to be judged."""

    answer_in: Tag | None = Field(
        None, description="the language that every answer is wanted in; its prompt's if left out"
    )
    answer_in_key: str | None = Field(
        None, description="a field of the answer or its example that names that language, where there is one"
    )
    fewest_words: int = Field(5, ge=1, description="a line with fewer words is not judged")
    undetermined: Literal["skip", "fail"] = Field(
        "skip", description="a line whose language cannot be told is not judged, or fails as in the benchmark"
    )
    leave_out_asking: bool = Field(
        True, description="leave out answers to prompts that themselves ask for another language"
    )
    language_identifier: str | None = Field(None, description="left out: the run's own")
    model: str | None = Field(None, description="only answers of this model; left out: all")
    origins: tuple[str, ...] = Field(
        ("sampled", "reference", "human"), description="only answers of these origins; those of no origin always count"
    )


@dataclass(slots=True)
class Fidelity:
    """``evaluation``: the figures by wanted language. ``matrix``: the answers counted, ``monolingual`` and
    ``crosslingual``: wanted language → language of the answer → how many; ``und`` where it could not be told."""

    evaluation: Evaluation = field(default_factory=Evaluation)
    matrix: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain object."""
        return {"figures": self.evaluation.figures(), "matrix": self.matrix}


def figures(
    examples: Iterable[Example],
    options: LanguageFidelityOptions,
    context: Context,
    english: Collection[str] | None = None,
) -> Evaluation:
    """The figures of ``language_fidelity`` alone."""
    return language_fidelity(examples, options, context, english).evaluation


def language_fidelity(
    examples: Iterable[Example],
    options: LanguageFidelityOptions,
    context: Context,
    english: Collection[str] | None = None,
) -> Fidelity:
    """How true the answers are to the language that they are wanted in, one value a prompt and wanted language.

    Answers that failed say nothing. An answer is crosslingual where it is wanted in another language than its prompt's,
    and its metrics begin with ``crosslingual_``. Each is a share of the answers that

    - ``line_pass_rate``: have a line of enough words whose language could be told: each of these is in the wanted one;
    - ``word_pass_rate``: pass so, in a language of another script than Latin: no judged line has an English word;
    - ``language_confusion_pass_rate``: the harmonic mean 2LW/(L + W) of the two, where both are;
    - ``code_switching``: have such a line: lines in more than one language, or words in a foreign script;
    - ``no_judged_line``: all: none of its lines is so;
    - ``answered_in_<language>``: all: the whole answer's language, ``und`` where it cannot be told;
    - ``asks_other_language``: all, before those to prompts that ask for another language are left out.

    Args:
        examples: all of them, since the harmonic mean belongs to a language's whole set of prompts.
        english: the words that are English, in small letters, as the benchmark lists them. None takes every word of
            four or more small letters a to z for one.

    Raises:
        InputError: an id comes twice, or an answer is wanted in what is no language, or none that is told apart.
    """
    identifier = context.open("language_identifier", options.language_identifier)
    out, counts = Evaluation(), _Counts()
    seen: set[str] = set()
    for batch in batches(examples, 256):
        for example in batch:
            if example.id in seen:
                raise InputError(f"the example {example.id!r} comes a second time; ids are unique in an evaluation")
            seen.add(example.id)
        cells = [cell for example in batch for cell in _cells(example, options, context)]
        read = iter(_read([(cell, answer) for cell in cells for answer in cell.answers], identifier, options, english))
        for cell in cells:
            _add(out, counts, cell, [next(read) for _ in cell.answers])
        context.progress("language fidelity", len(seen), None)
    counts.add_to(out)
    for prefix in ("", CROSSLINGUAL):
        for lang, lines in out.values.get(prefix + LINE, {}).items():
            if not _latin(lang):
                words = out.values.get(prefix + WORD, {}).get(lang, {})
                out.values.setdefault(prefix + BOTH, {})[lang] = harmonic(lines, words)
    return Fidelity(out, counts.matrix())


def rates(evaluation: Evaluation) -> list[str]:
    """The metrics of an evaluation that are rates of their own, in the order in which they are read; the others, the
    shares by language of the answer, are rows of the matrix."""
    return [prefix + rate for prefix in ("", CROSSLINGUAL) for rate in RATES if prefix + rate in evaluation.values]


def wanted_languages(examples: Iterable[Example], options: LanguageFidelityOptions) -> list[str]:
    """The languages that answers are given or wanted in, which an identifier must tell apart."""
    found: dict[str, None] = {}
    for example in examples:
        for candidate in example.candidates:
            found |= dict.fromkeys((candidate.lang, _wanted(example, candidate, options)[0]))
    return list(found)


def harmonic(lines: Mapping[str, float], words: Mapping[str, float]) -> dict[str, float]:
    """The harmonic mean F = 2LW/(L + W) of two means as one value a prompt, whose mean is F.

    A prompt's value is F + ∂F/∂L (l − L) + ∂F/∂W (w − W)·|lines|/|words|, the last where it has a w; so the standard
    error of their mean is the delta method's. ``words`` has prompts of ``lines`` alone; none where no line passes, and
    F is 0.
    """
    line = math.fsum(lines.values()) / len(lines)
    word = math.fsum(words.values()) / len(words) if words else 0.0
    if not line or not word:
        return dict.fromkeys(lines, 0.0)
    by_line, by_word = (2 * (other / (line + word)) ** 2 for other in (word, line))
    more = len(lines) / len(words)
    return {
        prompt: 2 * line * word / (line + word)
        + by_line * (value - line)
        + (by_word * more * (words[prompt] - word) if prompt in words else 0.0)
        for prompt, value in lines.items()
    }


@dataclass(frozen=True, slots=True)
class _Cell:
    """The answers to one prompt that are wanted in one language; ``asking`` were left out, since their prompt asks for
    another; None where that was not looked for."""

    prefix: str
    example: str
    lang: str
    answers: list[str]
    asking: int | None


@dataclass(frozen=True, slots=True)
class _Read:
    """What one answer shows; None where it does not say."""

    answered: str
    line_pass: bool | None
    word_pass: bool | None
    switching: bool | None


def _cells(example: Example, options: LanguageFidelityOptions, context: Context) -> Iterator[_Cell]:
    taken: dict[tuple[str, str], list[str]] = {}
    asking: Counter[str] = Counter()
    for candidate in example.candidates:
        other = options.model is not None and candidate.model != options.model
        if other or not live(candidate) or not (candidate.origin is None or candidate.origin in options.origins):
            continue
        lang, named = _wanted(example, candidate, options)
        _check_known(lang, example, context)
        prefix = "" if languages.same(lang, candidate.lang) else CROSSLINGUAL
        answers = taken.setdefault((prefix, lang), [])
        if options.leave_out_asking and not named and asks_other_language(example, candidate.lang, context.pivot):
            asking[lang] += 1
        else:
            answers.append(candidate.text)
    looked_for = options.leave_out_asking and options.answer_in is None and bool(example.prompts)
    for (prefix, lang), answers in taken.items():
        yield _Cell(prefix, example.id, lang, answers, asking[lang] if looked_for and not prefix else None)


def _wanted(example: Example, candidate: Candidate, options: LanguageFidelityOptions) -> tuple[str, bool]:
    """The language that an answer is wanted in, and whether that was said: else it is its prompt's."""
    key = options.answer_in_key
    said = None if key is None else candidate.extra.get(key, example.extra.get(key))
    if said is None:
        return options.answer_in or candidate.lang, options.answer_in is not None
    if not isinstance(said, str):
        raise InputError(
            f"{key} of example {example.id!r} is {said!r}; write the language that the answer is wanted in"
        )
    return languages.normalise(said), True


def _check_known(lang: str, example: Example, context: Context) -> None:
    known = dict.fromkeys((*context.languages, context.pivot))
    if context.languages and not any(languages.same(lang, tag) for tag in known):
        raise InputError(
            f"an answer of example {example.id!r} is wanted in {lang}, which is none of the languages that are told "
            f"apart ({', '.join(known)}); add it to them"
        )


def _latin(lang: str) -> bool:
    return "LATIN" in alphabets([lang])


def _read(
    answers: Sequence[tuple[_Cell, str]],
    identifier: LanguageIdentifier,
    options: LanguageFidelityOptions,
    english: Collection[str] | None,
) -> Iterator[_Read]:
    """All languages are told at once, those of whole answers first."""
    lines = [judged_lines(text, options.fewest_words) for _, text in answers]
    texts = [text for _, text in answers] + [line for judged in lines for line in judged]
    found = iter([identified.tag for identified in identifier.identify(texts)])
    whole = [next(found) or UNDETERMINED for _ in answers]
    for (cell, _), judged, answered in zip(answers, lines, whole, strict=True):
        tags = [next(found) for _ in judged]
        told = list(dict.fromkeys(tag for tag in tags if tag is not None))
        line_pass = word_pass = switching = None
        if told or (tags and options.undetermined == "fail"):
            line_pass = all(languages.same(tag, cell.lang) for tag in told)
            line_pass &= options.undetermined == "skip" or None not in tags
        if told:
            own = alphabets(told)
            switching = len(told) > 1 or any(has_foreign_word(line, own) for line in judged)
        if line_pass and not _latin(cell.lang):
            word_pass = not any(has_english_word(line, english) for line in judged)
        yield _Read(answered, line_pass, word_pass, switching)


def _add(out: Evaluation, counts: _Counts, cell: _Cell, read: Sequence[_Read]) -> None:
    if cell.asking is not None:
        out.add(ASKS_OTHER, cell.lang, cell.example, cell.asking / (cell.asking + len(read)))
    shares: dict[str, list[bool | None]] = {
        LINE: [answer.line_pass for answer in read],
        WORD: [answer.word_pass for answer in read],
        SWITCHING: [answer.switching for answer in read],
        UNJUDGED: [answer.line_pass is None for answer in read],
    }
    for metric, values in shares.items():
        said = [value for value in values if value is not None]
        out.add(cell.prefix + metric, cell.lang, cell.example, sum(said) / len(said) if said else None)
    if read:
        counts.by_prompt.setdefault((cell.prefix, cell.lang), {})[cell.example] = Counter(a.answered for a in read)


@dataclass(slots=True)
class _Counts:
    """(prefix, wanted language) → prompt → in which languages its answers are."""

    by_prompt: dict[tuple[str, str], dict[str, Counter[str]]] = field(default_factory=dict)

    def totals(self) -> Iterator[tuple[str, str, Counter[str]]]:
        for (prefix, lang), prompts in self.by_prompt.items():
            total: Counter[str] = Counter()
            for found in prompts.values():
                total += found
            yield prefix, lang, total

    def add_to(self, out: Evaluation) -> None:
        """A share for every language that any prompt was answered in, 0 where a prompt was not."""
        for prefix, lang, total in self.totals():
            for tag, _ in total.most_common():
                for prompt, found in self.by_prompt[prefix, lang].items():
                    out.add(f"{prefix}{ANSWERED}{tag}", lang, prompt, found[tag] / found.total())

    def matrix(self) -> dict[str, dict[str, dict[str, int]]]:
        out: dict[str, dict[str, dict[str, int]]] = {"monolingual": {}, "crosslingual": {}}
        for prefix, lang, total in self.totals():
            out["crosslingual" if prefix else "monolingual"][lang] = dict(total.most_common())
        return out
