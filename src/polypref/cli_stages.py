"""The stages alone: one command each, files in, files out (``-`` is stdin or stdout)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polypref.cli_terminal import Terminal
from polypref.errors import RecipeError, did_you_mean

Input = Annotated[str, typer.Option("--input", help="a wire-format file, .jsonl or .parquet, or its URL; - is stdin")]
Output = Annotated[str, typer.Option("--output", help="where to write it, or a URL; replaced at once, only on success")]
AsJson = Annotated[bool, typer.Option("--json", help="print the machine's answer on stdout")]
Pivot = Annotated[str, typer.Option(help="the language that preferences exist in")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")]

Work = Callable[[Any, Any], Iterator[Any]]
"""``work(examples, context)`` gives examples."""
Read = Callable[[], Iterator[Any]]
"""Gives the examples of the input from its first on, as often as it is asked."""
Rereading = Callable[[Read, Any], Iterator[Any]]
"""``work(read, context)`` gives examples."""

score = typer.Typer(help="Score candidates.", no_args_is_help=True, rich_markup_mode=None)
pair = typer.Typer(help="Make preference pairs of scored candidates.", no_args_is_help=True, rich_markup_mode=None)


class PolicyUnlessNamed(TyperGroup):
    """``polypref train --model …`` trains a policy, as ``polypref train policy --model …`` does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] != "--help":
            args = ["policy", *args]
        return super().parse_args(ctx, args)


training = typer.Typer(
    cls=PolicyUnlessNamed, help="Train a policy or a reward model.", no_args_is_help=True, rich_markup_mode=None
)
evaluate = typer.Typer(help="Win rates, transfer tables, figures.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Put the stages' commands under the command line's root."""
    app.command()(generate)
    app.add_typer(score, name="score")
    app.add_typer(pair, name="pair")
    app.add_typer(training, name="train")
    app.add_typer(evaluate, name="evaluate")


def options_of(tree: Any, /, **values: Any) -> Any:
    """An options tree of command-line values, with every mistake told by its option's name."""
    from pydantic import ValidationError

    from polypref.mistakes import mistakes

    try:
        return tree.model_validate(values)
    except ValidationError as error:
        found = mistakes(error, tree, values)
        told = dict.fromkeys(f"{_option(path)}: {reason}" for path, reason in found.items())
        raise RecipeError("\n".join(told)) from None


def _option(path: tuple[str, ...]) -> str:
    """The option that sets a path: the last of its names, and for a model's path the model's."""
    names = [part for part in path if not part.isdigit()]
    if len(names) > 1 and names[-1] == "path":
        names.pop()
    if not names:
        return "the options"
    return "--" + ("as" if names[-1] == "name" else names[-1].replace("_", "-"))


def through(source: str, target: str, work: Work, pivot: str = "en", shape: str = "wire") -> list[Any]:
    """Read examples, work on them in a context of their languages, write them when all of them are done.

    Every line is read before the work begins, so that a bad one is told before a model is opened.
    """
    from polypref.store.jsonl import read_examples, write_examples

    _check_target(target)
    with Terminal() as terminal:
        examples = list(read_examples(source, terminal.warn) if shape == "wire" else _of_shape(source, shape, pivot))
        languages = dict.fromkeys(lang for e in examples for lang in (*e.prompts, *(c.lang for c in e.candidates)))
        with _context(terminal, pivot, tuple(languages)) as context:
            done = list(work(examples, context))
    write_examples(target, done)
    return done


def _of_shape(source: str, shape: str, pivot: str) -> list[Any]:
    """The examples of data in another shape than the wire format."""
    from polypref.stages.prompts import PromptOptions, read_prompts

    options = options_of(PromptOptions, path=source, shape=shape, require="any")
    with Terminal() as terminal, _context(terminal, pivot) as context:
        return read_prompts(options, context)[0]


def stream(source: str, target: str, work: Rereading, pivot: str = "en", needs_languages: bool = False) -> None:
    """The same with few examples in memory at a time; the target takes its name when the last one is written.

    What asks for more than one look at the examples reads the input again: the language check must know the languages
    of all of them before the first, and length control fits α over them.
    """
    from polypref.store.jsonl import read_examples, write_examples

    with _written(target) as place, Terminal() as terminal, _rereadable(source) as given:
        warn = iter([terminal.warn])  # what the lines are warned of is told once

        def read() -> Iterator[Any]:
            return read_examples(given, next(warn, None))

        languages: dict[str, None] = {}
        if needs_languages:
            languages = dict.fromkeys(tag for e in read() for tag in (*e.prompts, *(c.lang for c in e.candidates)))
        with _context(terminal, pivot, tuple(languages)) as context:
            write_examples(place, work(read, context))


@contextlib.contextmanager
def _rereadable(source: str) -> Iterator[str]:
    """A file that may be read several times: the source, or what a pipe gives, kept in a temporary file of its name."""
    from polypref.store.atomic import replacing

    path = Path(source)
    # What is not there or may not be read is told when it is read.
    if source != "-" and (path.is_file() or path.is_dir() or not os.access(path, os.R_OK)):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / ("stdin" if source == "-" else path.name)
        pipe = contextlib.nullcontext(sys.stdin.buffer) if source == "-" else path.open("rb")
        with pipe as given, replacing(kept) as unfinished, unfinished.open("wb") as file:
            shutil.copyfileobj(given, file)
        yield str(kept)


@contextlib.contextmanager
def _written(target: str) -> Iterator[str]:
    """Where to write: the target, or for stdout a temporary file that is given out when the block has ended well, since
    within the terminal stdout is not the command's own."""
    _check_target(target)
    if target != "-":
        yield target
        return
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "stdout.jsonl"
        yield str(kept)
        with kept.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()


def _check_target(target: str) -> None:
    from polypref.store import places
    from polypref.store.atomic import check_target
    from polypref.store.urls import is_url

    if is_url(target):
        places.opened(target)
    elif target != "-":
        check_target(Path(target))


@contextlib.contextmanager
def _context(terminal: Terminal, pivot: str, languages: tuple[str, ...] = ()) -> Iterator[Any]:
    from polypref import registry

    context, opener = registry.context(languages, pivot, progress=terminal.progress, warn=terminal.warn)
    try:
        yield context
    finally:
        opener.close()


def answer(found: Any, as_json: bool, output: str) -> None:
    if as_json:
        # Where the examples go to stdout, the figures make way.
        print(json.dumps(found, ensure_ascii=False), file=sys.stderr if output == "-" else sys.stdout)


@score.command("implicit")
def score_implicit(
    policy: Annotated[str, typer.Option(help="the aligned model: a folder or a hub name")],
    reference: Annotated[str, typer.Option(help="what it was aligned from")],
    input_: Input,
    output: Output,
    policy_adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --policy")] = None,
    reference_adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --reference")] = None,
    view: Annotated[str, typer.Option(help="cross_lingual, multilingual or translated")] = "cross_lingual",
    pivot: Pivot = "en",
    beta: Annotated[float, typer.Option(help="β of the implicit reward")] = 0.1,
    normalise: Annotated[str, typer.Option(help="sum or mean over answer tokens")] = "sum",
    prefix: Annotated[str | None, typer.Option(help="before the pivot's prompt; {language} is the answer's")] = None,
    dtype: Dtype = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="tokens of one forward pass; 16384, on a CPU 1024 when left out")
    ] = None,
    backend: Annotated[str, typer.Option(help="hf or fake")] = "hf",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
    as_: Annotated[str | None, typer.Option("--as", help="name of the score")] = None,
) -> None:
    """β·[log π(y | G(x)) − log π_ref(y | G(x))], summed over the answer's tokens."""
    from polypref.stages.score import ImplicitOptions, implicit

    shared = {
        "dtype": dtype,
        "device": device,
        "batch_tokens": batch_tokens,
        "backend": backend,
        "trust_remote_code": trust_remote_code,
    }
    values: dict[str, Any] = {"view": view, "pivot": pivot, "beta": beta, "normalise": normalise, "name": as_}
    options = options_of(
        ImplicitOptions,
        policy={"path": policy, "adapter": policy_adapter, **shared},
        reference={"path": reference, "adapter": reference_adapter, **shared},
        **values,
        **({} if prefix is None else {"prefix": prefix}),
    )
    through(input_, output, lambda examples, context: implicit(examples, options, context), options.pivot)


def settings(given: Sequence[str] | None, known: Collection[str] = ()) -> dict[str, Any]:
    """The values of ``--set NAME=VALUE``, read as YAML; where names are known, another one is refused."""
    from polypref.recipe_file import parse_value

    values: dict[str, Any] = {}
    for entry in given or ():
        name, equals, text = entry.partition("=")
        if not equals:
            raise RecipeError(f"--set {entry!r} is no NAME=VALUE")
        if known and name not in known:
            raise RecipeError(f"--set {name}: no such option; {did_you_mean(name, known)}")
        values[name] = parse_value(text, f"--set {name}")
    return values


def switch(value: str, option: str) -> bool:
    """on or off."""
    if value not in ("on", "off"):
        raise RecipeError(f"{option} is {value!r}; say on or off")
    return value == "on"


@evaluate.command("transfer")
def evaluate_transfer(
    accuracy: Annotated[Path, typer.Option(help="CSV: source_language, target_language, accuracy")],
    win_rate: Annotated[Path, typer.Option(help="CSV: source_language, target_language, win_rate")],
    as_json: AsJson = False,
) -> None:
    """What reward-model accuracy says of win rates across languages."""
    from polypref.stages.transfer import read_table, transfer

    _tell(transfer(read_table(accuracy, "accuracy"), read_table(win_rate, "win_rate")), as_json)


@evaluate.command("figures")
def evaluate_figures(
    input_: Input,
    quality: Annotated[str | None, typer.Option(help="the score that says how good an answer is")] = None,
    reward: Annotated[
        list[str] | None, typer.Option(help="a score whose accuracy on labelled answers is asked")
    ] = None,
    language_fidelity: Annotated[str, typer.Option(help="on or off")] = "on",
    as_json: AsJson = False,
) -> None:
    """Quality, reward accuracy, language, length and truncation by language, with standard errors and n."""
    from polypref import registry
    from polypref.stages.evaluate import EvaluateOptions
    from polypref.stages.evaluate import evaluate as work
    from polypref.store.jsonl import read_examples

    options = options_of(
        EvaluateOptions,
        quality=quality,
        reward_accuracy={name: name for name in reward or ()},
        language_fidelity=switch(language_fidelity, "--language-fidelity"),
        origins=("sampled", "reference", "human", "translated"),
    )
    examples = list(read_examples(input_))
    languages = tuple(dict.fromkeys(lang for e in examples for lang in e.prompts))
    context, opener = registry.context(languages)
    try:
        _tell(work(examples, options, context).figures(), as_json)
    finally:
        opener.close()


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return
    for name, value in found.items():
        print(f"{name}: {json.dumps(value, ensure_ascii=False)}")


def generate(
    model: Annotated[str, typer.Option(help="a folder, a hub name, or a server's model")],
    input_: Input,
    output: Output,
    backend: Annotated[str, typer.Option(help="hf, vllm, openai or fake")] = "hf",
    url: Annotated[str | None, typer.Option(help="of an OpenAI-compatible server, ending with /v1")] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model")] = None,
    language: Annotated[list[str] | None, typer.Option(help="only these; every prompt's when left out")] = None,
    n: Annotated[int, typer.Option(help="answers a prompt and language")] = 1,
    temperature: Annotated[float | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    top_k: Annotated[int | None, typer.Option()] = None,
    repetition_penalty: Annotated[float | None, typer.Option()] = None,
    max_tokens: Annotated[int, typer.Option()] = 512,
    stop: Annotated[list[str] | None, typer.Option(help="text that ends an answer; may be given several times")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    dtype: Dtype = "auto",
    device: Annotated[str | None, typer.Option()] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
) -> None:
    """Sample answers; the ones that are there already stay and are not drawn again."""
    from polypref.stages.generate import GenerateOptions
    from polypref.stages.generate import generate as stage

    options = options_of(
        GenerateOptions,
        sources=[
            {
                "role": "policy",
                "n": n,
                "model": {
                    "path": model,
                    "backend": backend,
                    "url": url,
                    "adapter": adapter,
                    "dtype": dtype,
                    "device": device,
                    "trust_remote_code": trust_remote_code,
                },
            }
        ],
        sampling={
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "repetition_penalty": repetition_penalty,
            "max_tokens": max_tokens,
            "stop": stop or (),
            "seed": seed,
        },
        languages=language or (),
    )
    through(input_, output, lambda examples, context: stage(examples, options, context))


@training.command("policy")
def train(
    model: Annotated[str, typer.Option(help="the checkpoint to start from: a folder or a hub name")],
    input_: Input,
    output: Annotated[Path, typer.Option("--output", help="the checkpoint's folder; replaced at once, on success")],
    reference: Annotated[str | None, typer.Option(help="of the DPO loss; --model when left out")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a training option, e.g. learning_rate=1e-6")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on a file's pairs: DPO with λ·NLL of the chosen answer, SFT or KTO; runs under accelerate launch."""
    from polypref import registry
    from polypref.api import stage_key
    from polypref.stages import train as stage
    from polypref.store import checkpoint
    from polypref.store.jsonl import read_examples

    values = settings(set_, stage.TrainOptions.model_fields)
    options = options_of(stage.TrainStageOptions, start=model, reference=reference, **values)
    with Terminal() as terminal:
        examples = list(read_examples(input_, terminal.warn))
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        try:
            summary = checkpoint.build(
                output,
                stage_key(examples, options),
                lambda unfinished: stage.train(examples, options, context, unfinished),
            )
        finally:
            opener.close()
    answer(summary, as_json, str(output))
