"""Whether the files and folders that a recipe names are there, told before anything is opened."""

from __future__ import annotations

from pathlib import Path

from polypref.errors import RecipeError
from polypref.recipe import Recipe
from polypref.stages.prompts import PromptOptions


def check_paths(recipe: Recipe, name: str) -> None:
    """Refuse input paths that plainly are not there, without opening anything.

    Raises:
        RecipeError: every missing path, a line each.
    """
    wrong = []
    specs = {"models.policy": recipe.models.policy, "models.reference": recipe.models.reference}
    for where, section in (("translate", recipe.translate), ("translate_prompts", recipe.translate_prompts)):
        specs[f"{where}.model"] = section.model if section else None
    if recipe.evaluate:
        specs["evaluate.quality_model"] = recipe.evaluate.quality_model
    for name_of_judge, spec_of_judge in recipe.evaluate.judges.items() if recipe.evaluate else ():
        specs[f"evaluate.judges.{name_of_judge}.model"] = spec_of_judge.model
    if recipe.sft:
        specs["sft.start"] = recipe.sft.start
        specs["sft.translate.model"] = recipe.sft.translate.model if recipe.sft.translate else None
    if recipe.reward_models:
        specs["reward_models.start"] = recipe.reward_models.start
        made = recipe.reward_models.translate
        specs["reward_models.translate.model"] = made.model if made else None
    if recipe.representation:
        specs["representation.base"] = recipe.representation.base
    for reward, spec in recipe.rewards.items():
        specs |= {f"rewards.{reward}.model": spec.model, f"rewards.{reward}.reference": spec.reference}
    for where, spec in specs.items():
        if spec is None:
            continue
        local = spec.path.startswith(("/", "./", "../", "~"))
        if spec.backend in ("hf", "vllm") and local and not Path(spec.path).expanduser().is_dir():
            wrong.append(f"{name}: {where}: no folder {spec.path}; give a checkpoint's folder or a hub name")
    sources: dict[str, PromptOptions | None] = {"prompts": recipe.prompts}
    if recipe.alignment:
        sources["alignment.prompts"] = recipe.alignment.prompts
    if recipe.evaluate:
        sources |= {"evaluate.prompts": recipe.evaluate.prompts, "evaluate.labelled": recipe.evaluate.labelled}
    template = recipe.reward_models.train.chat_template if recipe.reward_models else None
    if template and not Path(template).expanduser().is_file():
        wrong.append(f"{name}: reward_models.train.chat_template: no file {template}")
    if recipe.reward_models:
        sources["reward_models.data"] = recipe.reward_models.data
        sources["reward_models.validation"] = recipe.reward_models.validation
    if recipe.sft:
        sources |= {"sft.data": recipe.sft.data, "sft.validation": recipe.sft.validation}
    if recipe.diagnose:
        sources["diagnose.prompts"] = recipe.diagnose.prompts
    if recipe.judge:
        sources |= {"judge.data": recipe.judge.data, "judge.training": recipe.judge.training}
    if recipe.representation:
        sources["representation.texts"] = recipe.representation.texts
    for where, source in sources.items():
        path = "" if source is None else str(source.path)
        if path.startswith(("/", "./", "../", "~")) and not Path(path).expanduser().exists():
            wrong.append(f"{name}: {where}.path: {path} does not exist")
    if wrong:
        raise RecipeError("\n".join(wrong))
