"""``polypref evaluate languages``: do models answer in the language that they are asked to answer in?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_specs import named
from polypref.cli_stages import AsJson, Pivot, options_of
from polypref.cli_terminal import Terminal
from polypref.errors import InputError, RecipeError

if TYPE_CHECKING:
    from polypref.backends.base import Context
    from polypref.records import Example
    from polypref.stages.language_fidelity import Fidelity


def add_to(app: typer.Typer) -> None:
    """Put the command under ``polypref evaluate``."""
    app.command("languages")(languages_)


def languages_(
    input_: Annotated[
        str | None, typer.Option("--input", help="answers in the wire format, .jsonl or .parquet; - is stdin")
    ] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="a model's answers: a file, a folder with one file a language, or a path with {language}; may be "
            "given several times",
        ),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="of --answers: what they answer, in any shape of docs/inputs.md")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="of --answers: the language of those that do not tell it")
    ] = None,
    answer_in: Annotated[
        str | None, typer.Option(help="the language that every answer is wanted in; its prompt's when left out")
    ] = None,
    answer_in_key: Annotated[
        str | None, typer.Option(help="of --input: the field of an answer or example that names that language")
    ] = None,
    fewest_words: Annotated[int, typer.Option(help="a line with fewer words is not judged")] = 5,
    undetermined: Annotated[str, typer.Option(help="skip or fail: a line whose language cannot be told")] = "skip",
    english_words: Annotated[
        Path | None,
        typer.Option(help="the English words, one a line; any of four or more letters a to z when left out"),
    ] = None,
    asking: Annotated[str, typer.Option(help="leave-out or keep: answers to prompts that ask for another language")] = (
        "leave-out"
    ),
    pivot: Pivot = "en",
    as_json: AsJson = False,
) -> None:
    """Line and word pass rates (Language Confusion Benchmark), code-switching, and asked against answered language."""
    from polypref import languages, registry
    from polypref.stages.language_answers import by_model
    from polypref.stages.language_fidelity import LanguageFidelityOptions, language_fidelity, wanted_languages
    from polypref.store.jsonl import read_examples

    if (input_ is None) == (not answers):
        raise RecipeError("name the answers, either with --input FILE or with --answers NAME=PATH")
    if asking not in ("leave-out", "keep"):
        raise RecipeError(f"--asking {asking!r} is neither leave-out nor keep; write one of them")
    options = options_of(
        LanguageFidelityOptions,
        answer_in=answer_in,
        answer_in_key=answer_in_key,
        fewest_words=fewest_words,
        undetermined=undetermined,
        leave_out_asking=asking == "leave-out",
        origins=("sampled", "reference", "human", "translated"),
    )
    english = None if english_words is None else _words(english_words)
    pivot = languages.normalise(pivot)
    with Terminal() as terminal:
        if input_ is not None:
            models = by_model(list(read_examples(input_)))
        else:
            reading, _ = registry.context(progress=terminal.progress, warn=terminal.warn)
            models = _read(answers or [], prompts, language, reading)
        spoken = dict.fromkeys(tag for examples in models.values() for tag in wanted_languages(examples, options))
        context, opener = registry.context(tuple(spoken), pivot, "lingua", terminal.progress, terminal.warn)
        try:
            told = str(context.open("language_identifier", None).fingerprint)
            found = {name: language_fidelity(made, options, context, english) for name, made in models.items()}
        finally:
            opener.close()
    if as_json:
        print(json.dumps(_answer(found, options, told, english), ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(line for name, fidelity in found.items() for line in _told(name, fidelity)))


def _read(
    entries: Sequence[str], prompts: str | None, language: str | None, context: Context
) -> dict[str, list[Example]]:
    """Model → examples, of ``NAME=PATH``."""
    from polypref import languages
    from polypref.stages.answer_files import read_replies
    from polypref.stages.language_answers import of_replies
    from polypref.stages.prompts import PromptOptions, read_prompts

    known: dict[str, Example] = {}
    if prompts is not None:
        reading = options_of(PromptOptions, path=prompts.replace("{language}", "{lang}"), require="any")
        known = {example.id: example for example in read_prompts(reading, context)[0]}
    told = None if language is None else languages.normalise(language)
    paths = dict(named(entries, "--answers", "PATH", "mine=answers/{language}.jsonl"))
    spoken = {tag for example in known.values() for tag in example.prompts} or ({told} if told else set())
    return {name: of_replies(read_replies(path, name, spoken), told, known) for name, path in paths.items()}


def _words(path: Path) -> frozenset[str]:
    try:
        found = frozenset(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); --english-words names a UTF-8 text of one word a line"
        ) from None
    if not found:
        raise InputError(f"{path} is empty; --english-words names a text of one English word a line")
    return found


def _answer(
    found: Mapping[str, Fidelity], options: Any, identifier: str, english: frozenset[str] | None
) -> dict[str, Any]:
    """The figures in the form of results.json, the mean over languages, and the answers counted."""
    from polypref import __version__
    from polypref.stages import language_fidelity as stage
    from polypref.stages.evaluate import figure, signature

    settings = {
        "identifier": identifier,
        "version": stage.VERSION,
        "english": "a-z" if english is None else f"{len(english)} words",
        **options.model_dump(include={"fewest_words", "undetermined", "leave_out_asking", "answer_in"}),
    }
    means = {
        name: {
            key: value
            for metric in stage.rates(fidelity.evaluation)
            for key, value in figure(metric, fidelity.evaluation.mean(metric)).items()
        }
        for name, fidelity in found.items()
    }
    return {
        "results": {name: fidelity.evaluation.figures() for name, fidelity in found.items()},
        "mean": means,
        "matrix": {name: fidelity.matrix for name, fidelity in found.items()},
        "signature": signature(settings, __version__),
    }


def _told(name: str, fidelity: Fidelity) -> Iterator[str]:
    """A table of the rates, and who answered in another language."""
    from polypref.stages import language_fidelity as stage
    from polypref.stages.report_languages import LABELS

    figures, rates = fidelity.evaluation.figures(), stage.rates(fidelity.evaluation)
    for prefix, setting in (("", "monolingual"), (stage.CROSSLINGUAL, "crosslingual")):
        rows = fidelity.matrix[setting]
        columns = [prefix + rate for rate in LABELS if prefix + rate in rates]
        if not rows:
            continue
        yield f"{name}, {setting}: % of answers ± standard error (prompts)"
        yield "  ".join([" " * 8, *(f"{LABELS[rate.removeprefix(prefix)]:>17}" for rate in columns)])
        lines = {lang: {rate: _cell(figures[lang], rate) for rate in columns} for lang in rows}
        if len(rows) > 1:
            means = {rate: fidelity.evaluation.mean(rate) for rate in columns}
            lines["mean"] = {rate: _shown(one.value, one.stderr, one.n) for rate, one in means.items()}
        for lang, cells in lines.items():
            yield "  ".join([f"{lang:<8}", *(f"{cells[rate]:>17}" for rate in columns)])
        for lang, row in rows.items():
            yield f"{lang}: {_answered(lang, row)}"


def _answered(lang: str, row: Mapping[str, int]) -> str:
    from polypref import languages
    from polypref.stages.language_fidelity import UNDETERMINED

    others = {tag: n for tag, n in row.items() if tag != UNDETERMINED and not languages.same(tag, lang)}
    which = f" ({', '.join(f'{tag} {n}' for tag, n in others.items())})" if others else ""
    told = f"{sum(others.values())} of {sum(row.values())} answers in another language{which}"
    return f"{told}, {row.get(UNDETERMINED, 0)} cannot be told"


def _cell(figures: Mapping[str, Any], rate: str) -> str:
    if figures.get(rate) is None:
        return "–"
    return _shown(figures[rate], figures[f"{rate}_stderr"], figures[f"{rate}_n"])


def _shown(value: float, stderr: float | None, n: int) -> str:
    return f"{100 * value:.1f}{'' if stderr is None else f' ± {100 * stderr:.1f}'} ({n})"
