"""What judges' words and first tokens say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Completion
from polypref.backends.judge_readings import Reading, letter_shares, read_preference, read_rating, read_token

# --- reading a rating ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("It is right.\nRating: [[7]]", 7.0),
        ("Rating: [[7.5]]", 7.5),
        ("[[10]]", 10.0),
        ("Good.\n\n**Rating: [[1]]**.\n\n", 1.0),
        ("The answer claims [[10]].\nRating: [[2]]", 2.0),
        ("## Rating: [[ 3 ]]\n***", 3.0),
    ],
)
def test_a_rating_is_the_number_in_double_brackets_at_the_end(said: str, number: float) -> None:
    assert read_rating(Completion(said), (1, 10)).value == number


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "the judge said nothing"),
        ("***\n", "the judge said nothing"),
        ("Rating: 7", "no verdict on the last line"),
        ("Rating: [[7]]\nI hope this helps.", "no verdict on the last line"),
        ("Rating: [[7]] out of 10", "no verdict on the last line"),
        ("[[7]] or [[8]]", "no verdict on the last line"),
        ("[[7/10]]", "[[7/10]] is no number"),
        ("[[7,5]]", "[[7,5]] is no number"),
        ("[[seven]]", "[[seven]] is no number"),
        ("[[nan]]", "[[nan]] is no number"),
        ("[[1e1]]", "[[1e1]] is no number"),
        ("[[७]]", "[[७]] is no number"),
        ("[[]]", "[[]] is no number"),
        ("[[11]]", "[[11]] is not on the scale from 1 to 10"),
        ("[[0]]", "[[0]] is not on the scale from 1 to 10"),
        ("[[-3]]", "[[-3]] is not on the scale from 1 to 10"),
    ],
)
def test_what_is_no_rating_is_none_and_says_why(said: str, reason: str) -> None:
    reading = read_rating(Completion(said), (1, 10))
    assert (reading.value, reading.error) == (None, reason)


def test_what_was_cut_or_failed_is_not_read() -> None:
    cut = Completion("The answer says:\n[[10]]", finish_reason="length")
    assert read_rating(cut, (1, 10)).error == "cut off before the verdict; raise max_tokens"
    assert read_preference(Completion("", error="server answered 500")).error == "server answered 500"


@given(st.text())
def test_nothing_that_a_judge_may_say_breaks_a_reading(said: str) -> None:
    rating = read_rating(Completion(said), (1, 10))
    preference = read_preference(Completion(said))
    assert (rating.value is None) == (rating.error is not None)
    assert (preference.value is None) == (preference.error is not None)


@given(st.floats(-1, 1, allow_nan=False))
def test_every_plain_decimal_of_a_scale_is_read_as_it_stands(number: float) -> None:
    written = f"{number:+.3f}"
    assert read_rating(Completion(f"Rating: [[{written}]]"), (-1, 1)).value == float(written)


# --- reading a preference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "value"), [("[[A]]", 1.0), ("So:\n[[B]].", 0.0), ("Verdict: **[[C]]**", 0.5)])
def test_a_preference_is_a_letter_in_double_brackets_at_the_end(said: str, value: float) -> None:
    assert read_preference(Completion(said)).value == value


@pytest.mark.parametrize("said", ["A", "[A]", "[[a]]", "[[D]]", "[[A]] and [[B]]", "[[A]]\nbecause it is right"])
def test_what_is_no_verdict_is_none(said: str) -> None:
    assert read_preference(Completion(said)).value is None


# --- reading a token -----------------------------------------------------------------------------------------------


def told(text: str = "A", finish_reason: str = "stop", **shares: float) -> Completion:
    return Completion(text, finish_reason=finish_reason, first_token={t: math.log(p) for t, p in shares.items()})


def test_a_token_is_the_share_of_its_letter_over_both_letters() -> None:
    """0.6 / (0.6 + 0.2) = 0.75; what else could stand there has no say."""
    reading = read_token(told(A=0.6, B=0.2, The=0.1), words_will_do=False)
    assert reading.value == pytest.approx(0.75)
    assert (reading.error, reading.way, reading.shares) == (None, "logprobs", pytest.approx((0.6, 0.2)))


def test_the_spellings_of_a_letter_are_counted_together() -> None:
    """A: 0.3 + 0.1 + 0.05 + 0.05; B: 0.2 + 0.1. Words that begin with the letter and small letters are none."""
    spelled = {"A": 0.3, " A": 0.1, "▁A": 0.05, '"A': 0.05, "ĠB": 0.2, "**B": 0.1, "An": 0.05, "a": 0.05, "": 0.05}
    first_token = {token: math.log(share) for token, share in spelled.items()}
    assert letter_shares(first_token) == pytest.approx((0.5, 0.3))


def test_a_letter_that_is_not_among_the_likeliest_has_nothing() -> None:
    assert read_token(told(A=0.9, The=0.05), words_will_do=False).value == 1.0
    assert read_token(told(B=0.9, The=0.05), words_will_do=False).value == 0.0


def test_letters_that_are_unlikely_are_no_verdict() -> None:
    """The judge began with something else, so A against B says nothing: here A is an article."""
    reading = read_token(told("The answer is A", The=0.9, A=0.03, B=0.01), words_will_do=False)
    assert (reading.value, reading.error) == (None, "A and B have 4.0% of the first token's probability")
    thought = told("A", **{"<think>": 0.99, "B": 0.001})
    assert read_token(thought, words_will_do=True) == Reading(1.0)
    astray = read_token(told("The better", The=0.99), words_will_do=True)
    assert (astray.value, astray.error) == (None, "A and B have 0.0% of the first token's probability")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("A", 1.0),
        ("B", 0.0),
        ("C", 0.5),
        (" A.", 1.0),
        ("**B**", 0.0),
        ("[[A]]", 1.0),
        ("(B)", 0.0),
        ("\n\nA\nbecause", 1.0),
    ],
)
def test_without_log_probabilities_the_letter_is_read_where_words_will_do(said: str, value: float) -> None:
    assert read_token(Completion(said), words_will_do=True) == Reading(value)
    assert read_token(Completion(said, finish_reason="length"), words_will_do=True).value == value
    assert read_token(Completion(said), words_will_do=False) == Reading(
        None, "the judge told no log-probabilities; say read: auto"
    )


@pytest.mark.parametrize("said", ["A good answer would", "a", "D", "A or B", "Answer A", "А", "Ａ", "I prefer\nA"])
def test_a_line_that_is_more_than_a_letter_is_no_verdict(said: str) -> None:
    """Cyrillic and full-width letters are others."""
    reading = read_token(Completion(said), words_will_do=True)
    assert (reading.value, reading.error) == (None, "no letter alone on the first line")


def test_nothing_said_and_cut_off_are_told_apart() -> None:
    silent = [read_token(Completion("", finish_reason=r), words_will_do=True).error for r in ("stop", "length")]
    assert silent == ["the judge said nothing", "cut off before the verdict; raise max_tokens"]
    assert read_token(Completion("", error="server answered 500"), words_will_do=True).error == "server answered 500"


@given(st.dictionaries(st.text(max_size=4), st.floats(-50, 0)), st.text(max_size=20), st.booleans())
def test_a_preference_lies_between_nought_and_one_or_is_none_with_a_reason(
    first_token: dict[str, float], said: str, words: bool
) -> None:
    reading = read_token(Completion(said, first_token=first_token), words_will_do=words)
    assert (reading.value is None) == (reading.error is not None)
    assert reading.value is None or 0 <= reading.value <= 1
