"""Exact answer log-probabilities: equal to one sequence at a time with whole logits, in any batch."""

from __future__ import annotations

import dataclasses
import itertools
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import END, plain_logprob
from transformers import AutoModelForCausalLM, AutoTokenizer

from polypref.backends import hf_heads
from polypref.backends.base import Answer, LogprobModel, ModelSpec
from polypref.backends.hf_logprobs import HFLogprobs
from polypref.backends.hf_tokens import tokenised
from polypref.errors import ModelError

Tiny = Callable[[str], Path]
TOLERANCE = 1e-4

pytestmark = pytest.mark.usefixtures("_closed")


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answers() -> list[Answer]:
    """Real sentences in four scripts' worth of tokens, of many lengths, cut and whole, with and without white space."""
    out = []
    for k, (prompt, text) in enumerate(itertools.product(tiny.TEXTS, tiny.TEXTS)):
        text = ["", " ", "\n", "  "][k % 4] + text[: 3 + 7 * k]
        out.append(Answer(f"{k}", asked(prompt[: 60 - 3 * k]), text, finished=k % 3 != 0))
    return [*out, Answer("empty", asked("Say nothing."), ""), Answer("one", asked("x"), "y", finished=False)]


def scorer(folder: Path, **fields: Any) -> HFLogprobs:
    return HFLogprobs(ModelSpec(path=str(folder), device="cpu", dtype="float32", **fields))


def plain(folder: Path, answers: Sequence[Answer], adapter: Path | None = None) -> list[float]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [plain_logprob(model.eval(), tokenizer, answer) for answer in answers]


def sums(model: HFLogprobs, answers: Sequence[Answer]) -> list[float]:
    found = model.logprobs(answers)
    assert all(logprob.error is None for logprob in found)
    return [logprob.sum for logprob in found]


def test_it_is_a_logprob_model(tiny_model: Tiny) -> None:
    assert isinstance(scorer(tiny_model("Qwen3")), LogprobModel)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_scores_equal_whole_logits_one_sequence_at_a_time(tiny_model: Tiny, family: str) -> None:
    """With and without BOS, tied heads, capped and scaled logits, a head bias, sliding windows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no fall-back
        model = scorer(tiny_model(family))
    got, want = sums(model, answers()), plain(tiny_model(family), answers())
    assert got == pytest.approx(want, abs=TOLERANCE)
    assert len({round(value, 3) for value in want}) == len(want)  # the models tell the answers apart


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Phi3", "Qwen3Next"])
def test_a_score_does_not_depend_on_its_batch(tiny_model: Tiny, family: str) -> None:
    rows = answers()
    one = scorer(tiny_model(family))
    alone = [sums(one, [row])[0] for row in rows]
    shuffled = random.Random(0).sample(range(len(rows)), len(rows))
    for batch_tokens in (1, 90, 400, 10**6):
        model = scorer(tiny_model(family), batch_tokens=batch_tokens)
        assert sums(model, rows) == pytest.approx(alone, abs=TOLERANCE)
        assert sums(model, [rows[i] for i in shuffled]) == pytest.approx([alone[i] for i in shuffled], abs=TOLERANCE)


def test_batches_hold_no_more_tokens_than_asked_for(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"), batch_tokens=300)
    shapes = record(monkeypatch, model)
    sums(model, answers())
    assert all(rows == 1 or rows * width <= 300 for rows, width in shapes)
    assert sum(rows for rows, _ in shapes) == len(answers())
    assert len(shapes) > 2


def sampled(prompts: int = 3, each: int = 4) -> list[Answer]:
    """Answers of many lengths to prompts that are longer than they are."""
    asking = [asked(" ".join(tiny.TEXTS[k:] + tiny.TEXTS[:k])) for k in range(prompts)]
    rows = [Answer(f"{k}/{n}", asking[k], tiny.TEXTS[n % 3][: 1 + 9 * n]) for n in range(each) for k in range(prompts)]
    return [dataclasses.replace(row, finished=i % 3 != 0) for i, row in enumerate(rows)]


@pytest.mark.parametrize("family", ["Qwen3", "Llama", "Gemma2", "Cohere", "Granite", "Mixtral"])
@pytest.mark.parametrize("batch_tokens", [1, 700, 10**6])
def test_answers_behind_a_shared_prompt_score_as_whole_sequences(
    tiny_model: Tiny, family: str, batch_tokens: int
) -> None:
    rows = [*answers(), *sampled()]
    model = scorer(tiny_model(family), batch_tokens=batch_tokens)
    assert model.shares_prompts == (family != "Gemma2")  # whose window forgets prompts
    assert sums(model, rows) == pytest.approx(plain(tiny_model(family), rows), abs=TOLERANCE)


def test_a_shared_prompt_is_run_once(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the prompts but for their last token, one over these and the answers."""
    model, rows = scorer(tiny_model("Qwen3"), batch_tokens=10**6), sampled(prompts=3, each=4)
    lengths = [len(model.loaded.template.prompt_ids(row.messages)) for row in rows]
    answer = max(len(model.loaded.template.answer_tokens(row)[0]) for row in rows)
    shapes = record(monkeypatch, model)
    sums(model, rows)
    assert shapes == [(3, max(lengths) - 1), (12, 1 + answer)]


def test_a_short_prompt_is_run_with_each_answer(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"), batch_tokens=10**6)
    rows = [Answer(f"{n}", asked("x"), tiny.TEXTS[n % 3] * 3) for n in range(4)]
    shapes = record(monkeypatch, model)
    sums(model, rows)
    assert [count for count, _ in shapes] == [4]


@pytest.mark.parametrize("family", ["Mistral", "Gemma3Text", "Qwen3Next", "Phi3"])
def test_windows_and_states_share_nothing(tiny_model: Tiny, family: str) -> None:
    assert not scorer(tiny_model(family)).shares_prompts


def record(monkeypatch: pytest.MonkeyPatch, model: HFLogprobs, limit: int | None = None) -> list[tuple[int, int]]:
    """The shapes of the forward passes from now on; beyond ``limit`` tokens memory is out."""
    shapes: list[tuple[int, int]] = []
    whole = model.loaded.model.model.forward

    def forward(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if limit is not None and input_ids.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        shapes.append((input_ids.shape[0], input_ids.shape[1]))
        return whole(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model.loaded.model.model, "forward", forward)
    return shapes


# --- the traps of the released scripts -------------------------------------------------------------------------------


def test_the_first_answer_token_is_scored(tiny_model: Tiny) -> None:
    """log p(a b) = log p(a) + log p(b | a), so the one-token answer is the difference that the first token makes."""
    model = scorer(tiny_model("Qwen3"))
    ids = model.loaded.template.answer_ids("river")
    assert len(ids) >= 2
    text = model.loaded.template.text
    first, both = (Answer(str(n), asked("Name one."), text(ids[:n]), token_ids=ids[:n], finished=False) for n in (1, 2))
    prompt = model.loaded.template.prompt_ids(first.messages)
    with torch.no_grad():
        table = model.loaded.model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
    one, two = sums(model, [first, both])
    assert one == pytest.approx(float(table[len(prompt) - 1, ids[0]]), abs=TOLERANCE)
    assert two - one == pytest.approx(float(table[len(prompt), ids[1]]), abs=TOLERANCE)


def test_the_end_of_turn_is_scored_unless_the_answer_was_cut(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    whole = Answer("whole", asked("Name one."), "Ebro")
    cut = dataclasses.replace(whole, id="cut", finished=False)
    ended, open_ = model.logprobs([whole, cut])
    assert ended.tokens == open_.tokens + 1 == len(model.loaded.template.answer_ids("Ebro")) + 1
    ids = model.loaded.template.prompt_ids(whole.messages) + model.loaded.template.answer_ids("Ebro")
    with torch.no_grad():
        end = float(model.loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[END])
    assert ended.sum - open_.sum == pytest.approx(end, abs=TOLERANCE)


def test_an_empty_answer_is_its_end_of_turn_or_nothing(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    whole, cut = model.logprobs([Answer("a", asked("x"), ""), Answer("b", asked("x"), "", finished=False)])
    assert (cut.sum, cut.tokens, cut.error) == (0.0, 0, None)
    assert whole.tokens == 1
    assert whole.sum < 0


def test_sampling_and_scoring_see_one_context_with_one_bos(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Llama"))
    answer = [Answer("a", asked("x"), "y")]
    (row,), _ = model._rows(answer, next(tokenised(model.loaded.template, None, answer)))
    assert row.ids[: row.unread + 1].count(tiny.BOS) == 1
    assert row.ids[: row.unread + 1] == model.loaded.template.prompt_ids(asked("x"))


# --- kept token ids --------------------------------------------------------------------------------------------------


def test_sampled_ids_are_scored_as_they_are(tiny_model: Tiny) -> None:
    """The same text in single characters, as a sampler may draw it."""
    model = scorer(tiny_model("Qwen3"))
    letters = [model.loaded.template.answer_ids(letter)[0] for letter in "the"]
    assert letters != model.loaded.template.answer_ids("the")
    sampled = Answer("sampled", asked("x"), "the", token_ids=letters)
    text = Answer("text", asked("x"), "the")
    assert sums(model, [sampled, text]) == pytest.approx(plain(tiny_model("Qwen3"), [sampled, text]), abs=TOLERANCE)
    assert abs(sums(model, [sampled])[0] - sums(model, [text])[0]) > 0.01


def test_an_end_of_turn_among_the_sampled_ids_is_not_doubled(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    ids = model.loaded.template.answer_ids("the")
    without, with_end = model.logprobs(
        [Answer("a", asked("x"), "the", token_ids=tokens) for tokens in (ids, [*ids, END])]
    )
    assert with_end.tokens == without.tokens
    assert with_end.sum == pytest.approx(without.sum, abs=TOLERANCE)


def test_an_end_of_turn_among_the_ids_of_a_cut_answer_is_not_scored(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    ids = model.loaded.template.answer_ids("the")
    cut = Answer("a", asked("x"), "the", token_ids=[*ids, END], finished=False)
    assert model.logprobs([cut])[0].tokens == len(ids)


@pytest.mark.parametrize("ids", [[5], [10**6], []])
def test_ids_of_another_tokenizer_are_not_scored_and_that_is_said(tiny_model: Tiny, ids: list[int]) -> None:
    model = scorer(tiny_model("Qwen3"))
    text = Answer("a", asked("x"), "the Ebro")
    with pytest.warns(UserWarning, match="answers keep token ids that are not their text's"):
        got = sums(model, [dataclasses.replace(text, token_ids=ids), text])
    assert got[0] == got[1]


# --- what cannot be scored -------------------------------------------------------------------------------------------


def test_beyond_the_window_is_an_error_of_that_answer_alone(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    room = 256 - len(model.loaded.template.prompt_ids(asked("x"))) - 1
    (letter,) = model.loaded.template.answer_ids("z")
    fits, exceeds = (Answer(str(n), asked("x"), "z" * n, token_ids=[letter] * n) for n in (room, room + 1))
    good, long, other = model.logprobs([fits, exceeds, Answer("b", asked("x"), "y")])
    assert good.error is None
    assert good.tokens == room + 1
    assert long.error == "257 tokens of prompt and answer are more than the window of 256"
    assert other.error is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_names_its_answer(tiny_model: Tiny, value: float) -> None:
    """A weight that only one token's embedding meets: the others' scores are good, that one's is not."""
    model = scorer(tiny_model("Qwen3"))
    poison = model.loaded.template.answer_ids("Ω")[0]
    model.loaded.model.get_input_embeddings().weight[poison] = value
    good = Answer("ex-1: good", asked("x"), "y")
    sums(model, [good])
    with pytest.raises(ModelError, match=r"ex-2: bad: its log-probability under .* is nan; .* try float32"):
        model.logprobs([good, Answer("ex-2: bad", asked("x"), "Ωy")])


def test_a_conversation_that_cannot_be_rendered_names_its_answer(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    model.loaded.tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(ModelError, match=r"ex-7: a: the chat template .* refuses a conversation of user \(no\)"):
        model.logprobs([Answer("ex-7: a", asked("x"), "y")])


def test_a_tokenizer_larger_than_the_model_names_the_answer(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    model.loaded.tokenizer.add_tokens(["Guadalquivir"])
    with pytest.raises(ModelError, match="ex-3: token 360 is beyond the vocabulary of 360"):
        model.logprobs([Answer("ex-3", asked("x"), "Guadalquivir")])


# --- memory ----------------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_batch_and_goes_on(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"))
    want = sums(model, answers())
    shapes = record(monkeypatch, model, limit=400)
    assert sums(model, answers()) == pytest.approx(want, abs=TOLERANCE)
    assert any(rows > 1 for rows, _ in shapes)
    assert sum(rows for rows, _ in shapes) == len(answers())
    assert model._engine.batches.tokens <= 800


def test_the_hosts_memory_counts_too(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"))
    want = sums(model, answers())
    whole, failed = hf_heads.tiled_logprobs, []

    def first_fails(*args: Any) -> torch.Tensor:
        if not failed:
            failed.append(True)
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return whole(*args)

    monkeypatch.setattr(hf_heads, "tiled_logprobs", first_fails)
    assert sums(model, answers()) == pytest.approx(want, abs=TOLERANCE)
    assert failed


def test_one_sequence_that_does_not_fit_is_told(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"))
    record(monkeypatch, model, limit=3)
    with pytest.raises(ModelError, match=r"ex-1: its \d+ tokens do not fit into memory alone"):
        model.logprobs([Answer("ex-1", asked("x"), "y")])


def test_another_failure_of_the_model_is_not_taken_for_it(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(tiny_model("Qwen3"))

    def broken(**kwargs: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(model.loaded.model.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.logprobs(answers())


def test_logits_are_never_held_for_all_tokens(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head sees answer positions alone, in chunks."""
    model = scorer(tiny_model("Qwen3"))
    monkeypatch.setattr(hf_heads.chunked_logprobs, "__defaults__", (10 * 360,))
    seen: list[torch.Size] = []
    module = model.loaded.model.get_output_embeddings()
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    found = model.logprobs(answers())
    hook.remove()
    assert sum(shape[0] for shape in seen) == sum(logprob.tokens for logprob in found)
    assert all(len(shape) == 2 and shape[0] <= 10 for shape in seen)


# --- heads and adapters ----------------------------------------------------------------------------------------------


def test_an_unknown_head_is_scored_by_the_models_own_forward(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 2 with a head function that has forgotten the cap: found out, said, and right all the same."""
    monkeypatch.setattr("polypref.backends.hf_heads.head", lambda model: model.get_output_embeddings())
    with pytest.warns(UserWarning, match="not a plain vocabulary product; scored by its whole forward pass"):
        model = scorer(tiny_model("Gemma2"))
    assert sums(model, answers()) == pytest.approx(plain(tiny_model("Gemma2"), answers()), abs=TOLERANCE)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("q_proj", "lm_head"), ("embed_tokens", "down_proj")])
@pytest.mark.parametrize("family", ["Qwen3", "Granite"])
def test_policy_and_reference_as_adapters_of_one_base(
    tiny_model: Tiny, tmp_path: Path, family: str, targets: tuple[str, ...]
) -> None:
    base = tiny_model(family)
    adapters = [tiny.save_adapter(tmp_path / str(seed), base, seed, target_modules=list(targets)) for seed in (1, 2)]
    models = [scorer(base, adapter=str(adapter)) for adapter in adapters] + [scorer(base)]
    assert len({id(model.loaded.weights.base) for model in models}) == 1
    assert len({model.fingerprint for model in models}) == 3
    rows = answers()[:6]
    want = [plain(base, rows, adapter) for adapter in [*adapters, None]]
    for k in (0, 1, 2, 1, 0):
        assert sums(models[k], rows) == pytest.approx(want[k], abs=TOLERANCE)


def test_bfloat16_is_near_float32(tiny_model: Tiny) -> None:
    model = HFLogprobs(ModelSpec(path=str(tiny_model("Qwen3")), device="cpu", dtype="bfloat16"))
    want = plain(tiny_model("Qwen3"), answers())
    assert sums(model, answers()) == pytest.approx(want, rel=0.02, abs=0.2)


def test_a_prompt_that_opens_a_reasoning_part_is_said(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "Qwen3")
    template = tiny.CHATML.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.warns(UserWarning, match="answers are scored as thoughts"):
        scorer(folder)


def test_no_answers_no_scores(tiny_model: Tiny) -> None:
    assert scorer(tiny_model("Qwen3")).logprobs([]) == []


def test_a_model_that_sees_tokens_to_come_is_refused(tmp_path: Path) -> None:
    """An encoder with a vocabulary product on it opens as a causal model and gives numbers."""
    from transformers import BertConfig, BertLMHeadModel

    tokenizer = tiny.build_tokenizer()
    BertLMHeadModel(BertConfig(**tiny.SHAPE | {"vocab_size": len(tokenizer)})).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is no causal language model"):
        scorer(tmp_path)


def test_a_damaged_model_is_not_taken_for_an_unknown_head(tiny_model: Tiny) -> None:
    model = scorer(tiny_model("Qwen3"))
    model.loaded.model.model.norm.weight[0] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = scorer(tiny_model("Qwen3"))
    with pytest.raises(ModelError, match=r"ex-1: its log-probability under .* is nan"):
        again.logprobs([Answer("ex-1", asked("x"), "y")])
