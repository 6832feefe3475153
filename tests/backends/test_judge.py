"""Judges: what they read in a model's words, and what comes of both orders, over a scripted server and a fake."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from judged_answers import Says, comparison, judged, served, token
from scripted_server import Reply, ScriptedServer

from polypref.backends.base import (
    Comparer,
    ModelSpec,
    Scorer,
    ScorerSpec,
    Usage,
    Verdict,
)
from polypref.backends.fake import FakeGenerator
from polypref.backends.judge import NumberJudge, PairJudge
from polypref.backends.judging import ImplicitSettings, NumberSettings, PairSettings, RewardModelSettings, settings_of
from polypref.errors import ModelError, RecipeError

# --- a judge of numbers --------------------------------------------------------------------------------------------


def test_each_plays_its_role() -> None:
    says = Says(lambda request, k: "")
    assert isinstance(NumberJudge(says, NumberSettings()), Scorer)
    assert isinstance(PairJudge(says, PairSettings()), Comparer)
    assert NumberJudge(says, NumberSettings()).score([]) == []
    assert PairJudge(says, PairSettings()).compare([]) == []
    assert says.requests == []


def test_numbers_come_in_order_and_none_where_there_is_none() -> None:
    def rate(body: dict[str, Any]) -> Reply:
        answer = re.search(r"<answer \w+>\n(.*)\n</answer", body["messages"][-1]["content"])
        assert answer is not None
        return Reply.texts({"42": "Right.\nRating: [[10]]", "7": "Rating: [[1]]"}.get(answer[1], "I cannot say."))

    with ScriptedServer(rate) as server:
        judge = NumberJudge(served(server.url), NumberSettings())
        scores = judge.score([judged(text, f"q1/en/{k}") for k, text in enumerate(("42", "?", "7", "42"))])
    assert scores == [10.0, None, 1.0, 10.0]
    assert len(server.bodies) == 4
    assert {(body["temperature"], body["max_tokens"], "n" in body) for body in server.bodies} == {(0.0, 1024, False)}


def test_a_request_is_made_of_the_answer_alone() -> None:
    """Ids and prompts, and so seeds, are the same in any batch and in every run."""
    says = Says(lambda request, k: "[[5]]")
    NumberJudge(says, NumberSettings()).score([judged("42"), judged("7", "q1/en/1")])
    NumberJudge(says, NumberSettings()).score([judged("7", "q1/en/1")])
    assert [request.id for request in says.requests] == ["q1/en/0/rating", "q1/en/1/rating", "q1/en/1/rating"]
    assert says.requests[1] == says.requests[2]


def test_the_mean_of_samples_is_of_those_that_could_be_read() -> None:
    """(4 + 9) / 2 = 6.5 beside one that says nothing."""
    says = Says(lambda request, k: ["[[4]]", "no idea", "[[9]]"][k])
    judge = NumberJudge(says, NumberSettings(samples=3, temperature=0.7))
    [rating] = judge.rate([judged("42")])
    assert rating.value == 6.5
    assert rating.errors == ("no verdict on the last line",)
    assert rating.said == ("[[4]]", "no idea", "[[9]]")
    assert (says.samplings[0].n, says.samplings[0].temperature) == (3, 0.7)


def test_a_failed_request_leaves_one_answer_without_a_number() -> None:
    def fail_one(body: dict[str, Any]) -> Reply:
        return Reply(500) if "\nbroken\n" in body["messages"][-1]["content"] else Reply.texts("[[6]]")

    with ScriptedServer(fail_one) as server:
        judge = NumberJudge(served(server.url), NumberSettings())
        ratings = judge.rate([judged("42"), judged("broken"), judged("7")])
    assert [rating.value for rating in ratings] == [6.0, None, 6.0]
    assert ratings[1].errors == ("server answered 500 after 2 tries",)
    assert len(server.bodies) == 4


def test_a_server_that_refuses_everybody_stops_the_judge() -> None:
    with ScriptedServer(Reply(401)) as server, pytest.raises(ModelError, match="does not accept the key"):
        NumberJudge(served(server.url), NumberSettings()).score([judged("42")])


# --- a judge of pairs ----------------------------------------------------------------------------------------------

IN_WORDS = PairSettings(read="verdict")


def both(said: str, swapped: str) -> Verdict:
    """What a judge says that was asked in both orders; order-1 is the comparison as it stands."""
    says = Says(lambda request, k: said if request.id.endswith("order-1") else swapped)
    [verdict] = PairJudge(says, IN_WORDS).compare([comparison("first", "second")])
    assert [request.id for request in says.requests] == ["q1/order-1", "q1/order-2"]
    assert verdict.said == (said, swapped)
    return verdict


@pytest.mark.parametrize(
    ("said", "swapped", "preference", "flipped", "orders"),
    [
        ("[[A]]", "[[B]]", 1.0, False, (1.0, 1.0)),
        ("[[B]]", "[[A]]", 0.0, False, (0.0, 0.0)),
        ("[[C]]", "[[C]]", 0.5, False, (0.5, 0.5)),
        ("[[A]]", "[[A]]", 0.5, True, (1.0, 0.0)),
        ("[[B]]", "[[B]]", 0.5, True, (0.0, 1.0)),
        ("[[A]]", "[[C]]", 0.75, False, (1.0, 0.5)),
        ("[[C]]", "[[A]]", 0.25, False, (0.5, 0.0)),
        ("[[A]]", "hm", 1.0, None, (1.0, None)),
        ("hm", "[[A]]", 0.0, None, (None, 0.0)),
        ("hm", "[[C]]", 0.5, None, (None, 0.5)),
    ],
)
def test_a_verdict_is_the_mean_over_both_orders(
    said: str, swapped: str, preference: float, flipped: bool | None, orders: tuple[float | None, float | None]
) -> None:
    verdict = both(said, swapped)
    assert (verdict.preference, verdict.flipped, verdict.orders) == (preference, flipped, orders)


def test_what_could_not_be_read_is_told_of_either_order() -> None:
    assert both("[[A]]", "[[B]]").error is None
    assert both("hm", "[[A]]").error == "no verdict on the last line"
    assert both("[[A]]", "[[D]]").error == "with the answers swapped: [[D]] is no verdict"
    neither = both("hm", "[[D]]")
    assert neither.error == "no verdict on the last line; with the answers swapped: [[D]] is no verdict"
    assert (neither.preference, neither.flipped, neither.orders) == (None, None, (None, None))


def right_one(prompt: str) -> str:
    """A judge that follows its rules: the answer whose first word is 42 is right; a fair look at both."""
    code = re.search(r"the code ([0-9a-f]{8})", prompt)
    assert code is not None
    texts = {
        name: re.findall(rf"<answer {name} {code[1]}>\n(.*?)\n</answer {name} {code[1]}>", prompt, re.DOTALL)
        for name in "AB"
    }
    assert all(len(found) == 1 for found in texts.values())
    right = {name: found[0].split()[0] == "42" for name, found in texts.items()}
    quoted = f"Answer A says: {texts['A'][0]}\nAnswer B says: {texts['B'][0]}\n"  # a judge that quotes what it read
    return quoted + ("[[C]]" if right["A"] == right["B"] else "[[A]]" if right["A"] else "[[B]]")


def test_faults_of_a_server_cost_an_order_or_a_verdict_and_no_other() -> None:
    """Broken for good are both orders of one comparison, and the swapped order of another."""

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "dead" in prompt:
            return Reply(400, {"error": {"message": "cannot"}})
        if re.search(r"<answer B \w+>\n42 half", prompt):
            return Reply(status=200, body=b"{")
        return Reply.texts(right_one(prompt))

    with ScriptedServer(script) as server:
        verdicts = PairJudge(served(server.url), IN_WORDS).compare(
            [comparison("42", "41", "a"), comparison("dead", "41", "b"), comparison("42 half", "41", "c")]
        )
    assert [(v.preference, v.flipped, v.orders) for v in verdicts] == [
        (1.0, False, (1.0, 1.0)),
        (None, None, (None, None)),
        (1.0, None, (1.0, None)),
    ]
    assert [v.error for v in verdicts] == [
        None,
        "server answered 400: cannot; with the answers swapped: server answered 400: cannot",
        "with the answers swapped: the server's answer is not JSON after 2 tries",
    ]


def test_a_judge_gets_through_a_server_that_fails_now_and_then() -> None:
    """Every third call is a 429, a 500 or a cut body; each comparison still is judged in both orders."""
    seen = [0]

    def script(body: dict[str, Any]) -> Reply:
        seen[0] += 1
        good = Reply.texts(right_one(body["messages"][-1]["content"]))
        if seen[0] % 3:
            return good
        return [Reply(429), Reply(500), Reply(body=good.content, cut=9)][seen[0] // 3 % 3]

    asked = [comparison(f"42 {k}" if k % 2 else "41", "41" if k % 2 else f"42 {k}", str(k)) for k in range(30)]
    with ScriptedServer(script) as server:
        verdicts = PairJudge(served(server.url, concurrency=1, attempts=4), IN_WORDS).compare(asked)
    assert [(v.preference, v.flipped, v.error) for v in verdicts] == [(float(k % 2), False, None) for k in range(30)]


# --- a judge of one token ------------------------------------------------------------------------------------------


def test_a_preference_is_the_mean_of_the_orders_shares() -> None:
    """As they stand 0.8 / (0.8 + 0.2) = 0.8; swapped the first answer is B: 0.6 / (0.3 + 0.6) = 2/3. Mean 11/15."""
    said = {"q1/order-1": token("A", A=0.8, B=0.2), "q1/order-2": token("B", A=0.3, B=0.6)}
    says = Says(lambda request, k: said[request.id])
    judge = PairJudge(says, PairSettings())
    [verdict] = judge.compare([comparison("first", "second")])
    assert verdict.preference == pytest.approx(11 / 15)
    assert verdict.orders == pytest.approx((0.8, 2 / 3))
    assert (verdict.flipped, verdict.error) == (False, None)
    assert verdict.said == ("A\n(first token: A 80.0%, B 20.0%)", "B\n(first token: A 30.0%, B 60.0%)")
    assert judge.read == {"logprobs": 2}
    assert {request.top_logprobs for request in says.requests} == {5}
    assert (says.samplings[0].max_tokens, says.samplings[0].temperature) == (8, 0.0)


@pytest.mark.parametrize(
    ("straight", "swapped", "flipped"),
    [(0.6, 0.6, True), (0.4, 0.4, True), (0.6, 0.4, False), (0.5, 0.9, False), (0.5, 0.5, False)],
)
def test_orders_that_prefer_different_answers_contradict_each_other(
    straight: float, swapped: float, flipped: bool
) -> None:
    """p(A) in the two orders; a tie beside a preference is no contradiction."""
    shares = {"q1/order-1": straight, "q1/order-2": swapped}
    says = Says(lambda request, k: token("A", A=shares[request.id], B=1 - shares[request.id]))
    [verdict] = PairJudge(says, PairSettings()).compare([comparison("first", "second")])
    assert verdict.flipped is flipped


def test_a_letter_is_read_where_no_log_probabilities_are_told_and_that_is_said() -> None:
    says = Says(lambda request, k: token("A") if request.id.endswith("1") else token("B", The=0.9, B=0.05))
    judge = PairJudge(says, PairSettings())
    [verdict] = judge.compare([comparison("first", "second")])
    assert (verdict.preference, verdict.orders) == (1.0, (1.0, 1.0))
    assert verdict.said == (
        "A\n(read in its words, without log-probabilities)",
        "B\n(read in its words, since the first token is no letter)",
    )
    assert judge.read == {"words": 2}


def test_without_log_probabilities_there_is_no_verdict_where_they_are_required() -> None:
    judge = PairJudge(Says(lambda request, k: token("A")), PairSettings(read="logprobs"))
    [verdict] = judge.compare([comparison("first", "second")])
    why = "the judge told no log-probabilities; say read: auto"
    assert (verdict.preference, verdict.error) == (None, f"{why}; with the answers swapped: {why}")
    assert judge.read == {"nothing": 2}


def test_the_tokens_of_both_orders_are_counted_together() -> None:
    usages = {"q1/order-1": Usage(310, 1), "q1/order-2": Usage(311, 2)}
    says = Says(lambda request, k: token("A", usage=usages.get(request.id)))
    verdicts = PairJudge(says, PairSettings()).compare([comparison("a", "b"), comparison("a", "b", "q2")])
    assert [verdict.usage for verdict in verdicts] == [Usage(621, 3), Usage()]


# --- opening, fingerprints, settings -------------------------------------------------------------------------------


def spec(scorer: str = "judge", **settings: Any) -> ScorerSpec:
    return ScorerSpec(scorer=scorer, model=ModelSpec(path="fake", backend="fake"), settings=settings)


def open_fake(role: str, model: ModelSpec) -> FakeGenerator:
    assert role == "generator"
    return FakeGenerator(model)


def test_a_spec_opens_a_judge_over_any_generator() -> None:
    """The fake says words and no verdict, so that nothing can be read."""
    judge = NumberJudge.opened(spec(scale=[0, 1], max_tokens=50), open_fake)
    assert judge.score([judged("42"), judged("7")]) == [None, None]
    assert judge.fingerprint.startswith("judge:")
    assert judge.fingerprint.endswith(FakeGenerator(ModelSpec(path="fake", backend="fake")).fingerprint)
    pair = PairJudge.opened(spec("pair_judge"), open_fake)
    [verdict] = pair.compare([comparison("42", "41")])
    assert (verdict.preference, verdict.flipped) == (None, None)
    assert verdict.error is not None


def test_a_fingerprint_follows_what_is_asked_and_how() -> None:
    says = Says(lambda request, k: "")
    settings = [{}, {"scale": (1, 5)}, {"temperature": 0.5}, {"max_tokens": 7}, {"temperature": 0.5, "samples": 2}]
    prints = [NumberJudge(says, NumberSettings(**given)).fingerprint for given in settings]
    assert len(set(prints)) == len(prints)
    assert NumberJudge(says, NumberSettings(prompt="number-1")).fingerprint == prints[0]


def test_a_fingerprint_of_a_pair_judge_follows_the_way_of_reading() -> None:
    says = Says(lambda request, k: "")
    settings = [{}, {"read": "verdict"}, {"read": "logprobs"}, {"top_logprobs": 9}, {"max_tokens": 7}]
    prints = [PairJudge(says, PairSettings(**one)).fingerprint for one in settings]
    assert len(set(prints)) == len(prints)
    assert PairJudge(says, PairSettings(prompt="pair-token-1", max_tokens=8)).fingerprint == prints[0]
    assert PairJudge(says, PairSettings(prompt="pair-1")).fingerprint == prints[1]


def test_a_prompt_says_by_itself_how_its_verdict_is_read(tmp_path: Any) -> None:
    """One that asks for double brackets is read on its last line, another by its first token."""
    file = tmp_path / "mine.txt"
    for end, said in (("[[A]] or [[B]]?", "B is worse.\n[[A]]"), ("A or B?", "A")):
        file.write_text("{conversation} {first} {second} " + end)
        says = Says(lambda request, k, said=said: said)
        [verdict] = PairJudge(says, PairSettings(prompt=str(file))).compare([comparison("a", "b")])
        assert verdict.orders == (1.0, 0.0)


def test_a_prompt_file_counts_by_its_text(tmp_path: Any) -> None:
    says = Says(lambda request, k: "")
    file = tmp_path / "mine.txt"
    prints = []
    for end in ("", " "):
        file.write_text("{conversation} {first} {second} [[A]]" + end)
        prints.append(PairJudge(says, PairSettings(prompt=str(file))).fingerprint)
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("made", "settings", "told"),
    [
        (NumberSettings, {"scale": [5, 5]}, "settings.scale of judge: must go up, not from 5 to 5"),
        (NumberSettings, {"scale": [1, float("inf")]}, "must go up, not from 1 to inf"),
        (NumberSettings, {"samples": 3}, "3 samples at temperature 0 are one sample; give a temperature above 0"),
        (NumberSettings, {"promt": "x"}, "settings.promt of judge: .*known: prompt, temperature"),
        (NumberSettings, {"prompt": "pair-1"}, "judge prompt 'pair-1' has no {answer}"),
        (PairSettings, {"prompt": "nowhere"}, "'nowhere' is no judge prompt and no file"),
        (PairSettings, {"prompt": "pair-1", "read": "logprobs"}, "asks for .*A.* in the end; say verdict or auto"),
        (PairSettings, {"prompt": "pair-token-1", "read": "verdict"}, "asks for no .*A.*; say logprobs or auto"),
        (PairSettings, {"top_logprobs": 50}, "settings.top_logprobs of judge: "),
        (PairSettings, {"max_tokens": 0}, "settings.max_tokens of judge: "),
        (RewardModelSettings, {"input": "words"}, "settings.input of judge: "),
        (ImplicitSettings, {"beta": 0}, "settings.beta of judge: "),
    ],
)
def test_a_mistake_in_the_settings_is_told(made: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        settings_of(made, spec(**settings))


def test_a_judge_without_a_model_is_refused() -> None:
    with pytest.raises(RecipeError, match="pair_judge needs a model; give it"):
        PairJudge.opened(ScorerSpec(scorer="pair_judge"), open_fake)


def test_settings_are_light_to_import() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'scipy', 'sklearn', 'aiohttp'}"
    code = f"import sys, polypref.backends.judging; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"chat_template_kwargs": {"enable_thinking": True}}])
def test_a_judge_whose_model_runs_otherwise_is_another_judge(change: dict[str, Any]) -> None:
    def fingerprint(**fields: Any) -> str:
        spec = ScorerSpec(scorer="pair_judge", model=ModelSpec(path="fake", backend="fake", **fields))
        return PairJudge.opened(
            spec, lambda role, model: FakeGenerator(ModelSpec(path="fake", backend="fake"))
        ).fingerprint

    assert fingerprint() == fingerprint(device="cpu", batch_tokens=7)
    assert fingerprint(**change) != fingerprint()
