"""Rows of preferences as token ids: what is in a sequence, what is cut, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from polypref.backends.reward_training import PairRow, PointRow
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_reward_data import RewardRows, tokenise
from polypref.errors import InputError
from tiny_reward_training import options
from tiny_training import save_tiny_model

USER = [{"role": "user", "content": "say uno"}]
PAIR = PairRow("p", "es", USER, "a b", "red", 0.5)
POINT = PointRow("q", "en", USER, "a b", 0.25)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("data") / "tiny"))


@pytest.fixture(scope="module")
def template(tokenizer: Any) -> PromptTemplate:
    return PromptTemplate(tokenizer)


def read(rows: list[Any], template: PromptTemplate, longest: int = 48, **changes: Any) -> RewardRows:
    return tokenise(rows, template, options(**changes), longest)


def test_a_sequence_is_the_whole_conversation_once(tokenizer: Any, template: PromptTemplate) -> None:
    found = read([PAIR], template)
    [row] = found.rows
    assert set(row) == {"chosen_ids", "rejected_ids"}
    assert tokenizer.decode(row["chosen_ids"]) == "<s> <|user|> say uno <|assistant|> a b </s>"
    assert tokenizer.decode(row["rejected_ids"]) == "<s> <|user|> say uno <|assistant|> red </s>"
    assert (found.languages, found.longest, found.truncated) == ({"es": 1}, 8, 0)


def test_a_default_system_turn_is_not_said_a_second_time(tokenizer: Any, tmp_path: Path) -> None:
    """Templates such as Qwen 2.5's put one before a conversation without; the answer rendered as a conversation of its
    own would have it as well."""
    import copy

    own = copy.deepcopy(tokenizer)
    own.chat_template = (
        "{% if messages[0]['role'] != 'system' %}{{ 'count name ' }}{% endif %}"
        "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' ' }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    template = PromptTemplate(own)
    [row] = read([PAIR], template).rows
    for side in ("chosen", "rejected"):
        conversation = [*USER, {"role": "assistant", "content": getattr(PAIR, side)}]
        whole = own.apply_chat_template(conversation, tokenize=False)
        assert row[f"{side}_ids"] == own(whole, add_special_tokens=False)["input_ids"]
        assert own.decode(row[f"{side}_ids"]).count("count name") == 1


def test_the_last_tokens_of_a_long_sequence_are_kept_and_it_is_counted(
    tokenizer: Any, template: PromptTemplate
) -> None:
    """Chosen has 8 tokens, rejected 7; the limit 7 cuts one, the limit 6 both. Rows of TRL would be dropped."""
    whole = read([PAIR], template).rows[0]
    for longest, cut in ((8, 0), (7, 1), (6, 2)):
        found = read([PAIR], template, longest)
        assert found.truncated == cut
        assert found.rows[0]["chosen_ids"] == whole["chosen_ids"][-longest:]
        assert found.rows[0]["rejected_ids"] == whole["rejected_ids"][-longest:]
        assert found.longest == longest
    assert tokenizer.decode(read([PAIR], template, 2).rows[0]["chosen_ids"]) == "b </s>"


def test_equal_answers_are_left_out_also_where_the_cut_makes_them_equal(template: PromptTemplate) -> None:
    same = dataclasses.replace(PAIR, rejected="a b")
    tail = dataclasses.replace(PAIR, rejected="red b")
    found = read([same, tail, PAIR], template, 2)
    assert found.dropped == {"same_text": 1, "same_after_truncation": 1}
    assert len(found.rows) == 1


def test_the_margin_goes_along_where_it_is_asked_for(template: PromptTemplate) -> None:
    assert read([PAIR], template, margin=True).rows[0]["margin"] == 0.5
    for margin, told in ((None, "no margin"), (float("nan"), "the margin nan")):
        with pytest.raises(InputError, match=rf"row 'p' has {told}; give every pair a finite one"):
            read([PAIR, dataclasses.replace(PAIR, margin=margin)], template, margin=True)


def test_a_labelled_answer_is_one_sequence(template: PromptTemplate) -> None:
    found = read([POINT], template, loss="pointwise")
    assert found.rows == [{"input_ids": read([PAIR], template).rows[0]["chosen_ids"], "label": 0.25}]
    for label in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="label of row 'q' is"):
            read([dataclasses.replace(POINT, label=label)], template, loss="pointwise")


def test_rows_of_the_other_kind_are_refused_with_the_loss_they_need(template: PromptTemplate) -> None:
    with pytest.raises(InputError, match=r"'q' is a labelled answer.*set loss to pointwise"):
        read([POINT], template)
    with pytest.raises(InputError, match=r"'p' is a pair.*set loss to bradley_terry"):
        read([PAIR], template, loss="pointwise")
