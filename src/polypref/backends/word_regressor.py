r"""A score regressed on the words of answers, or on their runs of characters, by scikit-learn.

An answer is the tf-idf of its terms, scaled to length 1, so that how long it is has little part in it; the score is
fitted by ridge regression with an intercept, min_{w,b} Σ (y − x·w − b)² + penalty·‖w‖² (Hoerl & Kennard 1970). Terms
are those of the training answers. Implements ``stages.word_regression.WordRegressor``.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from polypref.errors import InputError

RUNS = (2, 4)
"""Lengths of the runs of characters, white space included."""

TOLERANCE = 1e-8
"""Of the conjugate gradients, relative to the right-hand side: far below what a figure is printed with."""


class RidgeOnTerms:
    """tf-idf and ridge regression."""

    def __call__(
        self, unit: str, penalty: float, texts: Sequence[str], scores: Sequence[float], others: Sequence[str]
    ) -> tuple[list[float], list[float]]:
        """Fit [n] texts and scores, predict [m] others.

        Args:
            unit: ``words``, or ``characters`` for runs of ``RUNS`` of them.
            penalty: of the squared weights.

        Returns:
            The m predictions, and of each other text the share of its terms that the training texts hold (0 where it
            has none). A text without a known term is predicted the intercept.

        Raises:
            InputError: there is no such unit, or the training texts hold no term.
        """
        model = pipeline(unit, penalty)
        try:
            model.fit(texts, scores)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            raise InputError("no answer holds a letter or a digit, so there are no words to regress on") from None
        vocabulary, terms = model[0].vocabulary_, ANALYZERS[unit]
        known = [[term in vocabulary for term in terms(text)] for text in others]
        shares = [sum(found) / len(found) if found else 0.0 for found in known]
        return [float(value) for value in model.predict(others)], shares


def pipeline(unit: str, penalty: float) -> Any:
    """The scikit-learn pipeline that is fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    if unit not in ANALYZERS:
        raise InputError(f"there are no terms {unit!r}; known: {', '.join(sorted(ANALYZERS))}")
    return make_pipeline(
        TfidfVectorizer(analyzer=ANALYZERS[unit]), Ridge(alpha=penalty, solver="sparse_cg", tol=TOLERANCE)
    )


@functools.cache
def _word() -> re.Pattern[str]:
    r"""A run of letters, digits and the marks on them: ``\w`` alone would break Hindi and Thai at vowel signs."""
    marks = "".join(c for c in map(chr, range(0x300, sys.maxunicode)) if unicodedata.category(c)[0] == "M")
    return re.compile(rf"[\w{marks}]+")


def _plain(text: str) -> str:
    """Lower case, composed, white space as single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def words(text: str) -> list[str]:
    """The words of a text, as they are but for case. Scripts without spaces have whole phrases here."""
    return _word().findall(_plain(text))


def characters(text: str) -> list[str]:
    """The runs of characters of a text."""
    return list(_runs(_plain(text)))


def _runs(plain: str) -> Iterator[str]:
    for n in range(RUNS[0], RUNS[1] + 1):
        yield from (plain[i : i + n] for i in range(len(plain) - n + 1))


ANALYZERS = {"words": words, "characters": characters}
