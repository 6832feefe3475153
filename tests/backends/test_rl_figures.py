"""Figures of an update's answers, and the rules that stop a training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.rl_figures import ALL, NAMES, Sample, StopRules, by_group, figures, flat, grouped
from polypref.backends.rl_training import RLOptions


def sample(lang: str = "en", reward: float | None = 1.0, kl: float = 0.0, **other: object) -> Sample:
    return Sample(
        **{"lang": lang, "reward": reward, "kl": kl, "tokens": 4, "truncated": False, "off_target": False, **other}
    )  # type: ignore[arg-type]


def test_means_are_over_the_answers_that_have_the_figure() -> None:
    """Rewards 1 and 3: mean 2, standard deviation √2; a language that could not be told and a missing reward count
    nowhere but as unscored."""
    found = figures(
        [
            sample(reward=1.0, kl=0.5, tokens=2),
            sample(reward=3.0, kl=-0.1, tokens=4, off_target=True, truncated=True),
            sample(reward=None, kl=0.2, tokens=6, off_target=None),
        ]
    )
    assert found == pytest.approx(
        {
            "reward": 2.0,
            "reward_std": 2**0.5,
            "kl": 0.2,
            "length_tokens": 4.0,
            "off_target_language": 0.5,
            "truncated": 1 / 3,
            "unscored": 1.0,
        }
    )
    assert tuple(found) == NAMES


def test_a_figure_without_anything_to_go_by_is_none() -> None:
    found = figures([sample(reward=None, off_target=None)])
    assert found["reward"] is found["reward_std"] is found["off_target_language"] is None


def test_every_language_has_its_own_figures() -> None:
    found = by_group([sample("es", 1.0), sample("en", 0.0), sample("es", 0.0)])
    assert list(found) == [ALL, "en", "es"]
    assert [found[group]["reward"] for group in found] == [pytest.approx(1 / 3), 0.0, 0.5]


@given(
    st.lists(
        st.builds(
            Sample,
            st.sampled_from(["en", "es", "zh-Hans"]),
            st.none() | st.floats(-5, 5),
            st.floats(-5, 5),
            st.integers(1, 9),
            st.booleans(),
            st.none() | st.booleans(),
        ),
        min_size=1,
    )
)
def test_one_level_of_names_gives_the_groups_back(samples: list[Sample]) -> None:
    groups = by_group(samples)
    entry = {"loss": 1.0, "rewards/reward/mean": 2.0, "step": 3, **flat(groups), **flat(groups, "held_out/")}
    assert grouped(entry) == groups
    assert grouped(entry, "held_out/") == groups


def history(**figures: list[float]) -> list[dict[str, float | None]]:
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


def test_the_mean_over_the_window_decides() -> None:
    """Window 2, limit 1: 0.2 + 1.9 has the mean 1.05, 1.9 after 0.0 only 0.95."""
    rules = StopRules(2, max_kl=1.0)
    assert rules.broken(history(kl=[5.0])) is None  # no whole window yet
    assert rules.broken(history(kl=[0.0, 1.9])) is None
    broken = rules.broken(history(kl=[0.0, 0.2, 1.9]))
    assert broken is not None
    assert broken[0] == "kl"
    assert "1.05 nats an answer over 2 updates, above max_kl 1" in broken[1]


def test_length_is_held_against_the_first_updates() -> None:
    rules = StopRules(2, max_length_growth=1.5)
    assert rules.broken(history(length_tokens=[4.0, 6.0, 7.0, 8.0])) is None  # 7.5 / 5 is 1.5, not above it
    broken = rules.broken(history(length_tokens=[4.0, 6.0, 7.0, 9.0]))
    assert broken is not None
    assert broken[0] == "length"
    assert "8 tokens long over 2 updates, 1.60 times as long as at first (5)" in broken[1]


def test_a_loss_of_language_is_a_rise_of_the_share_in_another() -> None:
    rules = StopRules(1, max_language_loss=0.25)
    assert rules.broken(history(off_target_language=[0.125, 0.375])) is None
    broken = rules.broken(history(off_target_language=[0.125, 0.5]))
    assert broken is not None
    assert broken[0] == "language"
    assert "50.0% of the answers were in another language than the prompt's in one update, 12.5% at first" in broken[1]


def test_without_rules_nothing_stops_and_a_figure_that_is_missing_breaks_none() -> None:
    assert not StopRules.of(RLOptions())
    assert StopRules.of(RLOptions()).broken(history(kl=[99.0] * 9)) is None
    assert StopRules(1, max_language_loss=0.0).broken([{"off_target_language": None}]) is None
