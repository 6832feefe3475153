"""Translation in a run: a layer of its own that the translated view reads and no other view waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from polypref.errors import RecipeError
from polypref.recipe import Recipe
from polypref.store.parquet import read_rows
from polypref.store.shards import Track
from runs import smoke, stamps, written

TRANSLATED = "reward.views=[cross_lingual, translated]"
SHORT = (
    "rounds=1",
    "models.policy.path=fake?version=2&unclosed=0.3",
    "prompts.limit=6",
    "evaluate.prompts.limit=4",
    "shard_size=3",
    "languages=[en, es]",
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    smoke(out, *SHORT)
    before = stamps(out)
    smoke(out, *SHORT, "translate={}", TRANSLATED, "evaluate.reward_accuracy=[cross_lingual, translated]")
    (out.parent / "anew.txt").write_text("\n".join(sorted(written(before, stamps(out)))))
    return out


def candidates(out: Path, layers: tuple[str, ...]) -> list:
    track = Track(out, "prompts", ("en", "es"), "en", layers)
    return [c for e in track.examples() for c in e.candidates]


def test_each_answer_has_a_translation_into_the_pivot_or_a_failure_with_its_reason(out: Path) -> None:
    found = candidates(out, ("round-1/generate", "round-1/translate"))
    answers = [c for c in found if c.origin == "sampled" and c.lang == "es" and c.text.strip() and not c.error]
    children = {c.parent: c for c in found if c.origin == "translated"}
    assert set(children) == {c.id for c in answers}
    assert {c.error for c in children.values()} <= {None, "no_closing_tag", "wrong_language: es"}
    assert all(bool(c.text) == (c.error is None) for c in children.values())
    assert {c.model for c in children.values()} == {"policy"}


def test_the_translated_view_scores_what_was_translated_and_no_view_scores_a_translation(out: Path) -> None:
    layers = ("round-1/generate", "round-1/translate", "round-1/score-cross_lingual", "round-1/score-translated")
    found = candidates(out, layers)
    whole = {c.parent for c in found if c.origin == "translated" and c.error is None}
    spanish = [c for c in found if c.origin == "sampled" and c.lang == "es"]
    assert {c.id for c in spanish if "translated" in c.scores} == whole
    assert all("cross_lingual" in c.scores for c in spanish if not c.error)
    assert not any(c.scores for c in found if c.origin == "translated")
    dropped = [r for p in (out / "round-1/score-translated/es").glob("*.parquet") for _, r in read_rows(p)]
    reasons = {d["reason"] for row in dropped for d in row.get("dropped") or ()}
    assert reasons == {"no_translation"}


def test_translating_recomputes_no_answer_and_no_other_score(out: Path) -> None:
    anew = (out.parent / "anew.txt").read_text().split("\n")
    shards = [name for name in anew if name.endswith(".parquet")]
    assert shards
    assert not [name for name in shards if "/generate/" in name or "score-cross_lingual" in name]


def test_the_same_run_again_writes_nothing(out: Path) -> None:
    before = stamps(out)
    found = smoke(out, *SHORT, "translate={}", TRANSLATED, "evaluate.reward_accuracy=[cross_lingual, translated]")
    assert not {name for name in written(before, stamps(out)) if name.endswith(".parquet")}
    assert found is not None


def test_a_translated_view_without_translations_is_refused(tmp_path: Path) -> None:
    for asked in (TRANSLATED, "evaluate.reward_accuracy=[translated]"):
        with pytest.raises(RecipeError, match="translate"):
            smoke(tmp_path / "out", asked)
    with pytest.raises(RecipeError, match="seq2seq"):
        smoke(tmp_path / "out", "translate={method: seq2seq}")


def test_the_sections_words_reach_the_stage() -> None:
    tree = {
        "models": {"reference": "r", "policy": "p"},
        "prompts": {"path": "x.jsonl"},
        "translate": {"max_tokens": 9, "model": {"path": "m", "name": "mt"}},
    }
    recipe = Recipe.model_validate(tree)
    options = recipe.translate.options(recipe.models.reference, "from_pivot", "to_pivot")
    assert (options.translator.model.path, options.translator.max_tokens, options.role) == ("m", 9, "mt")
    assert options.directions == ("from_pivot", "to_pivot")
