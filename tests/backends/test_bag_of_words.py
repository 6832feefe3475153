"""A reward linear in words and letters: scikit-learn's own predictions, kept in plain files."""

from __future__ import annotations

import hashlib
import json
import math
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from polypref.backends.bag_of_words import STRENGTHS, BagOfWordsScorer, BagOfWordsTrainer, terms_of
from polypref.backends.base import Judged, ModelSpec, Scorer, silent
from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainer, RewardTrainOptions
from polypref.errors import InputError, ModelError, RecipeError

QUESTION = [{"role": "user", "content": "?"}]
WORDS = ["river", "sea", "bird", "home", "runs", "follows", "some", "the", "and", "to", "it", "a"]
PAIRS = RewardTrainOptions(method="bag_of_words")
POINTS = RewardTrainOptions(method="bag_of_words", loss="pointwise")


def sentence(noise: random.Random) -> str:
    return " ".join(noise.choice(WORDS) for _ in range(noise.randint(3, 9)))


def pairs(n: int, seed: int = 0) -> list[PairRow]:
    """The better answer says 'indeed' two times in three."""
    noise = random.Random(seed)
    rows = []
    for k in range(n):
        word = " indeed" if noise.random() < 2 / 3 else ""
        rows.append(PairRow(str(k), "en", QUESTION, sentence(noise) + word, sentence(noise)))
    return rows


def points(n: int, seed: int = 0) -> list[PointRow]:
    """Labels of a half and more for what says 'indeed'."""
    noise = random.Random(seed)
    said = [(sentence(noise), noise.random() < 0.5, noise.random() / 2) for _ in range(n)]
    return [
        PointRow(str(k), "en", QUESTION, text + " indeed" * good, label + 0.5 * good)
        for k, (text, good, label) in enumerate(said)
    ]


def trained(
    folder: Path,
    rows: list[Any],
    validation: list[Any] | None = None,
    options: RewardTrainOptions = PAIRS,
) -> tuple[BagOfWordsScorer, dict[str, Any]]:
    summary = BagOfWordsTrainer().train(rows, validation or [], None, options, folder, silent)
    return BagOfWordsScorer(ModelSpec(path=str(folder))), summary


def scores(scorer: BagOfWordsScorer, *texts: str) -> list[float]:
    return scorer.score([Judged(str(k), "en", QUESTION, text) for k, text in enumerate(texts)])


# --- terms ---------------------------------------------------------------------------------------------------------


def test_terms_are_words_pairs_of_words_and_runs_of_characters() -> None:
    words = ["w:a", "w:b", "w:c", "w:a b", "w:b c"]
    characters = ["c:a", "c: ", "c:b", "c:-", "c:c", "c:a ", "c: b", "c:b-", "c:-c", "c:a b", "c: b-", "c:b-c"]
    assert list(terms_of("A  b-C")) == words + characters
    assert list(terms_of("")) == list(terms_of(" \n")) == []


def test_vowel_signs_and_accents_belong_to_their_word() -> None:
    """Hindi 'kitaab' has two vowel signs, Thai 'water' a tone mark; é is one letter however it is written."""
    for word in ("किताब", "น้ำ", "বই"):
        assert [term for term in terms_of(word) if term.startswith("w:")] == ["w:" + unicodedata.normalize("NFC", word)]
    assert list(terms_of(unicodedata.normalize("NFD", "Été"))) == list(terms_of("été"))


@pytest.mark.parametrize("text", ["河流入海，鸟儿飞翔", "แม่น้ำไหลลงสู่ทะเล", "川は海に流れる"])
def test_scripts_without_spaces_have_runs_of_characters(text: str) -> None:
    runs = [term.removeprefix("c:") for term in terms_of(text) if term.startswith("c:")]
    assert len(runs) == 3 * len(text) - 3
    assert set(runs) == {text[i : i + n] for n in (1, 2, 3) for i in range(len(text) - n + 1)}


@given(st.text())
def test_every_text_has_terms_unless_it_is_white_space(text: str) -> None:
    assert bool(list(terms_of(text))) == bool(text.split())


# --- what is fitted ------------------------------------------------------------------------------------------------


def test_it_plays_its_roles(tmp_path: Path) -> None:
    assert isinstance(BagOfWordsTrainer(), RewardTrainer)
    scorer, _ = trained(tmp_path, pairs(20))
    assert isinstance(scorer, Scorer)
    assert scorer.score([]) == []


def test_a_reward_of_pairs_is_scikit_learns_own_decision(tmp_path: Path) -> None:
    """The same model by hand: every second pair turned round, so that scikit-learn sees two classes. The loss of a pair
    is the same either way, −log σ(w·(x_w − x_l))."""
    rows, fresh = pairs(60), pairs(40, seed=1)
    scorer, _ = trained(tmp_path, rows)
    vectorizer = TfidfVectorizer(analyzer=terms_of, min_df=2, sublinear_tf=True)
    vectorizer.fit([text for row in rows for text in (row.chosen, row.rejected)])
    differences = vectorizer.transform([r.chosen for r in rows]) - vectorizer.transform([r.rejected for r in rows])
    turned = np.where(np.arange(len(rows)) % 2, 1, -1)
    regression = LogisticRegression(C=1.0, fit_intercept=False, max_iter=1000, tol=1e-9)
    regression.fit(differences.multiply(turned[:, None]).tocsr(), turned)
    right = vectorizer.transform([row.chosen for row in fresh]) - vectorizer.transform([r.rejected for r in fresh])
    ours = np.subtract(scores(scorer, *(r.chosen for r in fresh)), scores(scorer, *(r.rejected for r in fresh)))
    assert ours == pytest.approx(regression.decision_function(right), abs=1e-5)


def test_a_reward_of_labels_is_scikit_learns_own_decision(tmp_path: Path) -> None:
    """With labels of 0 and 1 it is the plain logistic regression of the classes."""
    rows = [PointRow(row.id, row.lang, row.messages, row.text, float(row.label >= 0.5)) for row in points(60)]
    scorer, summary = trained(tmp_path, rows, options=POINTS)
    vectorizer = TfidfVectorizer(analyzer=terms_of, min_df=2, sublinear_tf=True)
    vectors = vectorizer.fit_transform([row.text for row in rows])
    regression = LogisticRegression(C=1.0, max_iter=1000, tol=1e-9).fit(vectors, [int(row.label) for row in rows])
    fresh = [row.text for row in points(40, seed=1)]
    expected = regression.decision_function(vectorizer.transform(fresh))
    assert scores(scorer, *fresh) == pytest.approx(expected, abs=1e-5)
    assert "margin" not in summary["curve"][0]


def test_soft_labels_are_met_in_the_mean(tmp_path: Path) -> None:
    """The intercept has no penalty, so the gradient in it, Σ σ(r) − y, is 0 at the optimum."""
    rows = points(50)
    scorer, summary = trained(tmp_path, rows, options=POINTS)
    rewards = np.array(scores(scorer, *(row.text for row in rows)))
    labels = np.array([row.label for row in rows])
    said = 1 / (1 + np.exp(-rewards))
    assert said.mean() == pytest.approx(labels.mean(), abs=1e-5)
    assert summary["curve"][0]["loss"] == pytest.approx(
        -np.mean(labels * np.log(said) + (1 - labels) * np.log1p(-said))
    )


def test_swapping_every_pair_turns_every_reward_round(tmp_path: Path) -> None:
    """Without an intercept the model knows no first place: rewards of the swapped data are minus those of the data."""
    rows = pairs(40)
    swapped = [PairRow(row.id, row.lang, row.messages, row.rejected, row.chosen) for row in rows]
    texts = [row.chosen for row in pairs(20, seed=1)]
    straight = scores(trained(tmp_path / "a", rows)[0], *texts)
    turned = scores(trained(tmp_path / "b", swapped)[0], *texts)
    assert turned == pytest.approx([-score for score in straight], abs=1e-5)
    assert scores(trained(tmp_path / "c", rows)[0], "", " \n") == [0.0, 0.0]


def test_a_pair_of_equal_answers_pulls_nowhere(tmp_path: Path) -> None:
    """Its difference is 0, its loss log 2, its preference a half."""
    same = PairRow("same", "en", QUESTION, "the river", "the river")
    _, summary = trained(tmp_path, pairs(20), [same])
    last = summary["validation"][-1]
    assert (last["loss"], last["accuracy"], last["margin"]) == (pytest.approx(math.log(2)), 0.5, 0.0)


# --- choice, summary, files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["accuracy", "loss"])
def test_validation_rows_choose_the_strength(select: str, tmp_path: Path) -> None:
    options = PAIRS.model_copy(update={"select": select})
    rows, held = pairs(60), pairs(31, seed=3)
    scorer, summary = trained(tmp_path, rows, held, options)
    assert [entry["step"] for entry in summary["validation"]] == [1, 2, 3, 4, 5]
    by = {entry["step"]: (1 - entry["accuracy"], entry["loss"]) for entry in summary["validation"]}
    order = by.__getitem__ if select == "accuracy" else lambda step: by[step][::-1]
    assert summary["selected_step"] == min(by, key=order)
    assert summary["C"] == STRENGTHS[summary["selected_step"] - 1]
    wins = np.greater(scores(scorer, *(r.chosen for r in held)), scores(scorer, *(r.rejected for r in held)))
    assert wins.mean() == pytest.approx(1 - by[summary["selected_step"]][0])


def test_without_a_choice_there_is_one_fit(tmp_path: Path) -> None:
    _, alone = trained(tmp_path / "a", pairs(20))
    assert (alone["C"], alone["steps"], alone["selected_step"], alone["validation"]) == (1.0, 1, 1, [])
    _, last = trained(tmp_path / "b", pairs(20), pairs(5, 1), PAIRS.model_copy(update={"select": "last"}))
    assert (last["C"], last["steps"], len(last["validation"])) == (1.0, 1, 1)


def test_the_summary_has_what_every_trainer_says(tmp_path: Path) -> None:
    rows = [*pairs(10), *(PairRow(f"es{k}", "es", QUESTION, "el río", "la mar") for k in range(3))]
    told: list[tuple[str, int, int | None]] = []
    summary = BagOfWordsTrainer().train(
        rows, pairs(4, 1), None, PAIRS, tmp_path, lambda what, done, total: told.append((what, done, total))
    )
    assert told == [("train", k, 5) for k in range(1, 6)]
    assert summary.pop("seconds") >= 0
    assert {key: summary[key] for key in ("rows", "validation_rows", "steps", "languages", "head", "pad_token")} == {
        "rows": 13,
        "validation_rows": 4,
        "steps": 5,
        "languages": {"en": 10, "es": 3},
        "head": "new",
        "pad_token": None,
    }
    assert (summary["truncated"], summary["dropped"]) == ({"train": 0, "validation": 0}, {})
    assert set(summary["curve"][0]) == {"step", "loss", "accuracy", "margin"}
    json.dumps(summary, allow_nan=False)


def test_what_is_reloaded_scores_the_same_and_the_same_rows_write_the_same_bytes(tmp_path: Path) -> None:
    texts = [row.chosen for row in pairs(20, seed=1)]
    scorer, _ = trained(tmp_path / "a", pairs(40))
    again, _ = trained(tmp_path / "b", pairs(40))
    assert scores(BagOfWordsScorer(ModelSpec(path=str(tmp_path / "a"))), *texts) == scores(scorer, *texts)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors", "vocabulary.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert again.fingerprint == scorer.fingerprint
    other, _ = trained(tmp_path / "c", pairs(41))
    assert other.fingerprint != scorer.fingerprint


def test_the_card_tells_the_validation_and_no_folder(tmp_path: Path) -> None:
    _, summary = trained(tmp_path / "rm", pairs(20), pairs(4, 1))
    card = (tmp_path / "rm" / "README.md").read_text(encoding="utf-8")
    best = summary["validation"][summary["selected_step"] - 1]
    told = f"accuracy {best['accuracy']:.4f}, loss {best['loss']:.4f} (n = 4 rows) at try {summary['selected_step']}"
    assert told in card
    assert "| English (en) | 20 |" in card
    assert str(tmp_path) not in card
    trained(tmp_path / "alone", points(20), options=POINTS)
    assert "Validation: no rows" in (tmp_path / "alone" / "README.md").read_text(encoding="utf-8")


def test_a_score_is_the_same_alone_and_in_any_batch(tmp_path: Path) -> None:
    texts = [row.chosen for row in pairs(20, seed=1)]
    scorer, _ = trained(tmp_path, pairs(40))
    assert scores(scorer, *texts) == [scores(scorer, text)[0] for text in texts]
    assert scores(scorer, *texts[::-1]) == scores(scorer, *texts)[::-1]


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    trained(tmp_path, pairs(20))
    json.loads((tmp_path / "config.json").read_text())
    names = json.loads((tmp_path / "vocabulary.json").read_text(encoding="utf-8"))
    assert names == sorted(names)
    assert "w:river" in names
    raw = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert {name: entry["shape"] for name, entry in header.items()} == {
        "idf": [len(names)],
        "weights": [len(names)],
        "intercept": [1],
    }


def test_chinese_and_thai_are_learned_by_their_characters(tmp_path: Path) -> None:
    """No two answers share a whole clause; what the better ones share is a polite particle inside it."""
    noise = random.Random(0)
    for lang, letters, particle in (
        ("zh", "河流入海鸟飞翔山水风云日月星", "谢谢"),
        ("th", "กขคงจชซญดตถทนบปพมยรล", "ครับ"),
    ):
        said = ["".join(noise.choice(letters) for _ in range(12)) for _ in range(80)]
        better = [text[:6] + particle + text[6:] for text in said[::2]]
        rows = [PairRow(str(k), lang, QUESTION, *both) for k, both in enumerate(zip(better, said[1::2], strict=True))]
        scorer, _ = trained(tmp_path / lang, rows[:30])
        held = rows[30:]
        won = np.greater(scores(scorer, *(r.chosen for r in held)), scores(scorer, *(r.rejected for r in held)))
        assert won.all()


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        ([], PAIRS, "no row is left to train on"),
        (points(3), PAIRS, "row '0' is a labelled answer, which the loss bradley_terry cannot read"),
        (pairs(3), POINTS, "row '0' is a pair, which the loss pointwise cannot read"),
        ([PairRow("0", "en", QUESTION, "", " ")], PAIRS, "no two answers of the training rows share"),
        (
            [PointRow(str(k), "en", QUESTION, "the sea", 1.0) for k in range(3)],
            POINTS,
            "every training row has the label 1",
        ),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    rows: list[RewardRow], options: RewardTrainOptions, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        trained(tmp_path, rows, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", ["margin", "centre"])
def test_terms_of_the_loss_that_a_regression_has_not_are_refused(asked: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"bag_of_words has no {asked}; leave it out"):
        trained(tmp_path, pairs(3), options=PAIRS.model_copy(update={asked: True}))


def test_a_folder_that_holds_none_is_refused(tmp_path: Path) -> None:
    def opened(path: Path) -> BagOfWordsScorer:
        return BagOfWordsScorer(ModelSpec(path=str(path)))

    with pytest.raises(ModelError, match="bag_of_words needs a model"):
        BagOfWordsScorer(None)
    with pytest.raises(ModelError, match="is no whole bag-of-words reward model"):
        opened(tmp_path / "nowhere")
    trained(tmp_path / "a", pairs(5))
    config = tmp_path / "a" / "config.json"
    (tmp_path / "a" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="is no whole bag-of-words reward model"):
        opened(tmp_path / "a")
    config.write_text('{"model_type": "polypref-bag-of-words", "version": 99}')
    with pytest.raises(ModelError, match="of version 99, this polypref reads 1; train it again"):
        opened(tmp_path / "a")
    config.write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"a model of another kind \(llama\); choose the scorer reward_model"):
        opened(tmp_path / "a")


# --- real answers --------------------------------------------------------------------------------------------------


def test_it_tells_a_stronger_models_answers_from_a_weaker_ones(real_data: Path, tmp_path: Path) -> None:
    """gpt-4-turbo's answers as chosen, gpt-3.5-turbo's as rejected, trained in English, held out by prompt: a fifth of
    the ids. Far above chance in English, German and Russian; length alone tells over 90% of these apart."""
    folder = real_data / "responses" / "x_alpacaeval"

    def answers(model: str, lang: str) -> dict[int, str]:
        lines = (folder / model / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
        return {row["id"]: row["response"] for row in map(json.loads, lines)}

    def rows(lang: str) -> list[PairRow]:
        strong, weak = answers("gpt-4-turbo-2024-04-09", lang), answers("gpt-3.5-turbo-0125", lang)
        return [PairRow(str(id), lang, [], strong[id], weak[id]) for id in strong if strong[id] != weak[id]]

    def held(row: PairRow) -> bool:
        return hashlib.sha256(row.id.encode()).digest()[0] % 5 == 0

    scorer, _ = trained(tmp_path, [row for row in rows("en") if not held(row)][:200])
    for lang, least in (("en", 0.9), ("de", 0.8), ("ru", 0.6)):
        fresh = [row for row in rows(lang) if held(row)]
        won = np.greater(scores(scorer, *(r.chosen for r in fresh)), scores(scorer, *(r.rejected for r in fresh)))
        assert len(fresh) > 120
        assert won.mean() > least
