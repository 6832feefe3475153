"""Failure signatures: what in a run's figures says that alignment did not work in a language, and what to try.

Every rule is a pure function of figures. Two kinds of it, both by 95% intervals:

- what must be shown to be good (a win rate above even, a gain, an accuracy above chance) raises its signature as long
  as the interval touches what is not good enough;
- what must not go too far (KL, length, language, gaps) raises it once the whole interval is beyond the limit.

A rule whose figure is missing, or whose figure has no standard error, says nothing; ``examined`` tells which spoke.

The signatures are those of methods in which a reward model steers a policy in a language that it was not trained on
(Wu et al. 2024, arXiv 2404.12318; overoptimisation: Gao et al. 2023, arXiv 2210.10760). The limits are conventions
of polypref, not values of these papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from polypref.errors import InputError, did_you_mean
from polypref.stages import report_tables as tables
from polypref.stages.signature_figures import (
    Check,
    Measured,
    Results,
    Seen,
    Signature,
    SignatureOptions,
    measured,
    minus,
)


def signatures(
    results: Results,
    options: SignatureOptions,
    *,
    before: str | None,
    after: str | None,
    reward: str | None = None,
    pivot: str,
    own: Mapping[str, Sequence[str]] | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> list[Signature]:
    """What is wrong, by rule and then by language.

    Args:
        before: the step that ``after`` is held against, as a rule the SFT model.
        after: the aligned step.
        reward: the step that holds the accuracy of the reward that ``after`` was made by: a reward model's name, or
            the policy of an implicit reward.
        pivot: the language that the reward's preferences are in.
        own: language → steps (rewards or policies) that were made from preferences in that language itself.
        comparisons: those of results.json; their paired intervals stand in for differences of independent figures.

    Raises:
        InputError: there is no such step, or a win rate is not in the unit of ``even``.
    """
    found = examined(
        results, options, before=before, after=after, reward=reward, pivot=pivot, own=own, comparisons=comparisons
    )
    return [check.signature for check in found if check.raised]


def examined(
    results: Results,
    options: SignatureOptions,
    *,
    before: str | None,
    after: str | None,
    reward: str | None = None,
    pivot: str,
    own: Mapping[str, Sequence[str]] | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> list[Check]:
    """Every check that could be made, raised or not; arguments and errors are those of ``signatures``."""
    for name in (before, after, reward, *(step for steps in (own or {}).values() for step in steps)):
        if name is not None and name not in results:
            raise InputError(f"the results have no step {name!r}; {did_you_mean(name, results)}")
    seen = Seen(results, options, before, after, reward, pivot, own or {}, comparisons)
    steps = [name for name in (after, before, reward) if name is not None]
    languages = dict.fromkeys(lang for name in steps for lang in results[name])
    return [check for rule in RULES for lang in languages for check in rule(seen, lang)]


Rule = Callable[[Seen, str], Iterator[Check]]


def _check(
    name: str, lang: str, metric: str, found: Measured, threshold: float, raised: bool, said: str, try_this: str
) -> Check:
    told = f"{tables.language_name(lang)}: {said}."
    figures = (found.value, found.low, found.high, threshold)
    return Check(raised, Signature(name, lang, metric, *figures, told, try_this))


# --- rules ---------------------------------------------------------------------------------------------------------


def win_rate_not_above_even(seen: Seen, lang: str) -> Iterator[Check]:
    """The win rate against before is not shown to be above even."""
    metric, even = seen.options.win_rate, seen.options.even
    found = seen.figure(seen.after, lang, metric)
    if found is None:
        return
    if even <= 1 < found.value:
        raise InputError(f"{metric} of {seen.after} in {lang} is {found.value:g}, no share; set even to 50 for percent")
    said = f"the win rate against {seen.before}, {found}, is not shown to be above {even:g}"
    yield _check(
        "win_rate_not_above_even", lang, metric, found, even, found.low <= even, said,
        "judge more prompts if the interval is wide; else keep the model of before there, and try another source "
        "language or a reward trained on translated preferences",
    )  # fmt: skip


def quality_falls(seen: Seen, lang: str) -> Iterator[Check]:
    """The judge or oracle is shown to like the answers less."""
    metric = seen.options.quality
    if found := seen.change(lang, metric):
        said = f"{metric} falls from {seen.before} to {seen.after} by {_sizes(found)}"
        yield _check(
            "quality_falls", lang, metric, found, 0.0, found.high < 0, said,
            "keep the model of before in this language; leave its pairs out, or take a reward that is accurate there",
        )  # fmt: skip


def _sizes(found: Measured) -> str:
    return str(Measured(-found.value, -found.high, -found.low))


def quality_not_up(seen: Seen, lang: str) -> Iterator[Check]:
    """No gain is shown, and no loss either."""
    metric, least = seen.options.quality, seen.options.min_gain
    if found := seen.change(lang, metric):
        said = f"{metric} is not shown to rise by more than {least:g} from {seen.before} to {seen.after}: {found}"
        yield _check(
            "quality_not_up", lang, metric, found, least, found.low <= least and found.high >= 0, said,
            "evaluate more prompts if the interval is wide; else add pairs in the language, or take another reward",
        )  # fmt: skip


def kl_high(seen: Seen, lang: str) -> Iterator[Check]:
    """The policy is far from where it started."""
    limit = seen.options.max_kl
    if found := seen.figure(seen.after, lang, "kl"):
        said = f"{seen.after} is {found} nats an answer away from its reference, more than {limit:g}"
        yield _check(
            "kl_high", lang, "kl", found, limit, found.low > limit, said,
            "raise the KL coefficient (β), lower the learning rate, or take an earlier checkpoint",
        )  # fmt: skip


def accuracy_low(seen: Seen, lang: str) -> Iterator[Check]:
    """The reward is not shown to tell right from wrong there: on judged data better than length and chance do, on the
    answers of before better than a coin."""
    if seen.reward is None:
        return
    beside = seen.results[seen.reward].get(lang, {})
    baselines = [beside.get(f"{name}_baseline") for name in ("length", "majority")]
    known = [float(value) for value in baselines if value is not None]
    best = max(known) if baselines[1] is not None else max([*known, seen.options.chance])
    views = [metric for metric in beside if _is_view(metric)]
    asked = {"accuracy": best, f"accuracy_on_{seen.before}": seen.options.chance} | dict.fromkeys(
        views, seen.options.chance
    )
    for metric, least in asked.items():
        if found := seen.figure(seen.reward, lang, metric):
            said = f"{metric} of {seen.reward}, {found}, is not shown to be above {least:.3g}"
            yield _check(
                "accuracy_low", lang, metric, found, least, found.low <= least, said,
                "do not let this reward choose there: train one on translated or bilingual preferences, try another "
                "source language, or leave the language out",
            )  # fmt: skip


def _is_view(metric: str) -> bool:
    """``reward_accuracy_<view>`` itself."""
    plain = not metric.endswith(("_stderr", "_n", "_low", "_high", tables.POLICY, tables.REFERENCE))
    return metric.startswith("reward_accuracy_") and plain


def transfer_gap(seen: Seen, lang: str) -> Iterator[Check]:
    """What was made from the language's own preferences is far ahead; where nothing was, the reward in its pivot."""
    options = seen.options
    asked = [(options.win_rate, seen.after), (options.quality, seen.after), ("accuracy", seen.reward)]
    told = False
    own = seen.own.get(lang, ())
    for metric, mine in asked:
        for step in own if mine not in own else ():
            two = seen.estimate(step, lang, metric), seen.estimate(mine, lang, metric)
            if found := measured(minus(*two)):
                told = True
                # Win rates may be in percent: the limit is a share of their scale, whose middle is even.
                limit = options.max_gap * (2 * options.even if metric == options.win_rate else 1)
                said = f"{metric} of {step}, made for the language, is {found} above that of {mine}"
                yield _gap(lang, metric, found, limit, said)
    if not told and lang != seen.pivot and seen.reward not in own:
        two = seen.estimate(seen.reward, seen.pivot, "accuracy"), seen.estimate(seen.reward, lang, "accuracy")
        if found := measured(minus(*two)):
            source = tables.language_name(seen.pivot)
            said = f"accuracy of {seen.reward} is {found} higher in {source}"
            yield _gap(lang, "accuracy", found, options.max_gap, said)


def _gap(lang: str, metric: str, found: Measured, limit: float, said: str) -> Check:
    return _check(
        "transfer_gap", lang, metric, found, limit, found.low > limit, f"{said}, more than {limit:g}",
        "train the reward on preferences in the language too, organic or translated",
    )  # fmt: skip


def length_growth(seen: Seen, lang: str) -> Iterator[Check]:
    """Answers are longer than the limit times those of before."""
    metric, limit = seen.options.length, seen.options.max_length_growth
    after, before = (seen.estimate(step, lang, metric) for step in (seen.after, seen.before))
    excess = measured(minus(after, before, limit))
    if excess is None or after is None or before is None or before.value <= 0:
        return
    # The excess over limit · before, as a ratio to before: its interval is above the limit when the excess is above 0.
    found = Measured(*(limit + end / before.value for end in (excess.value, excess.low, excess.high)))
    said = f"answers are {found} times as long as those of {seen.before} ({metric}), more than {limit:g}"
    yield _check(
        "length_growth", lang, metric, found, limit, found.low > limit, said,
        "control the length of pairs (pair.length_control: auto), take length out of the reward, or stop earlier",
    )  # fmt: skip


def leaves_language(seen: Seen, lang: str) -> Iterator[Check]:
    """More answers than before are in another language than the prompt's."""
    metric, limit = "off_target_language", seen.options.max_language_loss
    if found := seen.change(lang, metric):
        said = f"the share of answers in another language rises by {found}, more than {limit:g}"
        yield _check(
            "leaves_language", lang, metric, found, limit, found.low > limit, said,
            "keep the language check of pairing on, add answers in the language to training, or raise β",
        )  # fmt: skip


def reward_hacking(seen: Seen, lang: str) -> Iterator[Check]:
    """The reward that is optimised goes up while the judge goes down, both beyond their intervals."""
    proxy = seen.change(lang, seen.options.proxy)
    quality = seen.change(lang, seen.options.quality)
    rate = seen.figure(seen.after, lang, seen.options.win_rate)
    judged = []
    if quality:
        judged.append((quality.high < 0, f"{seen.options.quality} changes by {quality}"))
    if rate:
        judged.append((rate.high < seen.options.even, f"the win rate is {rate}"))
    if proxy is None or not judged:
        return
    down = any(is_down for is_down, _ in judged)
    told = " and ".join(words for is_down, words in judged if is_down or not down)
    said = f"{seen.options.proxy} rises by {proxy} while {told}"
    yield _check(
        "reward_hacking", lang, seen.options.proxy, proxy, 0.0, proxy.low > 0 and down, said,
        "take an earlier checkpoint or fewer samples (n), raise β, or train the reward on the policy's own answers",
    )  # fmt: skip


def blind_spot(seen: Seen, lang: str) -> Iterator[Check]:
    """The reward is far less accurate on its policy's answers than on those of the reference."""
    if seen.reward is None:
        return
    limit = seen.options.max_blind_spot
    pairs = [(f"accuracy_on_{seen.before}", f"accuracy_on_{seen.after}")]
    views = [metric for metric in seen.results[seen.reward].get(lang, {}) if _is_view(metric)]
    for first, last in pairs + [(view, view + tables.POLICY) for view in views]:
        two = seen.estimate(seen.reward, lang, first), seen.estimate(seen.reward, lang, last)
        if found := measured(minus(*two)):
            said = f"{last} of {seen.reward} is {found} below {first}, more than {limit:g}"
            yield _check(
                "blind_spot", lang, last, found, limit, found.low > limit, said,
                "label some of the policy's own answers and train the reward on them, or judge by another model",
            )  # fmt: skip


RULES: tuple[Rule, ...] = (
    win_rate_not_above_even, quality_falls, quality_not_up, kl_high, accuracy_low, transfer_gap, length_growth,
    leaves_language, reward_hacking, blind_spot,
)  # fmt: skip
"""In the order in which they are told."""


# --- what a run is about -------------------------------------------------------------------------------------------


def subjects(found: Mapping[str, Any]) -> dict[str, Any]:
    """Which steps a results.json asks about first, as arguments of ``signatures``: see ``all_subjects``."""
    return all_subjects(found)[0]


def all_subjects(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which steps a results.json asks about, each entry as arguments of ``signatures``.

    First the rounds: ``before`` is what the first round starts from, ``after`` what the last one made, ``reward`` the
    last round's. Then what best-of-n picks by that reward, or by the one that is trained on the pivot; where nothing
    tells which it is, by each. ``own`` are the rewards that were trained on one language alone, and what they made the
    same way. Without either, a single reward that is trained on the pivot is the reward, and there is no before and no
    after.
    """
    rounds = found.get("rounds") or []
    picks = (found.get("best_of_n") or {}).get("rewards") or {}
    pivot = str((found.get("config") or {}).get("pivot", "en"))
    # A run that judges no rewards tells it of those that pick.
    trained_on = {name: pick.get("trained_on") or [] for name, pick in picks.items()}
    trained_on |= (found.get("rewards") or {}).get("trained_on") or {}
    alone = {name: languages[0] for name, languages in trained_on.items() if len(languages) == 1}
    in_pivot = [name for name, lang in alone.items() if lang == pivot]
    reward = None
    if rounds:
        by = rounds[-1].get("reward") or {}
        reward = by.get("model", by.get("policy"))
    elif len(in_pivot) == 1:
        reward = in_pivot[0]
    elif len(picks) == 1:
        [reward] = picks
    told = (found.get("signatures") or {}).get("gains") or []
    shared = {"pivot": pivot, "comparisons": [*(found.get("comparisons") or []), *told]}

    def known(name: str | None) -> str | None:
        return name if name in found["results"] else None

    out = []
    if rounds:
        ends = {"before": rounds[0].get("starts_from"), "after": rounds[-1].get("model")}
        # A run that evaluates nothing has no figures of either.
        steps = {end: known(step) for end, step in ends.items()}
        made = {step: by for now in rounds[-1:] for step, by in (now.get("made_by") or {}).items()}
        out.append({**steps, "own": _own(found, alone, made), "reward": known(reward), **shared})
    for name in [reward] if reward in picks else picks if reward is None else ():
        steps = {"before": found["best_of_n"]["model"], "after": picks[name]["step"]}
        made = {pick["step"]: by for by, pick in picks.items()}
        out.append({**steps, "own": _own(found, alone, made), "reward": known(name), **shared})
    return out or [{"before": None, "after": None, "own": _own(found, alone, {}), "reward": known(reward), **shared}]


def _own(found: Mapping[str, Any], alone: Mapping[str, str], made: Mapping[str, str]) -> dict[str, list[str]]:
    """Language → the rewards that were trained on it alone, and the steps that they made, unless they judge those."""
    evaluate = (found.get("config") or {}).get("evaluate") or {}
    if (evaluate.get("win_rates") or [""])[0] == "target":
        made = {}
    out: dict[str, list[str]] = {}
    for name, reward in {**{name: name for name in alone}, **made}.items():
        if reward in alone and name in found["results"]:
            out.setdefault(alone[reward], []).append(name)
    return out
