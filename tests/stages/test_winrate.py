"""Win rates of judgments: what is refused, and AlpacaEval 2's published leaderboard."""

import csv
import json
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.stages.judgments import read_judgments
from polypref.stages.winrate import winrate


def judgment(**rest):
    row = {"id": "a", "language": "en", "preference": 1, "model_length": 10, "baseline_length": 20}
    return row | rest


def test_a_win_rate_is_told_in_percent_and_by_language():
    noise = random.Random(0)
    rows = [
        judgment(
            id=f"{lang}{i}",
            language=lang,
            preference=noise.choice([0, 0.5, 1]),
            model_length=noise.randint(1, 99),
            baseline_length=noise.randint(1, 99),
        )
        for lang in ("en", "Spanish")
        for i in range(50)
    ]
    found = winrate(rows)
    mean = sum(r["preference"] for r in rows) / 100
    stderr = math.sqrt(sum((r["preference"] - mean) ** 2 for r in rows) / 99 / 100)
    assert (found["win_rate"], found["n"]) == (pytest.approx(100 * mean), 100)
    assert found["win_rate_stderr"] == pytest.approx(100 * stderr)
    assert set(found["by_language"]) == {"en", "es"}
    alone = winrate([r for r in rows if r["language"] == "Spanish"])
    assert "by_language" not in alone
    assert found["by_language"]["es"] == alone
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (judgment(preference=None), "preference is null and error is missing"),
        (judgment(preference=2), "preference is 2.0; it must lie between 0"),
        (judgment(preference=True), "preference is True; it must be a number"),
        (judgment(preference="1"), "preference is '1'"),
        (judgment(model_length=-1), "model_length is -1"),
        (judgment(baseline_length=math.nan), "baseline_length is nan"),
        (judgment(difficulty="hard"), "difficulty is 'hard'"),
        (judgment(language="klingonese?"), "language: 'klingonese"),
        (judgment(id=7), "id is 7"),
        ([1], "the row is no object"),
    ],
)
def test_a_wrong_judgment_is_told_with_row_and_field(row, says):
    with pytest.raises(InputError, match=r"^row 2: ") as error:
        winrate([judgment(), row])
    assert says in str(error.value)


def test_judgments_are_told_with_file_and_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(judgment()) + "\n\n" + json.dumps(judgment(preference=-1)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^j\.jsonl:3: preference is -1"):
        read_judgments(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        read_judgments(path)


def test_difficulties_are_for_all_or_for_none():
    with pytest.raises(InputError, match=r"missing in 1 of 2 judgments \(first: 'b'\)"):
        winrate([judgment(difficulty=1.0), judgment(id="b")])
    with pytest.raises(InputError, match="no judgment has a difficulty"):
        winrate([judgment()], difficulty_weight=1.0)
    with pytest.raises(InputError, match="at least one"):
        winrate([])


def published_judgments(folder, name):
    difficulty = [*json.loads((folder / "instruction_difficulty.json").read_text(encoding="utf-8")).values()]
    lines = (folder / "annotations" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    for i, (line, hard) in enumerate(zip(lines, difficulty, strict=True)):
        row = json.loads(line)
        preference = row["preference"] - 1 if row["preference"] else 0.5
        yield judgment(
            id=str(i),
            preference=preference,
            model_length=row["model_chars"],
            baseline_length=row["baseline_chars"],
            difficulty=hard,
        )


def test_win_rates_of_the_alpacaeval_leaderboard(real_data):
    """Published raw rates to 10⁻⁴ points, length-controlled ones within 0.15 under the published weights."""
    folder = real_data / "alpaca_eval"
    with (folder / "published.csv").open(encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    assert len(published) == 6
    for row in published:
        found = winrate(
            published_judgments(folder, row["model"]),
            length_weight=float(row["glm_w_length"]),
            difficulty_weight=float(row["glm_w_difficulty"]),
        )
        assert found["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-4)
        assert found["length_controlled_win_rate"] == pytest.approx(float(row["length_controlled_winrate"]), abs=0.15)
        assert found["weights"]["intercept"] == pytest.approx(float(row["glm_w_model"]), abs=0.02)


# --- parts, intervals, what is not told ------------------------------------------------------------------------------


def parallel(prompts=60, languages=("en", "es", "de"), models=("one",), judges=("judge",), seed=0):
    """A prompt is won or lost in all languages alike, but for one language in five."""
    noise = random.Random(seed)
    for i in range(prompts):
        for model in models:
            alike = noise.choice([0.0, 1.0])
            for language in languages:
                for judge in judges:
                    preference = alike if noise.random() < 0.8 else noise.choice([0.0, 0.5, 1.0])
                    yield judgment(
                        id=f"p{i}",
                        language=language,
                        model=model,
                        judge=judge,
                        preference=preference,
                        model_length=noise.randint(1, 999),
                        baseline_length=noise.randint(1, 999),
                    )


def test_parallel_languages_are_not_independent():
    """Copying every judgment into another language tells nothing new: value, error and interval stay, n doubles."""
    once = winrate(rows := list(parallel(languages=("en",))))
    twice = winrate([*rows, *({**row, "language": "es"} for row in rows)])
    for figures in (twice, twice["macro_average"]):
        for name in ("win_rate", "length_controlled_win_rate"):
            for end in ("", "_stderr", "_low", "_high"):
                assert figures[name + end] == pytest.approx(once[name + end], rel=1e-3)
        assert (figures["n"], figures["prompts"]) == (120, 60)
    assert twice["macro_average"]["languages"] == ["en", "es"]


def test_the_macro_average_gives_each_language_the_same_weight():
    rows = list(parallel())
    found = winrate([row for row in rows if row["language"] != "de" or row["id"] < "p3"])
    by_language, mean = found["by_language"], found["macro_average"]
    for name in ("win_rate", "length_controlled_win_rate"):
        assert mean[name] == pytest.approx(sum(by_language[tag][name] for tag in ("de", "en", "es")) / 3)
    assert mean["win_rate"] != pytest.approx(found["win_rate"], abs=0.01)
    assert mean["n"] == found["n"] == sum(part["n"] for part in by_language.values())


def test_the_macro_errors_are_those_of_the_prompts_means():
    """Every prompt in every language: s/√G of the prompts' means over the languages."""
    rows = list(parallel())
    found = winrate(rows)["macro_average"]
    means = [sum(r["preference"] for r in rows if r["id"] == f"p{i}") / 3 for i in range(60)]
    assert found["win_rate_stderr"] == pytest.approx(100 * statistics.stdev(means) / math.sqrt(60))
    apart = winrate([{**row, "id": row["id"] + row["language"]} for row in rows])["macro_average"]
    assert found["win_rate_stderr"] > 1.2 * apart["win_rate_stderr"], "languages that are taken as independent"
    assert found["length_controlled_win_rate_stderr"] > 1.2 * apart["length_controlled_win_rate_stderr"]


def test_half_is_a_tie_and_a_fraction_is_won_or_lost():
    found = winrate([judgment(preference=p, id=str(i)) for i, p in enumerate([1, 0.51, 0.5, 0.5, 0.49, 0])])
    assert (found["wins"], found["ties"], found["losses"]) == (2, 2, 2)
    assert found["tie_rate"] == pytest.approx(100 / 3)
    assert found["win_rate"] == pytest.approx(50)


def test_verdicts_that_are_missing_are_counted_and_in_no_rate():
    lost = judgment(id="c", preference=None, error="unreadable", flipped=None)
    rows = [judgment(id="a", preference=1, flipped=False), judgment(id="b", preference=0.5, flipped=True), lost]
    found = winrate(rows)
    assert (found["win_rate"], found["n"], found["prompts"]) == (75, 2, 2)
    assert (found["no_verdict_rate"], found["no_verdict_rate_n"]) == (pytest.approx(100 / 3), 3)
    assert (found["flip_rate"], found["flip_rate_n"]) == (50, 2)
    assert winrate([judgment()])["flip_rate"] is None, "one order was asked"


def test_verdicts_that_rest_on_one_order_are_counted():
    """Of three that were asked in both orders and have a verdict; one that has none is a missing verdict."""
    orders = [[1, None], [1, 1], [0.5, 0], None]
    rows = [judgment(id=str(i), preference=1, orders=told) for i, told in enumerate(orders)]
    found = winrate([*rows, judgment(id="9", preference=None, error="?", orders=[None, None])])
    assert (found["one_order_rate"], found["one_order_rate_n"]) == (pytest.approx(100 / 3), 3)
    assert (found["no_verdict_rate"], found["no_verdict_rate_n"]) == (20, 5)
    assert winrate([judgment()])["one_order_rate"] is None


def test_a_language_without_a_verdict_has_no_figure_and_is_in_no_mean():
    silent = [judgment(id=str(i), language="es", preference=None, error="503") for i in range(3)]
    found = winrate([*parallel(languages=("en",)), *silent])
    spanish = found["by_language"]["es"]
    assert (spanish["win_rate"], spanish["win_rate_low"], spanish["n"]) == (None, None, 0)
    assert spanish["no_verdict_rate"] == 100
    assert spanish["warning"].startswith("no comparison has a verdict")
    assert found["macro_average"]["languages"] == ["en"]
    assert found["macro_average"]["win_rate"] == pytest.approx(found["win_rate"])
    nothing = winrate(silent)
    assert (nothing["win_rate"], nothing["tie_rate"], nothing["weights"]) == (None, None, {})
    both = winrate([*silent, *({**row, "language": "en"} for row in silent)])
    assert (both["macro_average"]["win_rate"], both["macro_average"]["languages"]) == (None, [])
    json.dumps([found, nothing, both], allow_nan=False)


def test_a_file_of_several_models_and_judges_is_told_by_each():
    rows = list(parallel(models=("one", "two"), judges=("gpt", "oracle")))
    found = winrate(rows)
    for names, key in (("by_model", "model"), ("by_judge", "judge")):
        for name, part in found[names].items():
            alone = winrate([row for row in rows if row[key] == name])
            alone.pop("by_judge", None)
            assert part == alone
    assert set(found["by_model"]) == {"one", "two"}
    assert "by_model" in found["by_judge"]["gpt"]
    assert "by_model" not in found["by_model"]["one"]
    assert "head_to_head" not in found, "one baseline"


def test_several_baselines_are_told_pair_by_pair():
    rows = [judgment(id=str(i), model=m, baseline=b) for m, b in ("ab", "ac", "bc") for i in range(3)]
    found = winrate([*rows, judgment(id="9", model="b", baseline="c", preference=0)])
    assert {m: list(against) for m, against in found["head_to_head"].items()} == {"a": ["b", "c"], "b": ["c"]}
    assert found["head_to_head"]["b"]["c"]["win_rate"] == 75
    assert found["head_to_head"]["a"]["b"]["wins"] == 3


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([judgment(id=str(i)) for i in range(5)], "went the same way"),
        ([judgment(id=str(i), preference=i % 2) for i in range(5)], "length difference is the same"),
        (
            [*(judgment(id=str(i)) for i in range(5)), judgment(id="9", preference=0, model_length=0, failed="model")],
            "failed answers apart, all comparisons went the same way",
        ),
    ],
)
def test_a_length_controlled_rate_that_could_not_be_had_says_what_stands_instead(rows, says):
    found = winrate(rows)
    assert says in found["warning"]
    assert all(math.isfinite(found[f"length_controlled_win_rate{end}"]) for end in ("", "_stderr", "_low", "_high"))
    assert 0 <= found["length_controlled_win_rate_low"] <= found["length_controlled_win_rate_high"] <= 100


def test_the_signature_says_how_the_model_was_fitted():
    rows = [dict(row, difficulty=0.1 * i) for i, row in enumerate(parallel())]
    assert "difficulty:left out|interval:0.95|length:fitted" in winrate(parallel())["signature"]
    assert "difficulty:fitted" in winrate(rows)["signature"]
    held = winrate(rows, length_weight=-0.5, difficulty_weight=1.0)["signature"]
    assert "difficulty:held at 1|interval:0.95|length:held at -0.5" in held
    assert held.split("|") == sorted(held.split("|"))


def test_a_rate_that_rests_on_the_ridge_has_no_standard_error():
    """The shorter answer always loses. Its language makes the mean over languages as unsure."""
    told = [judgment(id=str(i), preference=float(i > 9), model_length=i, baseline_length=10) for i in range(20)]
    found = winrate(told)
    assert "rests on a ridge of 0.01 on the weights and has no standard error" in found["warning"]
    assert 50 < found["length_controlled_win_rate"] < 100
    assert [found[f"length_controlled_win_rate{end}"] for end in ("_stderr", "_low", "_high")] == [None] * 3
    assert found["win_rate_stderr"] is not None
    mean = winrate([*told, *parallel(languages=("es",))])["macro_average"]
    assert mean["length_controlled_win_rate"] is not None
    assert (mean["length_controlled_win_rate_stderr"], mean["length_controlled_win_rate_low"]) == (None, None)
    assert mean["win_rate_stderr"] is not None


def test_a_failed_answer_is_not_excused_by_its_length():
    """40 answers are as long as the baseline's and win half of the time, 10 failed and lost: by lengths of 0 these
    alone have a length difference, which then explains why they lost. Without, the controlled rate is the raw one."""
    whole = [judgment(id=str(i), preference=i % 2, model_length=100, baseline_length=100) for i in range(40)]
    lost = [
        judgment(id=f"f{i}", preference=0, model_length=0, baseline_length=100, model_answer=None) for i in range(10)
    ]
    assert winrate([*whole, *lost])["length_controlled_win_rate"] > 45, "rows that do not tell it"
    found = winrate([*whole, *(row | {"failed": "model"} for row in lost)])
    assert found["win_rate"] == pytest.approx(40)
    assert found["length_controlled_win_rate"] == pytest.approx(40)
    assert found["length_controlled_win_rate_stderr"] == pytest.approx(found["win_rate_stderr"])
    assert (found["failed_rate"], found["failed_rate_n"], found["model_length"]) == (20, 50, 100)
    assert found["failed_rate_stderr"] == pytest.approx(100 * math.sqrt(0.2 * 0.8 / 49))


def test_whose_answer_failed_is_counted_and_has_no_length():
    failed = [None, "model", "baseline", "both"]
    found = winrate(
        judgment(id=str(i), failed=whose, model_length=10 * (i + 1), baseline_length=20 * (i + 1))
        for i, whose in enumerate(failed)
    )
    assert (found["failed_rate"], found["model_length"], found["baseline_length"]) == (50, 20, 30)
    nothing = winrate([judgment(failed="both", preference=0.5)])
    assert (nothing["model_length"], nothing["baseline_length"]) == (None, None)
    assert nothing["length_controlled_win_rate"] == nothing["win_rate"] == 50


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["en", "es"]),
            st.sampled_from([None, 0, 0.3, 0.5, 1]),
            st.integers(0, 3),
            st.sampled_from("xy"),
            st.sampled_from("jk"),
            st.sampled_from([None, None, "model", "baseline", "both"]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_no_file_gives_a_figure_that_is_no_number(rows):
    found = winrate(
        judgment(
            id=i,
            language=lang,
            preference=p,
            error=None if p is not None else "?",
            model_length=n,
            model=m,
            judge=j,
            failed=failed,
        )
        for i, lang, p, n, m, j, failed in rows
    )
    json.dumps(found, allow_nan=False)
    if found["win_rate"] is not None:
        assert 0 <= found["win_rate"] <= 100
        assert (found["win_rate_low"] is None) == (found["prompts"] == 1)
