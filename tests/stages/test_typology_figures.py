"""Typology against win rates: tests over pairs as scipy has them, what is left out, and the sentences."""

import random

import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from polypref.errors import InputError
from polypref.stages.language_features import Features
from polypref.stages.transfer import read_table
from polypref.stages.typology import TypologyOptions, cells, languages_of, typology

KNOWN = ("de", "en", "es", "ru", "tr", "vi")

# Made up. Nothing is known of vi in "gender"; es has no value of "case".
MADE_UP = {
    "order": {"de": "none", "en": "SVO", "es": "SVO", "ru": "SVO", "tr": "SOV", "vi": "SVO"},
    "gender": {"de": "3", "en": "0", "es": "2", "ru": "3", "tr": "0"},
    "case": {"de": "4", "en": "2", "ru": "6", "tr": "6", "vi": "0"},
    "tone": {"de": "no", "en": "no", "es": "no", "ru": "no", "tr": "no", "vi": "yes"},
    "vowels": dict.fromkeys(KNOWN, "yes"),
    "name": {lang: lang for lang in KNOWN},
    "clicks": {"de": "no"},
}


def features(table, **rest):
    known = sorted({lang for values in table.values() for lang in values})
    values = {lang: {key: by[lang] for key, by in table.items() if lang in by} for lang in known}
    return Features({key: f"the {key}" for key in table}, values, **rest)


def figures(known=KNOWN, seed=0, **more):
    noise = random.Random(seed)
    return {(s, t): 50 + 10 * noise.random() for s in known for t in known} | more


def groups(pairs, values):
    both = [(s, t) for s, t in pairs if s != t and s in values and t in values]
    return (
        [pairs[p] for p in both if values[p[0]] == values[p[1]]],
        [pairs[p] for p in both if values[p[0]] != values[p[1]]],
    )


def check_against_scipy(pairs, found, table):
    """Every test is scipy's ttest_ind of the two groups, every correction statsmodels' of all tests together."""
    for row in found["features"]:
        shared, other = groups(pairs, table[row["feature"]])
        oracle = scipy_stats.ttest_ind(shared, other, alternative="greater")
        assert (row["t"], row["p"]) == (pytest.approx(oracle.statistic), pytest.approx(oracle.pvalue))
        assert (row["shared_pairs"], row["other_pairs"]) == (len(shared), len(other))
        assert row["difference"] == pytest.approx(row["shared_mean"] - row["other_mean"])
        assert row["missing_pairs"] == found["pairs"] - len(shared) - len(other)
    p = [row["p"] for row in found["features"]]
    assert p == sorted(p)
    for name, method in (("bonferroni", "bonferroni"), ("benjamini_hochberg", "fdr_bh")):
        reject, adjusted, *_ = multipletests(p, alpha=0.05, method=method)
        assert [row[name] for row in found["features"]] == pytest.approx(adjusted)
        assert found["significant"][name] == [
            row["feature"] for row, yes in zip(found["features"], reject, strict=True) if yes
        ]


def test_features_are_tested_over_pairs_of_two_languages():
    pairs = figures()
    found = typology(pairs, features(MADE_UP))
    assert (found["pairs"], found["same_language_left_out"], found["languages"]) == (30, 6, list(KNOWN))
    assert {row["feature"] for row in found["features"]} == {"order", "gender", "case", "tone"}
    check_against_scipy(pairs, found, MADE_UP)


@pytest.mark.parametrize("name", ["best_of_n", "ppo"])
def test_win_rates_of_reuse_your_rewards(real_data, name):
    """The published tables with made-up features: as in the paper none is significant, and that is said."""
    path = real_data / "published" / f"reuse_rewards_{name}_win_rate.csv"
    if not path.exists():
        pytest.skip("the published tables are not here")
    pairs = cells(read_table(path, "win_rate"), "win_rate")
    assert languages_of(pairs) == list(KNOWN)
    found = typology(pairs, features(MADE_UP))
    check_against_scipy(pairs, found, MADE_UP)
    assert found["significant"] == {"bonferroni": [], "benjamini_hochberg": []}
    assert found["sentences"][0].startswith(
        "Of 4 tested features none goes significantly with a higher win_rate on 30 pairs of 6 languages at α = 0.05; "
    )
    assert "This does not show that typology is without effect" in found["sentences"][0]
    assert found["predictors"]["shared_script"]["n"] == 30


def test_what_is_not_known_or_not_tested_is_counted_and_said():
    found = typology(figures((*KNOWN, "ko")), features(MADE_UP, remarks=("chosen",)))
    assert found["untested"] == {
        "no_values": ["clicks"],
        "one_value": ["vowels"],
        "all_differ": ["name"],
        "few_pairs": [],
        "no_spread": [],
    }
    assert found["languages_without_features"] == ["ko"]
    assert found["missing_values"] == {"de": 0, "en": 1, "es": 2, "ru": 1, "tr": 1, "vi": 2}
    assert found["remarks"] == [
        "chosen",
        "no features are known of ko",
        "values that are missing, of 7 features: en 1, es 2, ru 1, tr 1, vi 2",
        "3 of 7 features are not tested: 1 because no pair has a value on both sides; "
        "1 because every pair shares the value; 1 because no pair shares a value",
    ]


def test_small_groups_are_left_out_and_figures_that_do_not_vary():
    """Of case only ru and tr share a value: two pairs."""
    found = typology(figures(), features(MADE_UP), options=TypologyOptions(min_pairs=3))
    assert found["untested"]["few_pairs"] == ["case"]
    found = typology(dict.fromkeys(figures(), 50.0), features(MADE_UP))
    assert (found["tested"], found["untested"]["no_spread"]) == (0, ["order", "gender", "case", "tone"])
    assert found["sentences"][0].startswith("No feature could be tested on 30 pairs of 6 languages")
    assert found["predictors"]["shared_script"]["spearman"] is None
    assert found["sentences"][1].startswith("shared_script: no correlation")


def test_a_feature_that_matters_is_found_with_a_warning():
    """12 languages, two halves; 5 points more within a half, noise of 1."""
    known = ("ar", "de", "en", "es", "fr", "hi", "it", "ko", "pt", "ru", "tr", "vi")
    half, third = ({lang: str(i % parts) for i, lang in enumerate(known)} for parts in (2, 3))
    noise = random.Random(1)
    pairs = {(s, t): 50 + 5 * (half[s] == half[t]) + noise.gauss(0, 1) for s in known for t in known}
    found = typology(pairs, features({"half": half, "third": third}))
    assert found["significant"]["bonferroni"] == ["half"]
    (row,) = [row for row in found["features"] if row["feature"] == "half"]
    assert row["difference"] == pytest.approx(5, abs=0.6)
    assert "take these as hints" in found["sentences"][0]
    assert "goes with a significantly higher win_rate after Bonferroni" in found["sentences"][0]


def test_values_are_told_by_their_names():
    found = typology(
        figures(), features({"81A": {"de": "81A-7", "en": "81A-2", "es": "81A-2"}}, labels={"81A-2": "SVO"})
    )
    assert found["features"][0]["values"] == {"de": "81A-7", "en": "SVO", "es": "SVO"}
    assert found["features"][0]["name"] == "the 81A"


def test_pairs_of_a_language_with_itself_share_everything():
    found = typology(figures(), features(MADE_UP), options=TypologyOptions(same_language=True))
    (row,) = [row for row in found["features"] if row["feature"] == "tone"]
    assert (found["pairs"], row["shared_pairs"], row["other_pairs"]) == (36, 26, 10)
    assert found["untested"]["one_value"] == ["vowels", "clicks"]


def test_features_that_divide_the_pairs_alike_are_one_question():
    """Both say that de and en are alike and es is not, whatever the values are called."""
    alike = {"order": {"de": "1", "en": "1", "es": "2"}, "case": {"de": "no", "en": "no", "es": "yes"}}
    found = typology(figures(), features({**alike, "tone": MADE_UP["tone"]}))
    assert (found["tested"], found["distinct"]) == (3, 2)


def test_welchs_test_is_an_option():
    pairs = figures()
    found = typology(pairs, features({"order": MADE_UP["order"]}), options=TypologyOptions(variances="separate"))
    shared, other = groups(pairs, MADE_UP["order"])
    oracle = scipy_stats.ttest_ind(shared, other, equal_var=False, alternative="greater")
    assert found["features"][0]["p"] == pytest.approx(oracle.pvalue)


# --- predictors ------------------------------------------------------------------------------------------------------


def rows(values):
    return [{"source_language": s, "target_language": t, "value": v} for (s, t), v in values.items()]


def test_the_shared_script_stands_beside_every_table():
    """de, en and vi write Latin, ru and bg Cyrillic."""
    pairs = figures(("de", "en", "vi", "ru", "bg"))
    entry = typology(pairs)["predictors"]["shared_script"]
    assert entry["scripts"] == {"bg": "Cyrl", "de": "Latn", "en": "Latn", "ru": "Cyrl", "vi": "Latn"}
    cross = [pair for pair in pairs if pair[0] != pair[1]]
    same = [float(({"ru", "bg"} & {s, t}) in (set(), {"ru", "bg"})) for s, t in cross]
    y = [pairs[pair] for pair in cross]
    assert entry["pearson"] == pytest.approx(scipy_stats.pearsonr(same, y).statistic)
    assert entry["spearman"] == pytest.approx(scipy_stats.spearmanr(same, y).statistic)
    assert (entry["n"], entry["languages"], entry["missing_pairs"]) == (20, 5, 0)


def test_a_users_table_is_correlated_with_an_interval_over_languages():
    pairs = figures()
    near = {pair: figure / 10 for pair, figure in pairs.items()}
    del near["de", "en"]
    near["es", "en"] = ""
    found = typology(pairs, predictors={"culture": rows(near)})
    entry = found["predictors"]["culture"]
    assert (entry["n"], entry["missing_pairs"], entry["interval"]) == (28, 2, "languages")
    assert (entry["spearman"], entry["pearson"]) == (pytest.approx(1), pytest.approx(1))
    assert (entry["spearman_low"], entry["spearman_high"]) == (pytest.approx(1), pytest.approx(1))
    assert 0.95 * 2000 <= entry["spearman_resamples"] <= 2000
    assert found["sentences"][1].endswith("on 28 pairs of 6 languages; it does not hold 0.")
    assert found["remarks"] == [
        "culture lacks 2 of 30 pairs; a table is read by direction, so a symmetric one has both, "
        "or is named by --symmetric"
    ]


def test_a_symmetric_predictor_holds_in_both_directions():
    pairs = figures()
    near = {(a, b): float(i) for i, (a, b) in enumerate(pairs) if a < b}
    both = near | {(b, a): value for (a, b), value in near.items()}
    by_name = TypologyOptions(symmetric=("culture",))
    half = typology(pairs, predictors={"culture": rows(near)}, options=by_name)
    whole = typology(pairs, predictors={"culture": rows(both)})
    assert half["predictors"]["culture"] == whole["predictors"]["culture"]
    assert (half["predictors"]["culture"]["n"], half["remarks"]) == (30, [])
    assert typology(pairs, predictors={"culture": rows(near)})["predictors"]["culture"]["n"] == 15


def test_a_symmetric_predictor_may_not_contradict_itself_and_must_be_there():
    options = TypologyOptions(symmetric=("culture",))
    two = {("de", "en"): 1, ("en", "de"): 2}
    with pytest.raises(InputError, match="culture has 1 for de on en and 2 for en on de, so it is not symmetric"):
        typology(figures(), predictors={"culture": rows(two)}, options=options)
    with pytest.raises(InputError, match="culture is to be symmetric, but is no predictor"):
        typology(figures(), options=options)


def test_fishers_interval_is_scipys():
    pairs = figures()
    far = dict(zip(pairs, figures(seed=5).values(), strict=True))
    found = typology(pairs, predictors={"far": rows(far)}, options=TypologyOptions(interval="fisher"))
    entry = found["predictors"]["far"]
    cross = [pair for pair in pairs if pair[0] != pair[1]]
    oracle = scipy_stats.pearsonr([far[p] for p in cross], [pairs[p] for p in cross])
    low, high = oracle.confidence_interval()
    assert (entry["pearson_low"], entry["pearson_high"]) == (pytest.approx(low), pytest.approx(high))
    assert "pearson_resamples" not in entry


def test_the_same_table_gives_the_same_figures_in_any_order():
    pairs = figures()
    near = rows(dict(zip(pairs, figures(seed=3).values(), strict=True)))
    first = typology(pairs, features(MADE_UP), {"near": near})
    turned = typology(dict(reversed(pairs.items())), features(MADE_UP), {"near": near[::-1]})
    for name, entry in first["predictors"].items():
        for key, value in entry.items():
            assert turned["predictors"][name][key] == (pytest.approx(value) if isinstance(value, float) else value)
    assert [row["feature"] for row in turned["features"]] == [row["feature"] for row in first["features"]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "the table of value is empty"),
        ({("fr", "it"): 1}, "the predictor culture has no pair of the win_rate table"),
        ({("de", "en"): "near"}, "row 1 of the value table: value is 'near'; it must be a number"),
        ({("de", "en"): "nan"}, "it must be a finite number"),
        ({("de", "en"): 1, ("German", "en"): 2}, "row 2 of the value table: de on en comes a second time"),
        ({("de", "nowhere-ish!"): 1}, "target_language: 'nowhere-ish!' is no language"),
    ],
)
def test_a_wrong_predictor_is_told(values, says):
    with pytest.raises(InputError, match=says):
        typology(figures(), predictors={"culture": rows(values)})


def test_tables_that_give_nothing_are_refused():
    with pytest.raises(InputError, match="has no pair of two languages"):
        typology({("de", "de"): 50.0})
    with pytest.raises(InputError, match="shared_script is made by polypref"):
        typology(figures(), predictors={"shared_script": rows({("de", "en"): 1})})
    with pytest.raises(InputError, match="win_rate is None"):
        cells([{"source_language": "de", "target_language": "en"}], "win_rate")
