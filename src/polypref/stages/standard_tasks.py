"""Standard tasks in many languages by one name: which tasks of the harness they are, what a model got, and the figures.

Every figure is first one number an item (``Evaluation``), so that its standard error counts items, parallel languages
are one cluster, and two models are compared item by item. A task that is done is kept in its own file and not put
again, unless the model, the task or the settings changed.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from polypref import languages
from polypref.backends.base import Context, ModelSpec
from polypref.backends.tasks import Harness, Ran, TaskSettings
from polypref.errors import InputError, RecipeError, did_you_mean
from polypref.stages.evaluate import Evaluation, category_name
from polypref.store.atomic import digest, replacing, write_json

VERSION: int = 1

ENDS = ("", "_stderr", "_n")
"""Of a metric's name in results.json: its value, its standard error, its items."""
FOLDER = "tasks"
"""Where a folder of results keeps what each model got: ``tasks/<model>/<task>.json`` and ``….samples.jsonl``."""


@dataclass(frozen=True, slots=True)
class Family:
    """A task that there is in many languages. ``pattern`` is its name in the harness, ``english`` the original's where
    that is named otherwise, ``metric`` the one that papers report, ``items`` the name of its items where another family
    has the same ones."""

    pattern: str
    metric: str
    english: str | None = None
    items: str | None = None


FAMILIES: dict[str, Family] = {
    "arc": Family("arc_{lang}", "acc_norm", english="arc_challenge"),
    "hellaswag": Family("hellaswag_{lang}", "acc_norm", english="hellaswag"),
    "mmlu": Family("m_mmlu_{lang}", "acc", english="mmlu"),
    "truthfulqa_mc1": Family("truthfulqa_{lang}_mc1", "acc", english="truthfulqa_mc1", items="truthfulqa"),
    "truthfulqa_mc2": Family("truthfulqa_{lang}_mc2", "acc", english="truthfulqa_mc2", items="truthfulqa"),
    "mgsm": Family("mgsm_native_cot_{lang}", "exact_match,flexible-extract"),
    "mgsm_direct": Family("mgsm_direct_{lang}", "exact_match,flexible-extract", items="mgsm"),
    "mgsm_en_cot": Family("mgsm_en_cot_{lang}", "exact_match,flexible-extract", items="mgsm"),
    "global_mmlu": Family("global_mmlu_{lang}", "acc"),
    "global_mmlu_full": Family("global_mmlu_full_{lang}", "acc"),
}
"""The harness's tasks in the languages that they were translated into: ARC, HellaSwag, MMLU and TruthfulQA of Lai et
al. 2023 (Okapi, arXiv 2307.16039), MGSM of Shi et al. 2022 (arXiv 2210.03057), Global-MMLU of Singh et al. 2024 (arXiv
2412.03304), its shared subset and the whole."""

GROUPS: dict[str, tuple[str, ...]] = {
    "multilingual": ("arc", "hellaswag", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2", "mgsm"),
    "truthfulqa": ("truthfulqa_mc1", "truthfulqa_mc2"),
}
"""Several families by one name. Of a group, a family that lacks a language is left out there, and said."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A task of the harness that is to be put: the family and the language that its figures belong to."""

    task: str
    family: str
    lang: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks that were asked for; ``absent`` says which families of a group lack which language."""

    tasks: tuple[Planned, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A task that a model has been put, as it is kept. ``model`` and ``asked`` are all that its outcome depends on: a
    digest of the model, and the task and settings; ``items``, ``left_out`` and ``about`` are those of ``Ran``."""

    model: str
    task: str
    family: str
    lang: str
    asked: dict[str, Any]
    about: dict[str, Any]
    left_out: dict[str, float | None]
    items: dict[str, dict[str, float]]


def evaluation_of(done: Iterable[Done]) -> Evaluation:
    """Metric → language → item → value; a metric is ``<family>_<metric>``, as ``arc_acc_norm``."""
    out = Evaluation()
    for one in done:
        own = FAMILIES.get(one.family)
        items = (own.items if own else None) or one.family
        for metric, values in one.items.items():
            name = metric_name(one.family, metric)
            for item, value in values.items():
                out.add(name, one.lang, f"{items}/{item}", value)
    return out


def metric_name(family: str, metric: str) -> str:
    """How results.json calls a metric of a family: in [a-z0-9_]."""
    return category_name(f"{family} {metric}")


def headline(done: Iterable[Done]) -> list[str]:
    """The metrics that papers report of these tasks, in their order; of a family that is not ours, all."""
    names: dict[str, None] = {}
    for one in done:
        known = FAMILIES.get(one.family)
        for metric in [known.metric] if known and known.metric in one.items else one.items:
            names[metric_name(one.family, metric)] = None
    return list(names)


def plan(asked: Sequence[str], tags: Sequence[str], names: Collection[str]) -> Plan:
    """The harness's tasks for what was asked in some languages.

    Args:
        asked: a group, a family, the front of tasks ``NAME_<language>`` (a user's own), or ``TASK:LANGUAGE`` for one
            task whatever its name.
        tags: normalised languages; ``TASK:LANGUAGE`` needs none.
        names: every task of the harness.

    Raises:
        RecipeError: there is no such task, or not in that language; the message says which languages there are.
    """
    found: dict[Planned, None] = {}
    absent = []
    for name in asked:
        task, colon, lang = name.rpartition(":")
        if colon:
            found[_single(task, languages.normalise(lang), names)] = None
            continue
        if not tags:
            raise RecipeError(f"--tasks {name} needs languages; name them with --languages, e.g. --languages en,es")
        families = GROUPS.get(name, (name,))
        there = {family: _tasks(family, names) for family in families}
        if not any(there.values()):
            known = sorted({*FAMILIES, *GROUPS})
            hint = f"give its language, as {name}:en" if name in names else did_you_mean(name, known)
            raise RecipeError(f"--tasks {name!r} is no task in several languages; {hint}")
        for tag in tags:
            chosen = {family: _in_language(tasks, tag) for family, tasks in there.items()}
            if not any(chosen.values()):
                known = sorted(set().union(*there.values()))
                single = f"; for the one task say {name}:LANGUAGE" if name in names and name not in FAMILIES else ""
                raise RecipeError(f"there is no {name} in {tag}; there is {', '.join(known)}{single}")
            for family, task in chosen.items():
                if task is None:
                    absent.append(f"there is no {family} in {tag}, so {name} goes without it there")
                else:
                    found[Planned(task, family, tag)] = None
    return Plan(tuple(found), tuple(absent))


def _near(name: str, names: Collection[str]) -> str:
    """A hint that does not list the thousands of tasks that a harness has."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "lm-eval ls tasks lists them"


def _single(task: str, lang: str, names: Collection[str]) -> Planned:
    if task not in names:
        raise RecipeError(f"--tasks: there is no task {task!r}; {_near(task, names)}")
    return Planned(task, task, lang)


def _tasks(family: str, names: Collection[str]) -> dict[str, str]:
    """Language → the harness's task of a family."""
    own = FAMILIES.get(family, Family(family + "_{lang}", ""))
    front, _, back = own.pattern.partition("{lang}")
    pattern = re.compile(re.escape(front) + r"([A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?)" + re.escape(back))
    found = {}
    for name in sorted(names):
        if code := pattern.fullmatch(name):
            with contextlib.suppress(InputError):  # easy of arc_easy is no language
                found[languages.normalise(code[1])] = name
    if own.english is not None and own.english in names:
        found["en"] = own.english
    return found


def _in_language(tasks: Mapping[str, str], tag: str) -> str | None:
    """The task of a language; zh stands for zh-Hans where there is no other Chinese."""
    near = [name for lang, name in tasks.items() if lang.partition("-")[0] == tag.partition("-")[0]]
    return tasks.get(tag) or (near[0] if len(near) == 1 else None)


def run_tasks(
    tasks: Sequence[Planned],
    model: ModelSpec,
    name: str,
    settings: TaskSettings,
    harness: Harness,
    folder: Path,
    context: Context,
    fingerprint: Callable[[ModelSpec], str],
) -> list[Done]:
    """Put the tasks to a model, each once: what ``folder`` holds under the same key stands.

    Raises:
        InputError: a task's data cannot be read, it has no item, or the folder holds results of another model under
            the name.
        ModelError: the model cannot be opened.
    """
    if not name or name.startswith("."):
        raise RecipeError(f"a model's results cannot be called {name!r}; name it with a letter in front")
    done = []
    place = folder / FOLDER / quote(name, safe="")
    told = digest(model.identity(fingerprint))
    if any(one.model != told for one in _kept(place)):
        raise InputError(
            f"{place} holds tasks of another model, or of one opened in another way; name this one otherwise with "
            "--name, or remove that folder"
        )
    for count, task in enumerate(tasks, 1):
        asked = {
            "stage": VERSION,
            "harness": harness.version,
            "task": digest(harness.identity(task.task)),
            "settings": settings.identity(fingerprint),
        }
        file = place / f"{quote(task.task, safe='')}.json"
        standing = _read(file) if file.exists() else None
        if standing is None or (standing.asked, standing.family, standing.lang) != (asked, task.family, task.lang):
            ran = harness.run(model, task.task, settings, context.progress)
            for remark in ran.remarks:
                context.warn(remark)
            standing = _done(told, task, asked, ran)
            _write_samples(file.with_suffix(".samples.jsonl"), ran)
            write_json(file, asdict(standing))
        done.append(standing)
        context.progress(f"standard tasks of {name}", count, len(tasks))
    return done


def _done(model: str, task: Planned, asked: dict[str, Any], ran: Ran) -> Done:
    items = {metric: dict(values) for metric, values in ran.items.items()}
    return Done(model, task.task, task.family, task.lang, asked, dict(ran.about), dict(ran.left_out), items)


def _write_samples(path: Path, ran: Ran) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sample in ran.samples:
            file.write(json.dumps(_plain(sample), ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """A harness's value as JSON: a number that JSON lacks and an object of a library are their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def kept(folder: Path) -> dict[str, list[Done]]:
    """Model → its tasks that ``folder`` holds, by name.

    Raises:
        InputError: a file cannot be read.
    """
    places = sorted(place for place in (folder / FOLDER).glob("*") if place.is_dir())
    return {unquote(place.name): found for place in places if (found := _kept(place))}


def _kept(place: Path) -> list[Done]:
    return [_read(file) for file in sorted(place.glob("*.json"))]


def _read(file: Path) -> Done:
    try:
        return Done(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{file} is no kept task that can be read ({error}); remove it to put the task again"
        ) from None


def merged(found: Mapping[str, Any], name: str, model: str, done: Sequence[Done]) -> dict[str, Any]:
    """The object of a results.json with a model's figures of standard tasks beside what is there.

    They join the model's other metrics and take the place of its former standard tasks; ``standard_tasks`` says how
    each was put, and to whom: ``model`` is its fingerprint. Tables of the alignment tax that the model is in are
    dropped.
    """
    results = {step: {lang: dict(figures) for lang, figures in by.items()} for step, by in found["results"].items()}
    put = dict(found.get("standard_tasks") or {})
    mine = results.setdefault(name, {})
    for former in put.get(name, {}).values():
        for metric in former["metrics"]:
            for end in ENDS:
                mine.get(former["language"], {}).pop(metric + end, None)
    for lang, figures in evaluation_of(done).figures().items():
        mine.setdefault(lang, {}).update(figures)
    put[name] = {
        one.task: {
            "model": model,
            "family": one.family,
            "language": one.lang,
            "metrics": [metric_name(one.family, metric) for metric in one.items],
            "harness": one.asked["harness"],
            "settings": one.asked["settings"],
            "left_out": one.left_out,
            **one.about,
        }
        for one in done
    }
    tables = [table for table in found.get("alignment_tax") or () if name not in (table["from"], table["to"])]
    return {**found, "results": results, "standard_tasks": put, "alignment_tax": tables}


def carried(former: Mapping[str, Any], results: Mapping[str, Any], models: Mapping[str, str]) -> dict[str, Any]:
    """The parts of a results.json that standard tasks have, taken over from a former one into ``results`` that are made
    anew: ``results``, ``standard_tasks`` and ``alignment_tax``, the latter two None where there is nothing.

    Args:
        models: name → fingerprint of the models that the new results are of. What another model got under such a name
            is left behind, with its tables of the tax.
    """
    put = {
        name: tasks
        for name, tasks in (former.get("standard_tasks") or {}).items()
        if name not in models or all(task.get("model") == models[name] for task in tasks.values())
    }
    out = {step: {lang: dict(figures) for lang, figures in by.items()} for step, by in results.items()}
    for name, tasks in put.items():
        mine, theirs = out.setdefault(name, {}), former["results"][name]
        for task in tasks.values():
            known = theirs.get(task["language"], {})
            names = [metric + end for metric in task["metrics"] for end in ENDS if metric + end in known]
            mine.setdefault(task["language"], {}).update({metric: known[metric] for metric in names})
    tables = [table for table in former.get("alignment_tax") or () if {table["from"], table["to"]} <= put.keys()]
    return {"results": out, "standard_tasks": put or None, "alignment_tax": tables or None}
