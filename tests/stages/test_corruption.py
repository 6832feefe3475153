"""Data made worse on purpose, in a known share."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.corruption import corrupt_answers, flip_labels, flip_pairs

PROMPTS = {lang: [{"role": "user", "content": f"prompt in {lang}"}] for lang in ("en", "es")}


def answered(n: int, *, each: int = 1, langs: tuple[str, ...] = ("en", "es")) -> list[Example]:
    """n prompts with as many different answers in each language."""
    return [
        Example(
            str(i),
            PROMPTS,
            [
                Candidate(f"{lang}{k}", lang, f"{lang} answer {k} to {i}", tokens=i)
                for lang in langs
                for k in range(each)
            ],
        )
        for i in range(n)
    ]


def paired(n: int) -> list[Example]:
    return [
        Example(
            str(i),
            PROMPTS,
            [Candidate("a", "en", "good"), Candidate("b", "en", "bad")],
            [Pair(lang, "a", "b", margin=0.5) for lang in ("en", "es")],
        )
        for i in range(n)
    ]


def labelled(n: int) -> list[Example]:
    return [Example(str(i), PROMPTS, [Candidate("a", "en", "x", label=True)]) for i in range(n)]


def places(before: list[Example], after: list[Example]) -> set[tuple[str, str]]:
    """(example, candidate) of the answers that are others."""
    return {
        (old.id, was.id)
        for old, new in zip(before, after, strict=True)
        for was, now in zip(old.candidates, new.candidates, strict=True)
        if was.text != now.text
    }


def flipped(after: list[Example]) -> set[tuple[str, str]]:
    return {(example.id, pair.lang) for example in after for pair in example.pairs if pair.chosen == "b"}


def test_answers_change_places_within_their_language() -> None:
    before = answered(20)
    after, counts = corrupt_answers(before, 0.25, seed=1)
    assert counts == {"en": 5, "es": 5}
    assert len(places(before, after)) == 10
    for lang in ("en", "es"):
        texts = [Counter(c.text for e in side for c in e.candidates if c.lang == lang) for side in (before, after)]
        assert texts[0] == texts[1]
    for old, new in zip(before, after, strict=True):
        assert [c.id for c in new.candidates] == [c.id for c in old.candidates]
        for candidate in new.candidates:  # an answer goes with all that is known of it
            assert candidate.text.startswith(candidate.lang)
            assert candidate.text.endswith(f" to {candidate.tokens}")


@given(
    n=st.integers(2, 12),
    each=st.integers(1, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_no_answer_goes_to_its_own_prompt_while_there_are_enough_others(
    n: int, each: int, share: float, seed: int
) -> None:
    """Wherever one prompt has at most half of the answers that are hit."""
    before = answered(n, each=each, langs=("en",))
    try:
        after, counts = corrupt_answers(before, share, seed)
    except InputError:
        assert int(share * n * each + 0.5) == 1
        return
    hit = int(share * n * each + 0.5)
    owners = Counter(example_id for example_id, _ in places(before, after))
    if hit >= 2 * each:
        assert counts == {"en": hit}
        stay = [new.id for new in after for c in new.candidates if c.text.endswith(f" to {new.id}")]
        assert len(stay) == n * each - hit
    assert sum(owners.values()) <= hit


def test_equal_answers_are_not_counted_as_corrupted() -> None:
    before = [Example(str(i), PROMPTS, [Candidate("a", "en", "the same")]) for i in range(4)]
    after, counts = corrupt_answers(before, 1.0)
    assert counts == {"en": 0}
    assert after == before


def test_a_single_answer_has_none_to_change_places_with() -> None:
    with pytest.raises(InputError, match=r"0\.1 leaves one answer in en to corrupt"):
        corrupt_answers(answered(10), 0.1)


def test_chosen_and_rejected_change_places_and_the_pair_says_so() -> None:
    after, counts = flip_pairs(paired(10), 0.3)
    assert counts == {"en": 3, "es": 3}
    assert len(flipped(after)) == 6
    for example in after:
        for pair in example.pairs:
            turned = pair.chosen == "b"
            assert {pair.chosen, pair.rejected} == {"a", "b"}
            assert pair.margin == 0.5
            assert pair.extra == ({"flipped": True} if turned else {})


@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_what_a_lower_share_hits_a_higher_one_hits_too(low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    pairs = [flipped(flip_pairs(paired(13), share, seed)[0]) for share in (low, high)]
    assert pairs[0] <= pairs[1]
    marked = [
        {e.id for e in flip_labels(labelled(13), share, seed)[0] if e.candidates[0].label is not True}
        for share in (low, high)
    ]
    assert marked[0] <= marked[1]
    assert len(pairs[0]) == 2 * int(low * 13 + 0.5)


def test_the_order_of_the_data_has_no_say_and_the_seed_has() -> None:
    data = paired(40)
    once, backwards = (flipped(flip_pairs(side, 0.5)[0]) for side in (data, data[::-1]))
    assert once == backwards != flipped(flip_pairs(data, 0.5, seed=1)[0])
    # Nor has what is chosen: flipping what was flipped gives the pairs as they were.
    again = flip_pairs(flip_pairs(data, 0.5)[0], 0.5)[0]
    assert [[(p.chosen, p.rejected) for p in e.pairs] for e in again] == [
        [(p.chosen, p.rejected) for p in e.pairs] for e in data
    ]


@pytest.mark.parametrize(("label", "opposite"), [(True, False), (0, 1), (0.25, 0.75), ("Chosen", 0), ("wrong", 1)])
def test_a_flipped_label_is_its_opposite(label: object, opposite: object) -> None:
    given = [Example("1", PROMPTS, [Candidate("a", "en", "x", label=label), Candidate("b", "en", "y")])]
    (after,), counts = flip_labels(given, 1.0)
    assert after.candidates[0].label == opposite
    assert type(after.candidates[0].label) is type(opposite)
    assert (after.candidates[1].label, counts) == (None, {"en": 1})


def test_what_cannot_be_done_is_refused() -> None:
    for share in (-0.1, 1.1, float("nan")):
        for work in (corrupt_answers, flip_pairs, flip_labels):
            with pytest.raises(InputError, match="must be from 0 to 1"):
                work(paired(3), share)
    with pytest.raises(InputError, match=r"label of 'a' of example '1' is 'fine', which has no opposite"):
        flip_labels([Example("1", PROMPTS, [Candidate("a", "en", "x", label="fine")])], 1.0)
