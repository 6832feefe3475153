"""Best-of-n as it is served: the picks are those of the stages, and what cannot be answered is refused by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from polypref import registry
from polypref.backends.base import Completion, Context, Judged, Request, Sampling
from polypref.backends.fake import FakeGenerator, FakeLanguageIdentifier
from polypref.backends.serving_wire import Asked, Choice, Refusal, Served
from polypref.errors import ModelError
from polypref.records import Example
from polypref.stages.best_of_n import BestOfNOptions, best_of_n
from polypref.stages.generate import GenerateOptions, generate
from polypref.stages.score import ScorerOptions, by_scorer
from polypref.stages.serve_best_of_n import ServeOptions, example_of, opened, serve

FAKE = {"path": "fake", "backend": "fake"}


def options(**more: Any) -> ServeOptions:
    return ServeOptions.model_validate({"model": FAKE, "scorer": {"scorer": "fake"}, "languages": ["en", "es"], **more})


def asked(text: str = "[es] Hola", choices: int = 1, n: int = 4, seed: int = 3, **more: Any) -> Asked:
    sampling = Sampling(n=choices * n, temperature=1.0)
    return Asked([{"role": "user", "content": text}], sampling, choices, n, seed, **{"lang": "es", **more})


@pytest.fixture
def context() -> Context:
    return registry.context(("en", "es"), identifier="fake")[0]


def answers(found: Served | Refusal) -> list[str]:
    assert isinstance(found, Served)
    return [choice.text for choice in found.choices]


# --- the same as the stages ----------------------------------------------------------------------------------------


def by_stages(one: Asked, told: ServeOptions, context: Context, n: int) -> tuple[Example, Example]:
    """The samples of one request with their scores, and what is picked of the first n, stage by stage."""
    source = {"role": "policy", "model": told.model, "n": one.sampling.n}
    drawing = GenerateOptions.model_validate({"sources": [source], "sampling": {"temperature": 1.0, "seed": told.seed}})
    [drawn] = by_scorer(
        generate([example_of(one, "es")], drawing, context), ScorerOptions(scorer="fake", name="rm"), context
    )
    picking = BestOfNOptions(score="rm", n=(n,), keep="picked", temperature=told.temperature, seed=told.seed)
    [picked] = best_of_n([dataclasses.replace(drawn, candidates=drawn.candidates[:n])], picking, context)
    return drawn, picked


@pytest.mark.parametrize("more", [{}, {"temperature": 0.3}, {"seed": 7}])
def test_what_is_served_is_what_best_of_n_picks_of_the_same_samples(context: Context, more: dict[str, Any]) -> None:
    told = options(**more)
    for seed in range(12):
        one = asked(seed=seed)
        [found] = serve([one], told, context)
        drawn, picked = by_stages(one, told, context, 4)
        assert isinstance(found, Served)
        [choice], [best] = found.choices, picked.candidates
        assert (choice.text, choice.score, choice.finish_reason) == (best.text, best.scores["rm"], best.finish_reason)
        assert drawn.candidates[choice.sample].id == best.id
        assert choice.left == sum(c.finish_reason == "stop" for c in drawn.candidates)
        assert found.completion_tokens == sum(c.tokens or 0 for c in drawn.candidates)


def test_choices_are_draws_of_their_own_and_the_first_of_several_is_the_one_of_one(context: Context) -> None:
    """The k-th choice is the best of samples 4k to 4k + 3."""
    [three], [one] = (serve([asked(choices=k)], options(), context) for k in (3, 1))
    drawn, _ = by_stages(asked(choices=3), options(), context, 4)
    assert answers(three)[0] == answers(one)[0]
    for k, text in enumerate(answers(three)):
        own = [c for c in drawn.candidates[4 * k : 4 * k + 4] if c.finish_reason == "stop"]
        assert text == max(own, key=lambda c: c.scores["rm"]).text
    assert len(set(answers(three))) == 3


def test_soft_choices_are_drawn_apart() -> None:
    """Equal scores leave the pick to chance, and each choice and each seed has its own."""
    context = Opened(generator=Says(*(16 * ["a", "b", "c", "d"])), scorer=Scored(lambda text: 0.0)).context()
    [found] = serve([asked(choices=16)], options(temperature=1.0), context)
    assert set(answers(found)) == set("abcd")
    assert serve([asked(choices=16)], options(temperature=1.0), context) == [found]
    assert serve([asked(choices=16, seed=4)], options(temperature=1.0), context) != [found]


# --- requests that come together -----------------------------------------------------------------------------------


def test_a_request_has_the_same_answer_alone_and_among_others(context: Context) -> None:
    batch = [
        asked("[es] Uno"), asked("[es] Uno", seed=4), asked("[es] Dos", n=2), asked("[es] Uno", choices=2, n=2),
        asked("[es] Uno"), asked("[en] One", lang="en"),
    ]  # fmt: skip
    together = serve(batch, options(), context)
    assert together == [found for one in batch for found in serve([one], options(), context)]
    assert together[0] == together[4]
    assert answers(together[0]) != answers(together[1])


class Counting(FakeGenerator):
    """Says what it was asked for in each call."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        self.calls = [*getattr(self, "calls", []), (len(requests), sampling.n)]
        return super().generate(requests, sampling)


class Opened:
    """A context in which roles are played by what the test brings."""

    def __init__(self, **roles: Any) -> None:
        self.roles = {"language_identifier": FakeLanguageIdentifier(), **roles}

    def context(self) -> Context:
        return Context(lambda role, spec: self.roles[role], ("en", "es"))


class Scored:
    """A score by a function of the text."""

    fingerprint = "scored"

    def __init__(self, score: Callable[[str], float | None]) -> None:
        self.of = score

    def score(self, judged: Sequence[Judged]) -> list[float | None]:
        self.seen = list(judged)
        return [self.of(one.text) for one in judged]


def test_requests_with_the_same_sampling_are_one_call_and_equal_ones_are_drawn_once() -> None:
    model = Counting(options().model)
    context = Opened(generator=model, scorer=Scored(lambda text: float(len(text)))).context()
    serve([asked("a"), asked("b"), asked("b", seed=4), asked("a"), asked("c", n=2)], options(), context)
    assert model.calls == [(3, 4), (1, 2)]


# --- what may be picked --------------------------------------------------------------------------------------------


class Says:
    """Each request's samples, word for word: ``!`` at the end is one that was cut, ``FAIL`` one that failed."""

    fingerprint = "says"

    def __init__(self, *texts: str, too_long: bool = False) -> None:
        self.texts, self.too_long = texts, too_long

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[self._of(text) for text in self.texts[: sampling.n]] for _ in requests]

    def _of(self, text: str) -> Completion:
        if self.too_long or text == "FAIL":
            return Completion("", finish_reason=None, error=f"it {text}s", too_long=self.too_long)
        cut = text.endswith("!")
        return Completion(text.rstrip("!"), tuple(range(len(text))), "length" if cut else "stop", "hm" if cut else None)


def pick(model: Says, score: Callable[[str], float | None] = lambda text: float(len(text)), **more: Any) -> Any:
    [found] = serve(
        [asked(n=len(model.texts))], options(**more), Opened(generator=model, scorer=Scored(score)).context()
    )
    return found


def test_whole_answers_go_before_cut_ones_unless_said_otherwise() -> None:
    model = Says("aa", "aaaa!", "a", "FAIL", " ")
    assert pick(model).choices == [Choice("aa", "stop", 2.0, 0, 2)]
    assert pick(model, drop_truncated=False).choices == [Choice("aaaa", "length", 4.0, 1, 3, thinking="hm")]


def test_where_nothing_passes_the_filters_all_that_did_not_fail_compete() -> None:
    found = pick(Says("aa!", "aaaa!", "FAIL", " "))
    assert found.choices == [Choice("aaaa", "length", 4.0, 1, 0, thinking="hm")]
    assert found.completion_tokens == 3 + 5 + 1
    assert pick(Says("FAIL", " ")).choices == [Choice(" ", "stop", 1.0, 1, 0)]


def test_an_answer_in_another_language_is_picked_only_without_the_check() -> None:
    model = Says("[es] sí", "[en] yes, indeed", "[es] claro")
    assert pick(model).choices[0].text == "[en] yes, indeed"
    checked = pick(model, language_check=True, language_identifier="fake")
    assert (checked.choices[0].text, checked.choices[0].left) == ("[es] claro", 2)


def test_a_sample_that_the_scorer_is_silent_on_is_not_picked() -> None:
    found = pick(Says("a", "bbb", "cc"), lambda text: None if text == "bbb" else float(len(text)))
    assert (found.choices[0].text, found.choices[0].left) == ("cc", 2)


# --- what has no answer --------------------------------------------------------------------------------------------


def test_where_every_sample_failed_the_reasons_are_told() -> None:
    found = pick(Says("FAIL", "FAIL"))
    assert (found.status, found.message) == (500, "all samples of choice 0 failed: it FAILs")
    silent = pick(Says("a"), lambda text: None)
    assert silent.message == "all samples of choice 0 failed: not scored: fake gave no score"


def test_a_prompt_beyond_the_window_is_the_clients_mistake() -> None:
    found = pick(Says("a", "b", too_long=True))
    assert (found.status, found.code) == (400, "context_length_exceeded")


def test_a_conversation_that_the_model_cannot_read_does_not_fail_the_others(context: Context) -> None:
    def count(messages: Sequence[dict[str, Any]]) -> int:
        if "bad" in messages[0]["content"]:
            raise ModelError("the chat template refuses it; change it")
        return 5

    good, bad = serve([asked(), asked("bad")], options(), context, count)
    assert isinstance(good, Served)
    assert isinstance(bad, Refusal)
    assert (good.prompt_tokens, bad.status, bad.message) == (5, 400, "the chat template refuses it; change it")
    assert serve([asked("bad")], options(), context, count)[0].status == 400  # type: ignore[union-attr]


# --- languages, and who serves -------------------------------------------------------------------------------------


def test_the_scorer_is_told_the_prompts_language() -> None:
    scorer = Scored(lambda text: 0.0)
    context = Opened(generator=Says("a"), scorer=scorer).context()
    batch = [
        asked(text, n=1, lang=lang) for text, lang in (("x", "de"), ("[es] x", None), ("x", None), ("[fr] x", None))
    ]
    found = serve(batch, options(), context)
    told = [(one.lang, one.lang_from) for one in found if isinstance(one, Served)]
    assert told == [("de", "request"), ("es", "identified"), ("en", "default"), ("en", "default")]
    assert [judged.lang for judged in scorer.seen] == [lang for lang, _ in told]


def test_a_script_of_a_language_is_found_by_the_language() -> None:
    context = Opened(generator=Says("a"), scorer=Scored(lambda text: 0.0)).context()
    [found] = serve([asked("[zh] x", n=1, lang=None)], options(languages=["en", "zh-Hans"]), context)
    assert isinstance(found, Served)
    assert (found.lang, found.lang_from) == ("zh-Hans", "identified")


def test_one_language_needs_no_identifier() -> None:
    context = Opened(generator=Says("a"), scorer=Scored(lambda text: 0.0), language_identifier=None).context()
    [found] = serve([asked(n=1, lang=None)], options(languages=["es"]), context)
    assert isinstance(found, Served)
    assert (found.lang, found.lang_from) == ("es", "default")


def test_the_fingerprint_follows_what_changes_an_answer(context: Context) -> None:
    first = opened(options(), context)
    another = {"path": "fake?version=2", "backend": "fake"}
    others = [options(seed=1), options(temperature=1.0), options(drop_truncated=False), options(model=another)]
    assert opened(options(), context) == first
    assert len({first, *(opened(other, context) for other in others)}) == 5
