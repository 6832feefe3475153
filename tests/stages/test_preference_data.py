"""Preference data before training: mixed by language, split so that no prompt is on both sides, and checked."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.overlap import find_overlap, normalise_text
from polypref.stages.preference_data import Mix, check, mixed, split
from polypref.stages.prompt_instruction import instructed


def example(key: str, *pairs: tuple[str, str, str], labels: tuple[tuple[str, str, object], ...] = ()) -> Example:
    """An example of (language, chosen, rejected) pairs and (language, text, label) answers; its prompts are its own."""
    made = Example(key, {lang: [{"role": "user", "content": f"{key} in {lang}"}] for lang, *_ in (*pairs, *labels)})
    for number, (lang, chosen, rejected) in enumerate(pairs):
        ids = [f"{key}/p{number}/{side}" for side in "cr"]
        made.candidates += [Candidate(i, lang, text) for i, text in zip(ids, (chosen, rejected), strict=True)]
        made.pairs.append(Pair(lang, ids[0], ids[1], rule="given"))
    made.candidates += [Candidate(f"{key}/l{n}", lang, text, label=x) for n, (lang, text, x) in enumerate(labels)]
    return made


def asked(key: str, **prompts: str) -> Example:
    return Example(key, {lang: [{"role": "user", "content": text}] for lang, text in prompts.items()})


def rows(examples: list[Example]) -> Counter[str]:
    """Rows by language, counted anew."""
    found = Counter(pair.lang for e in examples for pair in e.pairs)
    return found + Counter(c.lang for e in examples for c in e.candidates if c.label is not None)


DATA = [example(f"e{n}", ("en", "a", "b")) for n in range(9)] + [
    example(f"s{n}", ("es", "a", "b"), ("en", "c", "d")) for n in range(6)
]
"""15 rows in English, 6 in Spanish."""


# --- mixing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mix", "wanted"),
    [
        ("natural", {"en": 15, "es": 6}),
        ("even", {"en": 6, "es": 6}),
        ({"en": 1, "es": 1}, {"en": 6, "es": 6}),
        ({"en": 0.3, "es": 0.1}, {"en": 15, "es": 5}),  # t = min(15 / 0.3, 6 / 0.1) = 50
        ({"en": 0.3, "es": 0.2}, {"en": 9, "es": 6}),  # t = 30, and 0.3 · 30 is 9, as binary fractions just under
        ({"en": 1, "es": 3}, {"en": 2, "es": 6}),  # t = 2
        ({"en": 2, "es": 3, "fr": 9}, {"en": 4, "es": 6}),  # a weight of a language that is not asked for
    ],
)
def test_rows_are_left_out_until_the_weights_hold(mix: Mix, wanted: dict[str, int]) -> None:
    """⌊w·t⌋ rows, t the least n / w, by hand."""
    kept, summary = mixed(DATA, ("en", "es"), mix)
    assert rows(kept) == summary.kept == wanted
    assert summary.left_out == {tag: n - wanted[tag] for tag, n in {"en": 15, "es": 6}.items() if n > wanted[tag]}
    assert bool(summary.remarks()) == bool(summary.left_out)


def test_what_is_left_out_is_told_by_language() -> None:
    _, summary = mixed(DATA, ("en", "es"), "even")
    assert summary.remarks() == ["rows left out to keep the mix of languages: en 9 of 15"]


def test_one_language_is_its_rows_alone() -> None:
    """An example's other pairs go, its answers stay."""
    kept, summary = mixed(DATA, ("es",))
    assert [e.id for e in kept] == [f"s{n}" for n in range(6)]
    assert summary.kept == {"es": 6}
    assert all([pair.lang for pair in e.pairs] == ["es"] and len(e.candidates) == 4 for e in kept)
    assert mixed(DATA, ())[1].kept == {"en": 15, "es": 6}


def test_labels_are_rows_and_a_label_left_out_leaves_its_answer() -> None:
    data = [example("1", labels=(("en", "a", True), ("en", "b", False), ("es", "c", 0.5)))]
    [kept], summary = mixed(data, (), "even")
    assert summary.kept == {"en": 1, "es": 1}
    assert [c.text for c in kept.candidates] == ["a", "b", "c"]
    assert Counter(c.lang for c in kept.candidates if c.label is not None) == {"en": 1, "es": 1}


def test_rows_that_teach_nothing_are_no_rows() -> None:
    failed = example("3", labels=(("en", "d", True),))
    failed.candidates[0].error = "failed"
    data = [example("1", ("en", "a", "a"), ("en", "a", " ")), example("2", ("en", "a", "b")), failed]
    kept, summary = mixed(data)
    assert ([e.id for e in kept], summary.kept) == (["2"], {"en": 1})


@pytest.mark.parametrize(
    ("languages", "mix", "message"),
    [
        (("fr", "en"), "natural", "no pair and no label in fr; there are some in en, es"),
        (("en", "es"), {"en": 1}, "the weight of es is None"),
        (("en", "es"), {"en": 1, "es": 0}, "the weight of es is 0"),
        (("en", "es"), {"en": 1, "es": float("nan")}, "the weight of es is nan"),
        (("en", "es"), {"en": 1, "es": 0.01}, "the weight of es leaves none of its rows"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(languages: tuple[str, ...], mix: Mix, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mixed(DATA, languages, mix)


@given(st.randoms(), st.integers(), st.sampled_from(["even", {"en": 0.4, "es": 0.9}]))
def test_a_mix_depends_on_neither_order_nor_chance(shuffler: random.Random, seed: int, mix: Mix) -> None:
    once = {e.id: e for e in mixed(DATA, (), mix, seed)[0]}
    shuffled = list(DATA)
    shuffler.shuffle(shuffled)
    assert {e.id: e for e in mixed(shuffled, (), mix, seed)[0]} == once
    before = {e.id: e for e in DATA}
    assert all({(p.chosen, p.rejected) for p in e.pairs} <= {(p.chosen, p.rejected) for p in before[e.id].pairs}
               for e in once.values())  # fmt: skip


def test_a_seed_chooses_the_rows() -> None:
    chosen = {seed: {e.id for e in mixed(DATA, ("en", "es"), "even", seed)[0]} for seed in range(5)}
    assert len({frozenset(ids) for ids in chosen.values()}) > 1


# --- splitting -----------------------------------------------------------------------------------------------------


def test_equal_prompts_of_any_language_stay_on_one_side() -> None:
    """a and b share a German prompt, b and c an English one but for case and space: a chain of three."""
    data = [
        asked("a", en="one", de="eins"),
        asked("b", en="Two", de="eins"),
        asked("c", en=" two"),
        *(asked(f"x{n}", en=f"other {n}") for n in range(7)),
    ]
    sides = []
    for seed in range(20):
        training, validation = split(data, 0.3, seed)
        assert len(training) + len(validation) == 10
        ids = {e.id for e in validation}
        assert ids & {"a", "b", "c"} in (set(), {"a", "b", "c"})
        sides.append("a" in ids)
    assert len(set(sides)) == 2


def test_an_instruction_makes_prompts_no_other() -> None:
    data = instructed([asked("a", en="one"), asked("b", en="two")], "Be brief.")
    for seed in range(10):
        assert not find_overlap(*split([*data, asked("c", en="one")], 0.4, seed))


def test_further_examples_move_none_of_the_others() -> None:
    """Of 2000 prompts a tenth is held out; the binomial deviation is 13."""
    data = [asked(str(n), en=f"prompt {n}") for n in range(2000)]
    few, many = split(data[:1000], 0.1)[1], split(data, 0.1)[1]
    assert [e.id for e in many if int(e.id) < 1000] == [e.id for e in few]
    assert 150 < len(many) < 250


def test_there_is_a_validation_side_wherever_there_are_two_prompts() -> None:
    """A share of next to nothing is one group, one of next to all leaves one."""
    assert [len(side) for side in split([asked(str(n), en=str(n)) for n in range(4)], 0.01)] == [3, 1]
    assert [len(side) for side in split([asked(str(n), en=str(n)) for n in range(4)], 0.999999)] == [1, 3]
    alone = [asked(side, en="same") for side in "ab"]
    assert split(alone, 0.5) == (alone, [])


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="must be between 0 and 1"):
        split(DATA, share)


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=24), st.floats(0.05, 0.9), st.randoms(), st.integers()
)
def test_no_prompt_is_on_both_sides_and_order_does_not_matter(
    texts: list[str], share: float, shuffler: random.Random, seed: int
) -> None:
    data = [asked(str(n), en=text, es=text.upper()) for n, text in enumerate(texts)]
    training, validation = split(data, share, seed)
    assert sorted([*training, *validation], key=data.index) == data
    assert (training, validation) == tuple(sorted(side, key=data.index) for side in (training, validation))
    assert not {normalise_text(texts[int(e.id)]) for e in training} & {texts[int(e.id)] for e in validation}
    assert bool(validation) == (len(set(texts)) > 1)
    shuffler.shuffle(data)
    assert {e.id for e in split(data, share, seed)[1]} == {e.id for e in validation}


# --- checking ------------------------------------------------------------------------------------------------------


def test_rows_are_counted_by_language() -> None:
    found = check(DATA, [example("v", ("es", "a", "b"), labels=(("en", "a", True),))])
    assert (found.training.pairs, found.training.labels) == ({"en": 15, "es": 6}, {})
    assert (found.validation.pairs, found.validation.labels) == ({"es": 1}, {"en": 1})
    assert found.remarks() == []


def test_repetitions_contradictions_and_unfit_rows_are_found_across_examples() -> None:
    """One prompt in three examples: the second says again what the first says, the third the opposite."""
    first, second, third = (example(key, ("en", *pair)) for key, pair in zip("123", ("ab", "ab", "ba"), strict=True))
    for other in (second, third):
        other.prompts = {"en": [{"role": "user", "content": " 1  IN en"}]}
    rated = example("4", labels=(("es", "a", True), ("es", "a", True), ("es", "a", False)))
    unfit = example("5", ("fr", "a", "a"), ("fr", "", "b"), ("en", "a", "b"))
    found = check([first, second, third, rated, unfit]).training
    assert (found.pairs, found.labels) == ({"en": 4}, {"es": 3})
    assert (found.repeated.counts, found.repeated.ids) == ({"en": 1, "es": 1}, ("2 and 1", "4"))
    assert (found.contradicted.counts, found.contradicted.ids) == ({"en": 1, "es": 1}, ("3 and 1", "4"))
    assert (found.unfit.counts, found.unfit.ids) == ({"fr": 2}, ("5",))
    assert check([first, second, third, rated, unfit]).remarks() == [
        "training rows say again what an earlier one says: en 1, es 1 (ids 2 and 1, 4)",
        "training rows contradict an earlier one on the same answers: en 1, es 1 (ids 3 and 1, 4)",
        "training rows are left out, with two equal answers or one that says nothing: fr 2 (ids 5)",
    ]


def test_labels_of_one_half_are_counted_and_told() -> None:
    found = check([example("1", labels=(("en", "a", 0.5), ("en", "b", True), ("es", "c", 0.5), ("es", "d", 0.6)))])
    assert (found.training.labels, found.training.undecided.counts) == ({"en": 2, "es": 2}, {"en": 1, "es": 1})
    assert found.remarks() == [
        "training labels of 0.5, neither right nor wrong: en 1, es 1 (ids 1); they stay in the loss and are left aside "
        "by every accuracy"
    ]


def test_only_the_first_ids_of_many_are_told() -> None:
    found = check([example(f"e{n}", ("en", "a", "a")) for n in range(4)]).training.unfit
    assert str(found) == "en 4 (ids e0, e1, e2, …)"


def test_equal_answers_to_other_prompts_or_in_other_languages_are_no_repetition() -> None:
    assert check([example("1", ("en", "a", "b"), ("es", "a", "b")), example("2", ("en", "b", "a"))]).remarks() == []


def test_leaks_are_told_with_their_ids() -> None:
    training = [example("1", ("en", "a", "b")), example("2", ("en", "a", "b")), example("3", ("fr", "a", "b"))]
    leaked = example("9", ("es", "c", "d"))
    leaked.prompts = {"es": [{"role": "user", "content": "2 IN en"}]}
    found = check(training, [leaked, example("3", ("es", "a", "b"))])
    assert found.leaks.train_ids == {"2", "3"}
    assert found.remarks() == [
        "training prompts that validation has too: 2 (1 by id, 1 by text; ids 2, 3)",
        "languages of training that validation has no rows in: en, fr",
    ]


@given(st.randoms(), st.floats(0.1, 0.9))
def test_what_is_split_never_leaks(shuffler: random.Random, share: float) -> None:
    data = [*DATA, *(example(f"again{n}", ("en", "a", "b")) for n in range(5))]
    for n, again in enumerate(data[-5:]):
        again.prompts = data[n].prompts
    shuffler.shuffle(data)
    assert not check(*split(data, share)).leaks
