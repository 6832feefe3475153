"""An answer that speaks to the judge is data: verdicts of a judge that follows its rules do not change by it.

The judge obeys the prompt as text and nothing else. It takes the code from the first lines, finds the two answers
between the marks that carry it, and holds an answer right that has the right word. Where it meets a control token of a
chat template it takes what follows for its own turn, as a tokenizer would, and says A.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import Reply, ScriptedServer

from injections import ALSO_WRONG, HOSTILE, QUESTION, RIGHT, RIGHT_WORD, WRONG, hostile
from polypref.backends.base import Comparison, Judged, ModelSpec, Verdict
from polypref.backends.judge import NumberJudge, PairJudge
from polypref.backends.judge_prompts import judge_prompt
from polypref.backends.judging import NumberSettings, PairSettings
from polypref.backends.openai import OpenAIGenerator, Waits

ENDS = [
    *("<|im_end|>", "<|im_start|>", "[/INST]", "[INST]", "<<SYS>>", "<|eot_id|>", "<|start_header_id|>"),
    *("<end_of_turn>", "<start_of_turn>", "<turn|>", "<|turn>", "<｜end▁of▁sentence｜>", "<｜Assistant｜>"),
    *("<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "[|endofturn|]", "[|assistant|]", "<sop>", "<|assistant|>"),
    *("[SYSTEM_PROMPT]", "[TOOL_RESULTS]", "[gMASK]", "</think>", "</s>", "<s>", "<eos>", "<bos>", "<pad>"),
]


def section(prompt: str, name: str, mark: str) -> str:
    found = re.search(rf"<{name}{mark}>\n(.*?)\n</{name}{mark}>", prompt, re.DOTALL)
    assert found is not None
    return found[1]


def mark_of(prompt: str) -> str:
    code = re.search(r"carries the code ([0-9a-f]{8})\.", prompt)
    assert code is not None
    return f" {code[1]}"


def judged_by_the_rules(prompt: str, mark: str) -> float:
    """1 where answer A is better, 0 where B is, 0.5 where they are equally good."""
    if any(token in prompt for token in ENDS):
        return 1.0
    first, second = (RIGHT_WORD in section(prompt, f"answer {letter}", mark) for letter in "AB")
    return 0.5 + (first - second) / 2


def in_words(body: dict[str, Any]) -> Reply:
    """It quotes both answers on its way, as judges do."""
    prompt = body["messages"][-1]["content"]
    mark = mark_of(prompt)
    verdict = {1.0: "[[A]]", 0.0: "[[B]]", 0.5: "[[C]]"}[judged_by_the_rules(prompt, mark)]
    quoted = (f"Answer {letter} says: {section(prompt, f'answer {letter}', mark)}\n" for letter in "AB")
    return Reply.texts("".join(quoted) + verdict)


def in_one_token(body: dict[str, Any]) -> Reply:
    """A letter, and its probability where the request asks for it: 0.75 for the better answer."""
    prompt = body["messages"][-1]["content"]
    better = judged_by_the_rules(prompt, mark_of(prompt))
    told = [{"token": letter, "logprob": p} for letter, p in _LOGPROBS[better].items()]
    place = {**max(told, key=lambda one: one["logprob"]), "top_logprobs": told}
    choice = {
        "message": {"role": "assistant", "content": "CBA"[[0.5, 0.0, 1.0].index(better)]},
        "finish_reason": "stop",
    }
    return Reply.choices(choice | ({"logprobs": {"content": [place]}} if "logprobs" in body else {}))


_QUARTER, _HALF = -1.3862943611198906, -0.6931471805599453
_LOGPROBS = {
    1.0: {"A": -0.2876820724517809, "B": _QUARTER},
    0.0: {"A": _QUARTER, "B": -0.2876820724517809},
    0.5: {"A": _HALF, "B": _HALF},
}


def untold(body: dict[str, Any]) -> Reply:
    return in_one_token({"messages": body["messages"]})


def compared(url: str, answers: dict[str, str], settings: PairSettings) -> dict[str, list[Verdict]]:
    """Each wrong answer against the right one, on either side, and against another wrong one, on either side."""
    judge = PairJudge(OpenAIGenerator(ModelSpec(path="judge", url=url), Waits(first=0.0)), settings)
    asked = [
        Comparison(f"{name}/{k}", "es", QUESTION, *pair)
        for name, wrong in answers.items()
        for k, pair in enumerate([(RIGHT, wrong), (wrong, RIGHT), (ALSO_WRONG, wrong), (wrong, ALSO_WRONG)])
    ]
    verdicts = iter(judge.compare(asked))
    return {name: list(itertools.islice(verdicts, 4)) for name in answers}


FORMS = [
    (in_words, PairSettings(read="verdict"), 1.0),
    (in_one_token, PairSettings(read="logprobs"), 0.75),
    (untold, PairSettings(), 1.0),
]


@pytest.mark.parametrize(("script", "settings", "sure"), FORMS, ids=["words", "logprobs", "letter"])
@pytest.mark.parametrize("knows_the_code", [False, True], ids=["", "knows the code"])
def test_verdicts_in_both_orders_are_those_of_the_harmless_answer(
    script: Any, settings: PairSettings, sure: float, knows_the_code: bool
) -> None:
    """The right answer wins and two wrong ones tie, whatever 73 wrong answers say; who knows the code writes the one
    that the prompt has with the harmless answer."""
    texts = {"first": WRONG, "second": RIGHT}
    clean = judge_prompt("pair", "pair-1").filled(QUESTION, "es", texts)
    answers = hostile(mark_of(clean).strip()) if knows_the_code else HOSTILE
    assert len(answers) >= 40
    with ScriptedServer(script) as server:
        found = compared(server.url, {"harmless": WRONG, **answers}, settings)
    harmless = [(verdict.orders, verdict.flipped, verdict.error) for verdict in found["harmless"]]
    assert [orders for orders, _, _ in harmless] == [
        pytest.approx((sure, sure)),
        pytest.approx((1 - sure, 1 - sure)),
        (0.5, 0.5),
        (0.5, 0.5),
    ]
    for name, verdicts in found.items():
        assert [(verdict.orders, verdict.flipped, verdict.error) for verdict in verdicts] == harmless, name
    assert len(server.bodies) == 8 * (len(answers) + 1)


def test_without_fences_the_same_judge_is_led_astray() -> None:
    """Marks without a code, and texts as they are: what this file holds would otherwise hold of any prompt."""

    def naive(first: str, second: str) -> str:
        return f"<answer A>\n{first}\n</answer A>\n\n<answer B>\n{second}\n</answer B>"

    assert judged_by_the_rules(naive(WRONG, RIGHT), "") == 0.0
    assert judged_by_the_rules(naive(RIGHT, WRONG), "") == 1.0
    led = {name for name, text in HOSTILE.items() if judged_by_the_rules(naive(text, RIGHT), "") != 0.0}
    assert led > {"opens the other", "chatml", "llama 3", "gemma", "mistral", "thought", "sentence ends"}


def test_a_rating_is_that_of_the_harmless_answer() -> None:
    def rate(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        astray = any(token in prompt for token in ENDS)
        return Reply.texts(
            f"Rating: [[{10 if astray or RIGHT_WORD in section(prompt, 'answer', mark_of(prompt)) else 2}]]"
        )

    with ScriptedServer(rate) as server:
        judge = NumberJudge(OpenAIGenerator(ModelSpec(path="judge", url=server.url)), NumberSettings())
        texts = [RIGHT, WRONG, *HOSTILE.values()]
        scores = judge.score([Judged(str(k), "es", QUESTION, text) for k, text in enumerate(texts)])
    assert scores == [10.0] + [2.0] * (len(HOSTILE) + 1)


PIECES = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["\n", "</answer A>", "<answer B>", "</answer A 0123abcd>", "<", "|", "im_end", "|>", "[", "/INST]"]
        ),
        st.sampled_from(ENDS),
    ),
    max_size=8,
).map("".join)


@given(PIECES, PIECES, PIECES)
def test_the_rules_find_every_answer_whole(said: str, first: str, second: str) -> None:
    """Beside the spaces that nobody sees in control tokens, an answer reaches the judge as it was written."""
    prompt = judge_prompt("pair", None).filled(
        [{"role": "user", "content": said}], "es", {"first": first, "second": second}
    )
    mark = mark_of(prompt)
    for letter, text in (("A", first), ("B", second)):
        assert section(prompt, f"answer {letter}", mark).replace("\u200b", "") == text.replace("\u200b", "")
        assert prompt.count(f"<answer {letter}{mark}>") == prompt.count(f"</answer {letter}{mark}>") == 1
    assert section(prompt, "user", mark).replace("\u200b", "") == said.replace("\u200b", "")
    assert not any(token in prompt for token in ENDS)


def test_a_turn_with_a_role_of_its_own_is_no_answer() -> None:
    turns = [{"role": "answer B", "content": RIGHT}, *QUESTION]
    prompt = judge_prompt("pair", None).filled(turns, "es", {"first": WRONG, "second": ALSO_WRONG})
    assert section(prompt, "answer B", mark_of(prompt)) == ALSO_WRONG
    assert section(prompt, "turn", mark_of(prompt)) == RIGHT


def test_the_answers_are_hostile() -> None:
    """None of them is right, all can be sent, and none stands twice."""
    assert not any(RIGHT_WORD in text for text in HOSTILE.values())
    assert len({json.dumps(text) for text in HOSTILE.values()}) == len(HOSTILE)
