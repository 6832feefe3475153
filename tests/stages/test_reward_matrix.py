"""The transfer matrix: cells, means and the best source, by hand, by a published table and by drawing prompts anew."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.maths.stats import clustered_mean, mean_of_means
from polypref.stages.judge_rewards import Judgement
from polypref.stages.reward_items import Item
from polypref.stages.reward_matrix import Matrix, matrix
from polypref.stages.transfer import read_table, transfer


def item(example, lang, credit):
    return Item(str(example), lang, "pair", ("a",), ("b",), (1,), (1,), credit=credit)


def judgement(**credits):
    """Language → the credits of examples 0, 1, …"""
    return Judgement([item(i, lang, c) for lang, of in credits.items() for i, c in enumerate(of)])


TWO = {
    "rm-en": judgement(en=[1.0, 1.0, 1.0, 0.0], es=[1.0, 1.0, 0.0, 0.0]),
    "rm-es": judgement(en=[1.0, 0.0, 0.0, 0.0], es=[1.0, 1.0, 1.0, 0.0]),
}
OWN = {"rm-en": ("en",), "rm-es": ("es",)}


def test_cells_and_means_worked_by_hand():
    """Diagonal ¾ and ¾, off it ½ and ¼. About their cells the diagonal's prompts are 2·¼, 2·¼, 2·¼ and −2·¾ of 2·4:
    s = √(4/3·(3·(1/16)² + (3/16)²)) = ¼."""
    found = matrix(TWO, OWN)
    assert (found.sources, found.targets) == (["rm-en", "rm-es"], ["en", "es"])
    assert found.cells["rm-en"]["es"].value == 0.5
    assert found.cells["rm-en"]["en"] == clustered_mean([1, 1, 1, 0], [0, 1, 2, 3])
    assert (found.diagonal_mean.value, found.diagonal_mean.n) == (0.75, 4)
    assert found.diagonal_mean.stderr == pytest.approx(0.25)
    assert found.off_diagonal_mean.value == 0.375
    assert found.best_source == {"en": "rm-en", "es": "rm-es"}
    assert found.against_own["rm-en"].value == pytest.approx(0.5 - 0.75)
    assert found.against_own["rm-es"].value == pytest.approx(0.25 - 0.75)


def test_errors_of_the_means_are_those_of_means_over_languages():
    """With one item an example and language, stats.mean_of_means over the cells is the same estimate."""
    noise = np.random.default_rng(0)
    judgements = {
        f"rm-{s}": judgement(**{t: noise.integers(0, 2, 30).astype(float) for t in ("en", "es")}) for s in ("en", "es")
    }
    found = matrix(judgements, OWN)
    strata = {s: {i.example: i.credit for i in judgements[f"rm-{s}"].of(s)} for s in ("en", "es")}
    expected = mean_of_means(strata)
    assert found.diagonal_mean.value == pytest.approx(expected.value)
    assert found.diagonal_mean.stderr == pytest.approx(expected.stderr)


def test_the_lead_over_a_targets_own_model_is_paired():
    """On es rm-en is wrong on one prompt more of four: −¼, the differences of the prompts are 0, 0, −1, 0."""
    found = matrix(TWO, OWN).against_own["rm-en"]
    assert (found.value, found.n) == (-0.25, 4)
    assert found.stderr == pytest.approx(np.std([0, 0, -1, 0], ddof=1) / 2)


def test_a_model_of_several_languages_is_at_home_in_all_of_them():
    """rm-both was trained on en and es and has no cell off the diagonal there, so that it is in neither mean; nor does
    it count as a target's own. Where de is judged too, it has 1 there and its cells are ¾, ½ and 1."""
    own = {**OWN, "rm-both": ("en", "es")}
    found = matrix({**TWO, "rm-both": TWO["rm-en"]}, own)
    assert (found.diagonal_mean.value, found.off_diagonal_mean.value) == (0.75, 0.375)
    assert "rm-both" not in found.against_own
    more = Judgement([*TWO["rm-en"].items, item(0, "de", 1.0)])
    found = matrix({**TWO, "rm-both": more}, own)
    assert found.diagonal_mean.value == pytest.approx((0.75 + 0.75 + 0.75 + 0.5) / 4)
    assert found.off_diagonal_mean.value == pytest.approx((0.5 + 0.25 + 1) / 3)


def test_the_two_means_are_of_the_same_models():
    """Without another language than those of its training a model has nothing to be compared with."""
    found = matrix({"rm-both": TWO["rm-en"]}, {"rm-both": ("en", "es")})
    assert (found.diagonal_mean, found.off_diagonal_mean) == (None, None)


def test_the_mean_of_a_source_is_over_the_targets_that_all_have():
    """rm-en has ¾ on en and ½ on es. A source without any verdict takes no target away, one that was not judged on en
    does."""
    silent = Judgement([item("9", "en", None)])
    found = matrix({**TWO, "silent": silent}, OWN).means
    assert {name: one.value for name, one in found.items()} == {"rm-en": 0.625, "rm-es": 0.5}
    assert found["rm-en"] == mean_of_means({t: {i.example: i.credit for i in TWO["rm-en"].of(t)} for t in ("en", "es")})
    partial = {"rm-en": TWO["rm-en"], "rm-es": Judgement(TWO["rm-es"].of("es"))}
    assert {name: one.value for name, one in matrix(partial, OWN).means.items()} == {"rm-en": 0.5, "rm-es": 0.75}
    apart = {"rm-en": Judgement(TWO["rm-en"].of("en")), "rm-es": Judgement(TWO["rm-es"].of("es"))}
    assert matrix(apart, OWN).means == {}


def test_a_model_off_the_shelf_is_in_neither_mean():
    found = matrix({**TWO, "shelf": TWO["rm-en"]}, OWN)
    assert found.diagonal_mean == matrix(TWO, OWN).diagonal_mean
    assert "shelf" in found.cells
    assert "shelf" not in found.trained_on
    assert matrix({"shelf": TWO["rm-en"]}, {}).diagonal_mean is None


def test_the_best_source_with_its_uncertainty():
    """On en rm-en is ahead on two prompts of four and nowhere behind: it is the best unless none of them is drawn, when
    both are equal: 1 − ½·(½)⁴ = 0.96875 of all resamples."""
    found = matrix(TWO, OWN, seed=1, resamples=20_000).share_best["en"]
    assert found["rm-en"] + found["rm-es"] == pytest.approx(1)
    assert found["rm-en"] == pytest.approx(1 - 0.5**5, abs=5 * math.sqrt(0.5**5 / 20_000))


def test_equal_sources_share_being_best():
    found = matrix({"a": TWO["rm-en"], "b": TWO["rm-en"]}, {}, resamples=50)
    assert found.share_best == {"en": {"a": 0.5, "b": 0.5}, "es": {"a": 0.5, "b": 0.5}}


def test_the_same_prompts_are_drawn_for_every_source_and_target():
    """b is always one prompt's credit behind a, whichever prompts are drawn, so a is always best; in es the other way
    round. Drawn apart, they would change places now and then."""
    noise = np.random.default_rng(3).random(40)
    ahead, behind = noise.tolist(), (noise - 1e-3).tolist()
    found = matrix({"a": judgement(en=ahead, es=behind), "b": judgement(en=behind, es=ahead)}, {}, resamples=200)
    assert found.share_best == {"en": {"a": 1.0, "b": 0.0}, "es": {"a": 0.0, "b": 1.0}}


def test_the_bootstrap_is_told_by_its_seed():
    close = {"a": judgement(en=[1.0, 0.0] * 20), "b": judgement(en=[0.0, 1.0] * 20)}
    first, again, other = (matrix(close, {}, seed=seed).share_best["en"]["a"] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert 0.4 < first < 0.6


def test_a_cell_that_was_not_judged_is_left_out():
    """rm-es was not judged on en; an item without a verdict counts in no cell."""
    partial = {"rm-en": TWO["rm-en"], "rm-es": Judgement([*TWO["rm-es"].of("es"), item("9", "en", None)])}
    found = matrix(partial, OWN)
    assert set(found.cells["rm-es"]) == {"es"}
    assert found.share_best["en"] == {"rm-en": 1.0}
    assert found.off_diagonal_mean.value == 0.5
    assert found.diagonal_mean.value == 0.75  # rm-en's alone: rm-es has nothing off the diagonal


def test_a_matrix_is_written_and_read():
    found = matrix(TWO, OWN, seed=3, resamples=40)
    plain = json.loads(json.dumps(found.to_json()))
    assert Matrix.from_json(plain) == found
    cell = plain["cells"]["rm-en"]["en"]
    assert set(cell) == {"accuracy", "stderr", "low", "high", "n"}
    assert 0 < cell["low"] < cell["accuracy"] == 0.75 < cell["high"] < 1
    assert plain["best"]["en"]["source"] == "rm-en"
    assert (plain["diagonal_mean"]["value"], plain["resamples"], plain["seed"]) == (0.75, 40, 3)


def test_nothing_to_compare_is_told():
    with pytest.raises(InputError, match="there is no reward to compare"):
        matrix({}, {})
    with pytest.raises(InputError, match="none of a, b reached a verdict"):
        matrix({"a": Judgement([item("1", "en", None)]), "b": Judgement()}, {})


def test_means_of_the_published_accuracies(real_data):
    """The 36 accuracies of Wu et al. 2024: means and best sources as ``transfer`` has them, and 70.15 on the diagonal,
    (71.0 + 67.4 + 72.3 + 65.7 + 73.2 + 71.3)/6."""
    path = real_data / "published" / "reuse_rewards_rm_accuracy.csv"
    rows = [row for _, row in read_table(path, "accuracy") if "baseline" not in row["source_language"]]
    judgements = {}
    for row in rows:
        of = judgements.setdefault(row["source_language"], Judgement())
        of.items.append(item(0, row["target_language"], float(row["accuracy"]) / 100))
    found = matrix(judgements, {source: (source,) for source in judgements}, resamples=10)
    expected = transfer(rows, [{**row, "win_rate": row["accuracy"]} for row in rows])
    assert 100 * found.diagonal_mean.value == pytest.approx(70.15)
    assert 100 * found.diagonal_mean.value == pytest.approx(expected["mono_mean"])
    assert 100 * found.off_diagonal_mean.value == pytest.approx(expected["cross_mean"])
    assert found.best_source == expected["best_source"]


credits = st.dictionaries(
    st.sampled_from(["en", "es", "de"]), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6), min_size=1
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abc"), credits, min_size=1), st.randoms(use_true_random=False))
def test_neither_the_order_of_items_nor_the_names_of_languages_matter(models, random):
    judgements = {name: judgement(**of) for name, of in models.items()}
    own = {name: (next(iter(of)),) for name, of in models.items()}
    names = {"en": "ar", "es": "fr", "de": "sw"}
    other = {
        name: Judgement([item(i.example, names[i.lang], i.credit) for i in random.sample(j.items, len(j.items))])
        for name, j in judgements.items()
    }
    found = matrix(judgements, own, resamples=20)
    again = matrix(other, {name: (names[tag],) for name, (tag,) in own.items()}, resamples=20)
    for source, row in found.cells.items():
        assert {names[t]: cell.value for t, cell in row.items()} == pytest.approx(
            {t: cell.value for t, cell in again.cells[source].items()}
        )
    for target, shares in found.share_best.items():
        assert again.share_best[names[target]] == pytest.approx(shares)
        assert sum(shares.values()) == pytest.approx(1)
    assert (again.diagonal_mean is None) == (found.diagonal_mean is None)
    if found.diagonal_mean:
        assert again.diagonal_mean.value == pytest.approx(found.diagonal_mean.value)
