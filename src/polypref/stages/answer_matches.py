"""From files of prompts and models' answers to the matches that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polypref.backends.base import Context
from polypref.errors import RecipeError
from polypref.records import Example
from polypref.stages.alpaca_eval import REFERENCE, joined, layout, matches, prompts_of, spoken_in
from polypref.stages.answer_files import Reply, read_replies
from polypref.stages.matches import Match
from polypref.stages.prompts import PromptOptions, read_prompts, subset


def read_matches(
    answers: Mapping[str, str],
    context: Context,
    *,
    prompts: str | None = None,
    references: str | None = None,
    baseline: str | None = None,
    languages: Sequence[str] = (),
    id_key: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[list[Match], str | None]:
    """What is to be compared, and the name of the baseline if there is one.

    Args:
        answers: model → path of its answers.
        prompts: their path; those that the answers carry when left out.
        references: the path of reference answers, which are then the baseline, called by their rows' model.
        baseline: whom all are held against; every two meet where neither this nor ``references`` is given.
        languages: normalised tags; all when left out.
        id_key: the prompts' field that joins languages.
        limit: prompts, the first of the order of ``seed``.

    Raises:
        RecipeError: a model is called like the reference answers.
        InputError: as reading, joining and ``alpaca_eval.matches``.
    """
    asked = [] if prompts is None else _prompts(prompts, languages, id_key, context)
    spoken = {lang for example in asked for lang in example.prompts}
    told = tuple(spoken) if len(spoken) == 1 else tuple(languages)
    replies: dict[str, list[Reply]] = {}
    if references is not None:
        found = read_replies(references, None, spoken)
        models = {reply.model for reply in found}
        baseline = (models.pop() if len(models) == 1 else None) or REFERENCE
        replies[baseline] = spoken_in(found, told)
    for name, path in answers.items():
        if name in replies:
            raise RecipeError(f"--answers: {name} is what the reference answers are called; choose another name")
        replies[name] = spoken_in(read_replies(path, name, spoken), told)
    if prompts is None:
        asked = prompts_of(reply for found in replies.values() for reply in found)
    answered = [joined(name, found, asked, context.warn) for name, found in replies.items()]
    return matches(subset(asked, limit, seed), answered, baseline, languages, context.warn), baseline


def _prompts(path: str, languages: Sequence[str], id_key: str | None, context: Context) -> list[Example]:
    how = layout(path)
    options = PromptOptions(
        path=how.prompts.replace("{language}", "{lang}"),
        require="any",
        id_key=id_key or how.id_key,
        category_key=how.category_key,
        languages=tuple(languages),
    )
    return read_prompts(options, context)[0]
