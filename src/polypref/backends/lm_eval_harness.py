"""Standard tasks through lm-eval (EleutherAI's language model evaluation harness): the only file that imports it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polypref.backends.base import ModelSpec, Progress, silent
from polypref.backends.tasks import Ran, TaskSettings
from polypref.errors import InputError, MissingExtraError, ModelError, RecipeError

try:
    import lm_eval
    from lm_eval.api import model as lm_eval_model
    from lm_eval.api import task as lm_eval_task
    from lm_eval.models import huggingface
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml
except ImportError as error:
    raise MissingExtraError("lm-eval", "eval") from error

BUILT_IN = Path(lm_eval.__file__).parent
CUT = ("Combined length of context", "Left truncation applied", "Context length (")
"""How lm-eval's warnings begin of a question that did not fit the model's window."""


class LmEvalHarness:
    """lm-eval's tasks, and those of a folder of the user's, which may name one of lm-eval's anew."""

    def __init__(self, include: Path | None = None, built_in: bool = True) -> None:
        """
        Args:
            include: a folder of task files; one with the name of lm-eval's own takes its place.
            built_in: lm-eval's own tasks as well, which are thousands of files to read.

        Raises:
            InputError: ``include`` is no folder, or holds a task that cannot be read.
        """
        self.version = f"lm-eval {metadata.version('lm-eval')}"
        self.include = include
        if include is not None:
            _check(include)
        with _heard():
            self._manager = TaskManager(include_path=include, include_defaults=built_in)
        self._models: dict[tuple[str, bool, int], Any] = {}

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._manager.all_tasks)

    def names(self) -> frozenset[str]:
        """Every task, group and tag."""
        return self._names

    def identity(self, task: str) -> dict[str, Any]:
        """lm-eval's own tasks are told by its version; of others the definition counts, the Python files of the folder
        that is included, and the local files that ``data_files`` names."""
        parts: dict[str, Any] = {}
        for entry in self._entries(task):
            own = entry.yaml_path is not None and not entry.yaml_path.is_relative_to(BUILT_IN)
            parts[entry.name] = _definition(entry.cfg, self.include) if own and self.include else None
        return parts

    def _entries(self, name: Any) -> Iterator[Any]:
        """The entry of a name and those below it."""
        entry = self._manager.task_index.get(name) if isinstance(name, str) else None
        if entry is None:
            return
        yield entry
        below = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else sorted(entry.tags)
        for child in (below if entry.kind.name in ("GROUP", "TAG") else None) or ():
            yield from self._entries(child.get("task") if isinstance(child, Mapping) else child)

    def run(self, model: ModelSpec, task: str, settings: TaskSettings, progress: Progress = silent) -> Ran:
        """Put a task, or a group of tasks, to a model; of a group, the items of all its tasks together.

        Raises:
            InputError: the task's data cannot be read, it has no item, or it would run code that the model writes.
            ModelError: the model cannot be opened, has no chat template that is asked for, or too short a window.
        """
        if any((entry.cfg or {}).get("unsafe_code") for entry in self._entries(task)):
            raise InputError(f"{task} runs code that the model writes; use lm-eval itself, in a sandbox")
        loaded = self._loaded(task, settings)
        lm = self._model(model, settings)
        with _heard() as said, _shown(progress, task):
            try:
                found: Any = lm_eval.evaluate(
                    lm=lm,
                    task_dict=loaded,
                    limit=settings.limit,
                    bootstrap_iters=0,
                    apply_chat_template=settings.apply_chat_template,
                    fewshot_as_multiturn=settings.apply_chat_template,
                    system_instruction=settings.system,
                )
            except AssertionError as error:  # how lm-eval says that a window is too short
                raise ModelError(f"{task} cannot be put to {model.path}: {_line(error)}; try --max-tokens") from error
        return _ran(found, task, settings.num_fewshot, said)

    def _loaded(self, task: str, settings: TaskSettings) -> Any:
        """The task with its data, which is read before its model is opened, so that what is amiss is said at once.

        As in ``lm_eval.simple_evaluate``, a task that fixes no worked examples keeps none.
        """
        for seed in (random.seed, np.random.seed, torch.manual_seed):  # a task may shuffle its data
            seed(settings.seed)
        try:
            with _heard(), _shown(silent, task):
                loaded = self._manager.load([task])
        except Exception as error:  # a hub out of reach, a bad file, a user's function: each library's own error
            path = next((e.cfg["dataset_path"] for e in self._entries(task) if (e.cfg or {}).get("dataset_path")), None)
            raise InputError(
                f"the data of {task}{f' ({path})' if path else ''} cannot be read ({_line(error)}); connect to the "
                "hub, or set HF_HOME to a cache that holds it"
            ) from error
        for one in loaded["tasks"].values():
            fixed = one.get_config("num_fewshot")
            if fixed is None or (fixed != 0 and settings.num_fewshot is not None):
                one.set_config(key="num_fewshot", value=settings.num_fewshot or 0)
            if settings.max_tokens is not None and one.get_config("output_type") == "generate_until":
                one.set_config(key="generation_kwargs", value={"max_gen_toks": settings.max_tokens}, update=True)
            one.set_fewshot_seed(seed=settings.seed)
        return loaded

    def _model(self, spec: ModelSpec, settings: TaskSettings) -> Any:
        """The model as lm-eval wants it, opened by us: the same files, dtype and adapters as everywhere."""
        from polypref.backends.hf_models import Opening, load_causal
        from polypref.backends.templates import PromptTemplate

        if spec.backend != "hf":
            raise RecipeError(f"standard tasks need the model's own files, not a {spec.backend} backend; name a folder")
        key = spec.model_dump_json(), settings.apply_chat_template, settings.batch_size
        if key not in self._models:
            opening = Opening.of(spec)
            template = dict(spec.chat_template_kwargs)
            if settings.apply_chat_template:
                template = PromptTemplate(opening.tokenizer, template).arguments
            weights = opening.weights("causal", load_causal)
            with _heard():
                lm = huggingface.HFLM(
                    pretrained=weights.switch(opening.adapter),
                    tokenizer=opening.tokenizer,
                    backend="causal",
                    batch_size=settings.batch_size,
                    chat_template_args=template,
                )
            self._models[key] = lm, weights, opening.adapter
        lm, weights, adapter = self._models[key]
        weights.switch(adapter)
        return lm


def _check(include: Path) -> None:
    """lm-eval passes over a file that it cannot read and over a second task of a name: that task would only be
    missing."""
    files = sorted(include.glob("**/*.yaml")) if include.is_dir() else []
    if not files:
        raise InputError(f"--include-path {include} holds no .yaml; name a folder of lm-eval tasks")
    first: dict[str, Path] = {}
    for file in files:
        try:
            name = str(load_yaml(file, resolve_func=False).get("task"))
        except Exception as error:
            raise InputError(f"{file} is no task of lm-eval ({_line(error)}); mend it or take it away") from error
        if name in first and name != "None":
            raise InputError(f"{file} and {first[name]} are both called {name}; rename one of them")
        first[name] = file


def _definition(cfg: Mapping[str, Any], folder: Path) -> Any:
    """A user's task, whatever folder it lies in: functions are named by it, so their place is taken out. They may
    stand in any of its files, since a task can include another's."""
    code = {str(file.relative_to(folder)): _digest(file) for file in sorted(folder.glob("**/*.py"))}
    data = {str(path): _digest(path) for path in _data_files(cfg)}
    return [str(cfg).replace(str(folder), ""), code, data]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _data_files(cfg: Mapping[str, Any]) -> Iterator[Path]:
    named = (cfg.get("dataset_kwargs") or {}).get("data_files") or ()
    pending = [named]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if Path(one).is_file():
                yield Path(one)
        else:
            pending += one.values() if isinstance(one, Mapping) else one


def _ran(found: Mapping[str, Any], task: str, wanted: int | None, said: Sequence[str]) -> Ran:
    """What lm-eval found, with the items of all tasks of a group together.

    Raises:
        InputError: there is no item.
    """
    items: dict[str, dict[str, float]] = {}
    left_out: dict[str, float | None] = {}
    samples: list[dict[str, Any]] = []
    for name, logged in found["samples"].items():
        samples += [{"task": name, **one} for one in logged]
        for metric, values in _items(name, logged, task).items():
            known = _told(found["results"][name], metric)
            if values is None or not _same(known, math.fsum(values.values()) / len(values)):
                left_out[metric] = _number(known)
            else:
                items.setdefault(metric, {}).update(values)
    whole = found["results"].get(task) or {}
    for metric, values in items.items():
        known = _told(whole, metric)
        if known is not None and not _same(known, math.fsum(values.values()) / len(values)):
            left_out[metric] = _number(known)
    items = {metric: values for metric, values in items.items() if metric not in left_out}
    if not samples:
        raise InputError(f"{task} has no item; look at its split and its process_docs")
    remarks = [f"{task}: {metric} is no mean over items, so it has no place in results.json" for metric in left_out]
    if cut := any(message.startswith(CUT) for message in said):
        remarks.append(f"{task}: questions that are too long for the model's window lost their beginning")
    shots = {name: found["n-shot"][name] for name in found["samples"]}
    if fixed := [name for name, shown in shots.items() if wanted is not None and shown != wanted]:
        remarks.append(f"{task}: {fixed[0]} fixes {shots[fixed[0]]} worked examples, so {wanted} are not shown")
    remarks += [f"{task}: {message}" for message in dict.fromkeys(said) if not message.startswith(CUT)]
    versions = {name: found["versions"].get(name) for name in found["samples"]}
    about = {"num_fewshot": shots, "versions": versions, "cut": cut}
    return Ran(items, samples, about, left_out, remarks)


def _items(name: str, logged: Sequence[Mapping[str, Any]], task: str) -> dict[str, dict[str, float] | None]:
    """Metric → item → value of one task; None where a value is no number.

    An item is called by its own id, which parallel languages share, else by its place; in a group the task's name comes
    before it, without the group's, which names the language.
    """
    ids = [one["doc"].get("id") for one in logged if one["filter"] == logged[0]["filter"]]
    own = all(isinstance(i, int | str) for i in ids) and len(set(ids)) == len(ids)
    front = "" if name == task else name.removeprefix(f"{task}_") + "/"
    out: dict[str, dict[str, float] | None] = {}
    for one in logged:
        item = f"{front}{one['doc']['id'] if own else one['doc_id']}"
        for metric in one["metrics"]:
            full = metric if one["filter"] == "none" else f"{metric},{one['filter']}"
            value, values = _number(one[metric]), out.setdefault(full, {})
            if value is None or values is None:
                out[full] = None
            else:
                values[item] = value
    return out


def _told(figures: Mapping[str, Any], metric: str) -> Any:
    """lm-eval's own figure of a metric, whose filter it names in any case."""
    return figures.get(metric if "," in metric else f"{metric},none")


def _number(value: Any) -> float | None:
    """A finite number, a truth value among them; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _same(known: Any, mean: float) -> bool:
    number = _number(known)
    return number is not None and math.isclose(number, mean, rel_tol=1e-9, abs_tol=1e-12)


def _line(error: BaseException) -> str:
    """The first line of what an exception says, in at most 200 characters."""
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200].rstrip(".")


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What lm-eval warns of, kept from the terminal."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, ear = logging.getLogger("lm_eval"), Ear(logging.WARNING)
    before = logger.propagate
    logger.addHandler(ear)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(ear)
        logger.propagate = before


@contextlib.contextmanager
def _shown(progress: Progress, task: str) -> Iterator[None]:
    """lm-eval's own bars as steps of ours, and no other bars."""

    class Bar:
        def __init__(self, items: Iterable[Any] = (), total: int | None = None, desc: str = "", **rest: Any) -> None:
            self.items, self.total, self.done = items, total, 0
            self.what = f"{task}: {desc.removeprefix('Running ').removesuffix(' requests')}" if desc else ""

        def __iter__(self) -> Iterator[Any]:
            return iter(self.items)

        def update(self, count: int) -> None:
            self.done += count
            if self.what:
                progress(self.what, self.done, self.total)

        def close(self) -> None:
            pass

    from datasets import utils as bars

    modules = (lm_eval_task, lm_eval_model, huggingface)
    before = [module.tqdm for module in modules]
    shown = not bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    for module in modules:
        module.tqdm = Bar
    try:
        yield
    finally:
        for module, bar in zip(modules, before, strict=True):
            module.tqdm = bar
        if shown:
            bars.enable_progress_bars()
