"""``polypref best-of-n``: the best of a prompt's samples by a score, and what every n is worth; files in, files out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Input, Output, Pivot, answer, options_of, switch, through
from polypref.errors import RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the command under the command line's root."""
    app.command("best-of-n")(best_of_n)


def best_of_n(
    score: Annotated[str, typer.Option(help="the name of the score that picks")],
    input_: Input,
    output: Output,
    n: Annotated[
        list[int] | None, typer.Option("--n", help="how many samples; several give a curve, pairs take the greatest")
    ] = None,
    quality: Annotated[str | None, typer.Option(help="a second score of the picked sample, e.g. a judge's")] = None,
    keep: Annotated[str, typer.Option(help="all: every candidate, with pairs; picked: the picked ones alone")] = "all",
    temperature: Annotated[
        float | None, typer.Option(help="soft best-of-n: pick by softmax(score/temperature)")
    ] = None,
    seed: Annotated[int, typer.Option(help="of soft picks")] = 0,
    model: Annotated[str | None, typer.Option(help="only samples of this model, where there are several")] = None,
    policy_logprob: Annotated[
        str | None, typer.Option(help="the score that holds log π by the sampled model; gives kl")
    ] = None,
    reference_logprob: Annotated[
        str | None, typer.Option(help="the score that holds log π_ref; gives kl_from_reference")
    ] = None,
    language_check: Annotated[str, typer.Option(help="on or off: pick no answer in another language")] = "off",
    drop_truncated: Annotated[str, typer.Option(help="on or off: pick no answer cut at the token limit")] = "on",
    pivot: Pivot = "en",
    as_json: AsJson = False,
) -> None:
    """The best of n samples of each prompt and language, and what every n is worth."""
    from polypref.stages import best_of_n as stage

    if not n:
        raise RecipeError("--n is missing; say how many samples, e.g. --n 1 --n 4 --n 16")
    options = options_of(
        stage.BestOfNOptions,
        score=score,
        n=n,
        quality=quality,
        keep=keep,
        temperature=temperature,
        seed=seed,
        model=model,
        policy_logprob=policy_logprob,
        reference_logprob=reference_logprob,
        language_check=switch(language_check, "--language-check"),
        drop_truncated=switch(drop_truncated, "--drop-truncated"),
    )
    told: dict[str, Any] = {}

    def work(examples: Any, context: Any) -> Iterator[Any]:
        found = stage.evaluations(examples, options, context)
        told["curve"] = stage.rows(found)
        told["mean"] = stage.mean_rows(found)
        return stage.best_of_n(examples, options, context)

    told |= _counted(through(input_, output, work, pivot))
    if as_json or output == "-":
        answer(told, as_json, output)
    else:
        for line in _table(told["curve"]):
            print(line)


def _counted(examples: Iterable[Any]) -> dict[str, Any]:
    """Pairs, picked samples that were kept alone, and drops by reason, each by language."""
    from polypref.stages.pair_filters import STAGE

    pairs: Counter[str] = Counter()
    picked: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {}
    for example in examples:
        pairs.update(pair.lang for pair in example.pairs)
        picked.update(c.lang for c in example.candidates if "best_of" in c.extra)
        for drop in example.dropped:
            if drop.stage == STAGE and drop.lang is not None:
                dropped.setdefault(drop.lang, Counter())[drop.reason] += 1
    return {"pairs": pairs, "picked": picked, "dropped": dropped}


def _table(curve: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The curve in words: one line a language and n, with the standard errors over prompts."""
    for lang, rows in curve.items():
        for row in rows:
            metrics = [name for name in row if f"{name}_n" in row]
            shown = ", ".join(f"{name} {row[name]:.4g}{_error(row[f'{name}_stderr'])}" for name in metrics)
            prompts = f"{row['score_n']} prompt" + "s" * (row["score_n"] > 1)
            yield f"{lang} n={row['n']}: {shown}, KL ≤ {row['kl_bound']:.4g} ({prompts})"


def _error(stderr: float | None) -> str:
    return "" if stderr is None else f" ± {stderr:.2g}"
