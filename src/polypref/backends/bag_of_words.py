"""A reward model without a network: linear in an answer's words and letters, fitted by scikit-learn.

An answer is the tf-idf of its words, pairs of neighbouring words, and runs of one to three characters (so that scripts
without spaces have terms as well), scaled to length 1; the prompt has no part in it. Pairs are fitted as a linear
Bradley–Terry model, a logistic regression without intercept on the difference of the two answers' vectors (Bradley &
Terry 1952); labelled answers by a logistic regression with one. The reward is the linear term, so that σ(r_w − r_l),
or σ(r), is the fitted probability.

It is the baseline that a network has to beat: what style and vocabulary alone tell. Its folder holds JSON and
safetensors, never a pickle.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polypref.backends.base import Judged, ModelSpec, Progress
from polypref.backends.fingerprints import fingerprint
from polypref.backends.model_card import bag_of_words_card
from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainOptions
from polypref.errors import InputError, ModelError, RecipeError

MODEL_TYPE = "polypref-bag-of-words"
VERSION = 1
"""Of the terms and of the files; raised when a folder would be read otherwise."""

WORDS, CHARACTERS = (1, 2), (1, 3)
"""Lengths of the runs of words and of characters."""
LEAST_ANSWERS, MOST_TERMS = 2, 2**17
"""A term counts when it is in so many answers; the most frequent ones are kept."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""C of scikit-learn, the inverse of the L2 penalty: those that are tried where validation rows choose."""
STRENGTH = 1.0
"""C where nothing chooses."""


class BagOfWordsTrainer:
    """Fits a bag-of-words reward model. Implements ``reward_training.RewardTrainer``.

    Of the options it reads ``loss`` and ``select``. With validation rows, and unless ``select`` is ``last``, it fits
    with each of ``STRENGTHS`` and keeps the best: a step of its curve is one of them. A start has no part in it.
    """

    fingerprint = f"bag-of-words:{VERSION}"

    def train(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec | None,
        options: RewardTrainOptions,
        folder: Path,
        progress: Progress,
    ) -> dict[str, Any]:
        """Like ``RewardTrainer.train``; the summary says the chosen C as well.

        Raises:
            RecipeError: ``margin`` or ``centre`` is asked for, which a logistic regression has not.
            InputError: no row is left to train on, the answers share no term, or all labels are on one side.
        """
        began = time.monotonic()
        if options.margin or options.centre:
            asked = "margin" if options.margin else "centre"
            raise RecipeError(f"bag_of_words has no {asked}; leave it out, or train a transformer")
        _check(rows, validation, options.loss)
        terms = _Terms.of([text for row in rows for text in _texts(row)])
        train, held = _Examples.of(rows, terms), _Examples.of(validation, terms) if validation else None
        chooses = held is not None and options.select != "last"
        strengths = STRENGTHS if chooses else (STRENGTH,)
        fits, curve, judged = [], [], []
        for step, strength in enumerate(strengths, 1):
            fit = train.fitted(strength)
            fits.append(fit)
            curve.append({"step": step, **train.figures(fit)})
            if held is not None:
                judged.append({"step": step, **held.figures(fit)})
            progress("train", step, len(strengths))
        best = min(range(len(fits)), key=lambda k: _rank(judged[k], options.select)) if chooses else 0
        _write(folder, terms, fits[best], options.loss)
        summary = {
            "rows": len(rows),
            "validation_rows": len(validation),
            "steps": len(strengths),
            "seconds": time.monotonic() - began,
            "truncated": {"train": 0, "validation": 0},
            "dropped": {},
            "languages": dict(sorted(Counter(row.lang for row in rows).items())),
            "curve": curve,
            "validation": judged,
            "selected_step": best + 1,
            "head": "new",
            "pad_token": None,
            "C": strengths[best],
        }
        (folder / "README.md").write_text(bag_of_words_card(options, summary), encoding="utf-8")
        return summary


class BagOfWordsScorer:
    """Scores answers with what ``BagOfWordsTrainer`` wrote. Implements ``backends.base.Scorer``."""

    VERSION = VERSION

    def __init__(self, model: ModelSpec | None) -> None:
        """
        Raises:
            ModelError: the model is no folder of a bag-of-words reward model, or one of a later polypref.
        """
        if model is None:
            raise ModelError("bag_of_words needs a model; give the folder of a trained one")
        self._terms, self._fit = _read(Path(model.path).expanduser())
        self.fingerprint: str = f"bag-of-words:{VERSION}:{fingerprint(ModelSpec(path=model.path))}"

    def score(self, answers: Sequence[Judged]) -> list[float]:
        """One reward per answer, the linear term; the same alone and in any batch."""
        if not answers:
            return []
        return [float(reward) for reward in self._fit.rewards(self._terms.vectors([a.text for a in answers]))]


def is_bag_of_words(folder: Path) -> bool:
    """Whether a bag-of-words reward model lies there, whole or not."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


# --- terms ---------------------------------------------------------------------------------------------------------


@functools.cache
def _word() -> re.Pattern[str]:
    r"""A run of letters, digits and the marks on them: ``\w`` alone would break Hindi and Thai at vowel signs."""
    marks = "".join(c for c in map(chr, range(0x300, sys.maxunicode)) if unicodedata.category(c)[0] == "M")
    return re.compile(rf"[\w{marks}]+")


def terms_of(text: str) -> Iterator[str]:
    """``w:`` and each word or pair of words, ``c:`` and each run of characters; lower case, in composed form."""
    plain = " ".join(unicodedata.normalize("NFC", text).lower().split())
    words = _word().findall(plain)
    for n in range(WORDS[0], WORDS[1] + 1):
        yield from ("w:" + " ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    for n in range(CHARACTERS[0], CHARACTERS[1] + 1):
        yield from ("c:" + plain[i : i + n] for i in range(len(plain) - n + 1))


@dataclass(frozen=True)
class _Terms:
    """F terms with their inverse document frequencies, [F]."""

    names: list[str]
    idf: Any

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Terms:
        vectorizer = _vectorizer(min_df=min(LEAST_ANSWERS, len(texts)), max_features=MOST_TERMS)
        try:
            vectorizer.fit(texts)
        except ValueError:  # scikit-learn's for an empty vocabulary
            raise InputError("no two answers of the training rows share a letter or a word; look at the data") from None
        return cls(list(vectorizer.get_feature_names_out()), vectorizer.idf_)

    def vectors(self, texts: Sequence[str]) -> Any:
        """Sparse [len(texts), F], each row of length 1 (or 0, where it has no known term)."""
        return self._vectorizer.transform(texts)

    @functools.cached_property
    def _vectorizer(self) -> Any:
        vectorizer = _vectorizer(vocabulary=self.names)
        vectorizer.idf_ = self.idf
        return vectorizer


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=terms_of, sublinear_tf=True, norm="l2", **options)


# --- fitting -------------------------------------------------------------------------------------------------------


def _check(rows: Sequence[RewardRow], validation: Sequence[RewardRow], loss: str) -> None:
    if not rows:
        raise InputError("no row is left to train on; see what was dropped and why")
    for row in (*rows, *validation):
        if isinstance(row, PairRow) != (loss == "bradley_terry"):
            what = "a pair" if isinstance(row, PairRow) else "a labelled answer"
            raise InputError(f"row {row.id!r} is {what}, which the loss {loss} cannot read; choose the other loss")


def _texts(row: RewardRow) -> tuple[str, ...]:
    return (row.chosen, row.rejected) if isinstance(row, PairRow) else (row.text,)


@dataclass(frozen=True)
class _Fit:
    """reward = x·weights + intercept; weights [F]."""

    weights: Any
    intercept: float

    def rewards(self, vectors: Any) -> Any:
        """[n] for sparse [n, F]. Each is summed over its own row's terms in their order, whatever stands beside it."""
        return vectors @ self.weights + self.intercept


@dataclass(frozen=True)
class _Examples:
    """What a fit is made from: vectors [n, F] and labels [n] in [0, 1]; of pairs, chosen − rejected and all 1."""

    vectors: Any
    labels: Any
    pairs: bool

    @classmethod
    def of(cls, rows: Sequence[RewardRow], terms: _Terms) -> _Examples:
        pairs = [row for row in rows if isinstance(row, PairRow)]
        if pairs:
            chosen, rejected = terms.vectors([r.chosen for r in pairs]), terms.vectors([r.rejected for r in pairs])
            return cls(chosen - rejected, np.ones(len(pairs)), pairs=True)
        points = [row for row in rows if isinstance(row, PointRow)]
        return cls(terms.vectors([r.text for r in points]), np.array([r.label for r in points]), pairs=False)

    def fitted(self, strength: float) -> _Fit:
        """The logistic regression at C = ``strength``. scikit-learn wants classes, both of them: a row with a label
        stands as a 1 with weight label and as a 0 with weight 1 − label, and half of a pair as its mirror image, a 0,
        whose loss is the same."""
        from scipy.sparse import vstack
        from sklearn.linear_model import LogisticRegression

        if self.pairs:
            vectors, weights = vstack([self.vectors, -self.vectors]), np.full(2 * len(self.labels), 0.5)
        else:
            vectors, weights = vstack([self.vectors, self.vectors]), np.concatenate([self.labels, 1 - self.labels])
        classes = np.repeat([1, 0], len(self.labels))
        used = weights > 0
        if len(set(classes[used])) < 2:
            raise InputError(
                f"every training row has the label {self.labels[0]:g}, so there is nothing to tell apart; "
                "give right answers and wrong ones"
            )
        regression = LogisticRegression(C=strength, fit_intercept=not self.pairs, max_iter=10_000, tol=1e-9)
        regression.fit(vectors.tocsr()[used], classes[used], weights[used])
        return _Fit(regression.coef_[0], 0.0 if self.pairs else float(regression.intercept_[0]))

    def figures(self, fit: _Fit) -> dict[str, float]:
        """Mean loss, accuracy (an even reward counts half, a label of ½ not at all) and of pairs the mean margin."""
        rewards, labels = fit.rewards(self.vectors), self.labels
        loss = labels * np.logaddexp(0, -rewards) + (1 - labels) * np.logaddexp(0, rewards)
        sides = np.sign(labels - 0.5)
        right = (np.sign(rewards) * sides + 1)[sides != 0] / 2
        figures = {"loss": float(loss.mean())}
        if len(right):
            figures["accuracy"] = float(right.mean())
        return figures | ({"margin": float(rewards.mean())} if self.pairs else {})


def _rank(figures: dict[str, float], select: str) -> tuple[float, float]:
    """Smaller is better: by accuracy and then loss, or by loss and then accuracy."""
    error, loss = 1 - figures.get("accuracy", 0.0), figures["loss"]
    return (error, loss) if select == "accuracy" else (loss, error)


# --- files ---------------------------------------------------------------------------------------------------------


def _write(folder: Path, terms: _Terms, fit: _Fit, loss: str) -> None:
    """config.json, vocabulary.json (the F terms in order) and model.safetensors (idf, weights, intercept)."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, "version": VERSION, "loss": loss}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "vocabulary.json").write_text(
        json.dumps(terms.names, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
    )
    arrays = {"idf": terms.idf, "weights": fit.weights, "intercept": [fit.intercept]}
    save_file(
        {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()},
        folder / "model.safetensors",
    )


def _read(folder: Path) -> tuple[_Terms, _Fit]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = config.get("model_type"), config.get("version")
        if found[0] == MODEL_TYPE and found[1] != VERSION:
            raise ModelError(
                f"{folder} is a bag-of-words reward model of version {found[1]}, this polypref reads {VERSION}; "
                "train it again"
            )
        if found[0] == MODEL_TYPE:
            names = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "model.safetensors")
            return _Terms(names, arrays["idf"]), _Fit(arrays["weights"], float(arrays["intercept"][0]))
    except (OSError, ValueError, AttributeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{folder} is no whole bag-of-words reward model ({type(error).__name__}); give the folder that training "
            "wrote, or train it again"
        ) from None
    raise ModelError(f"{folder} holds a model of another kind ({found[0]}); choose the scorer reward_model")
