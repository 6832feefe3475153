"""Scores of classifiers: transformers' own forward pass of one sequence, in any batch, prompts shared or not."""

from __future__ import annotations

import random
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_rewards
import torch
from tiny_rewards import change, plain
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from polypref import registry
from polypref.backends import hf_models
from polypref.backends.base import Judged, ModelSpec, Scorer, ScorerSpec, silent
from polypref.backends.hf_rewards import HFRewardModel
from polypref.backends.reward_training import ADAPTER_NOTE, PairRow, RewardTrainOptions
from polypref.backends.training import LoraOptions
from polypref.errors import ModelError, RecipeError

Made = Callable[[str], Path]
TOLERANCE = 1e-4
LONG = "Tell me, please, and take all the time that you need: "
"""Before every prompt, so that a shared one is worth sharing."""

pytestmark = pytest.mark.usefixtures("_closed")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """``classifier(family)`` is the folder of a tiny classifier with one label."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tiny_rewards.save(tmp_path_factory.mktemp("rewards") / family, family)
        return made[family]

    return folder


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answers(prompts: int = 4, each: int = 5) -> list[Judged]:
    """Real sentences of many lengths, several answers to each prompt, one of them empty."""
    out = []
    for i, prompt in enumerate(tiny.TEXTS[:prompts]):
        for k in range(each):
            text = tiny.TEXTS[(i + k) % 4][: 7 * k + i] if k else ""
            out.append(Judged(f"{i}-{k}", "en", asked(LONG + prompt[: 60 - 9 * i]), text))
    return out


def scorer(folder: Path, settings: dict[str, Any] | None = None, **fields: Any) -> HFRewardModel:
    spec = ModelSpec(path=str(folder), device="cpu", dtype="float32", **fields)
    return HFRewardModel.opened(ScorerSpec(scorer="reward_model", model=spec, settings=settings or {}), no_other)


def no_other(*args: Any) -> Any:
    raise AssertionError("a classifier opens nothing else")


def transformers_own(folder: Path, rows: Sequence[Judged], adapter: Path | None = None) -> list[float]:
    return [float(logits[0]) for logits in plain(folder, list(rows), adapter)]


def record(monkeypatch: pytest.MonkeyPatch, model: HFRewardModel, limit: int | None = None) -> list[tuple[int, int]]:
    """The shapes of the forward passes from now on; beyond ``limit`` tokens memory is out."""
    shapes: list[tuple[int, int]] = []
    inner = getattr(model.loaded.model, model.loaded.model.base_model_prefix)
    whole = inner.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if limit is not None and ids.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        shapes.append((ids.shape[0], ids.shape[1]))
        return whole(*args, **kwargs)

    monkeypatch.setattr(inner, "forward", forward)
    return shapes


# --- equal to transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*tiny_rewards.DECODERS, *tiny_rewards.ENCODERS])
def test_a_score_is_transformers_own_forward_pass_of_one_sequence(classifier: Made, family: str) -> None:
    model = scorer(classifier(family))
    assert isinstance(model, Scorer)
    assert model._at_the_end or model._masked  # no fall-back
    rows = answers()
    want = transformers_own(classifier(family), rows)
    assert model.score(rows) == pytest.approx(want, abs=TOLERANCE)
    assert len({round(value, 3) for value in want}) == len(want)  # the model tells the answers apart


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Gemma3Text", "Phi3", "Bert", "DebertaV2"])
def test_a_score_does_not_depend_on_its_batch(classifier: Made, family: str) -> None:
    rows = [*answers(), Judged("short", "en", asked("x"), "y"), Judged("one", "en", asked("Say"), "a b")]
    one = scorer(classifier(family))
    alone = [one.score([row])[0] for row in rows]
    order = random.Random(0).sample(range(len(rows)), len(rows))
    for batch_tokens in (1, 200, 700, 10**6):
        model = scorer(classifier(family), batch_tokens=batch_tokens)
        assert model.score(rows) == pytest.approx(alone, abs=TOLERANCE)
        assert model.score([rows[i] for i in order]) == pytest.approx([alone[i] for i in order], abs=TOLERANCE)


@pytest.mark.parametrize("pad", [tiny.END, None, tiny.PAD])
@pytest.mark.parametrize("newline", ["", "\n"])
def test_the_last_token_is_the_one_that_transformers_reads(tmp_path: Path, pad: int | None, newline: str) -> None:
    """With pad == end-of-turn a sequence that ends with it is read one token earlier, there as here; without a pad
    token transformers reads the very last, and refuses batches."""
    folder = change(tiny_rewards.save(tmp_path / "m", "Qwen3"), pad_token_id=pad)
    template = tiny.CHATML.replace("<|im_end|>\n", "<|im_end|>" + newline)
    (folder / "chat_template.jinja").write_text(template)
    rows = answers()
    assert scorer(folder).score(rows) == pytest.approx(transformers_own(folder, rows), abs=TOLERANCE)


def test_it_matters_which_token_is_read(tmp_path: Path) -> None:
    """So that the test above could fail."""
    rows = answers()
    found = []
    for name, pad in (("end", tiny.END), ("own", tiny.PAD)):
        folder = change(tiny_rewards.save(tmp_path / name, "Qwen3"), pad_token_id=pad)
        (folder / "chat_template.jinja").write_text(tiny.CHATML.replace("<|im_end|>\n", "<|im_end|>"))
        found.append(scorer(folder).score(rows))
    assert found[0] != pytest.approx(found[1], abs=0.05)


def test_a_saved_and_reloaded_model_scores_identically(classifier: Made, tmp_path: Path) -> None:
    model = scorer(classifier("Qwen3"))
    before = model.score(answers())
    model.loaded.model.save_pretrained(tmp_path / "again")
    model.loaded.tokenizer.save_pretrained(tmp_path / "again")
    assert scorer(tmp_path / "again").score(answers()) == before


def test_bfloat16_is_near_float32(classifier: Made) -> None:
    spec = ModelSpec(path=str(classifier("Qwen3")), device="cpu", dtype="bfloat16")
    model = HFRewardModel.opened(ScorerSpec(scorer="reward_model", model=spec), no_other)
    want = transformers_own(classifier("Qwen3"), answers())
    assert model.score(answers()) == pytest.approx(want, rel=0.05, abs=0.3)


def test_an_unknown_head_is_run_by_its_own_forward_pass(classifier: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder whose head is not where it is looked for: padded under a mask, which its pad token allows."""
    monkeypatch.setattr("polypref.backends.hf_rewards.is_read_at_the_end", lambda model, pad: False)
    model = scorer(classifier("Llama"))
    assert not model.shares_prompts
    assert model.score(answers()) == pytest.approx(transformers_own(classifier("Llama"), answers()), abs=TOLERANCE)


def test_where_padding_changes_scores_sequences_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a pad token, where transformers refuses a batch."""
    folder = change(tiny_rewards.save(tmp_path / "m", "Llama"), pad_token_id=None)
    monkeypatch.setattr("polypref.backends.hf_rewards.is_read_at_the_end", lambda model, pad: False)
    with pytest.warns(UserWarning, match="run one sequence at a time"):
        model = scorer(folder)
    assert model.score(answers()) == pytest.approx(transformers_own(folder, answers()), abs=TOLERANCE)


def test_no_answers_no_scores(classifier: Made) -> None:
    assert scorer(classifier("Qwen3")).score([]) == []


# --- a prompt is computed once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "GPT2", "OPT"])
@pytest.mark.parametrize("batch_tokens", [1, 400, 10**6])
def test_answers_to_one_prompt_share_it_and_score_the_same(classifier: Made, family: str, batch_tokens: int) -> None:
    rows = answers()
    shared = scorer(classifier(family), batch_tokens=batch_tokens)
    apart = scorer(classifier(family), {"share_prompts": False})
    assert shared.shares_prompts
    assert not apart.shares_prompts
    assert shared.score(rows) == pytest.approx(apart.score(rows), abs=TOLERANCE)


def test_a_shared_prompt_is_run_once(classifier: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the four prompts, one over the answers behind them: no token of a prompt twice."""
    model = scorer(classifier("Qwen3"))
    shapes = record(monkeypatch, model)
    rows = answers(prompts=4, each=5)
    model.score(rows)
    (prompts, _), (rests, width) = shapes
    assert (prompts, rests) == (4, 20)
    answer = max(len(model.loaded.tokenizer(row.text)["input_ids"]) for row in rows)
    assert answer <= width <= answer + len(model.loaded.tokenizer("<|im_start|>assistant\n<|im_end|>\n")["input_ids"])


@pytest.mark.parametrize("family", ["Mistral", "Gemma3Text", "Qwen3Next", "Phi3", "Bert", "DebertaV2"])
def test_windows_states_and_encoders_share_nothing(classifier: Made, family: str) -> None:
    assert not scorer(classifier(family)).shares_prompts


def test_what_goes_wrong_behind_a_prefix_is_found_out(classifier: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that overlooks the positions it is told, as some do: prompts are computed with each answer."""
    from transformers.models.gpt2 import modeling_gpt2

    whole = modeling_gpt2.GPT2Model.forward

    def forward(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(modeling_gpt2.GPT2Model, "forward", forward)
    model = scorer(classifier("GPT2"))
    assert not model.shares_prompts
    assert model.score(answers()) == pytest.approx(transformers_own(classifier("GPT2"), answers()), abs=TOLERANCE)


def test_equal_answers_to_a_prompt_share_all_but_what_is_read(classifier: Made) -> None:
    row = answers()[4]
    one, two = scorer(classifier("Qwen3")).score([row, row])
    assert one == two == pytest.approx(transformers_own(classifier("Qwen3"), [row])[0], abs=TOLERANCE)


# --- what is read ----------------------------------------------------------------------------------------------------

DEFAULT_SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"


@pytest.mark.parametrize("own", [None, {"input": "turns", "max_length": 200, "loss": "bradley_terry"}])
def test_the_default_system_block_is_there_once(tmp_path: Path, own: dict[str, Any] | None) -> None:
    """Rendered alone an assistant's turn would bring it a second time, into both answers."""
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3", own=own)
    (folder / "chat_template.jinja").write_text(DEFAULT_SYSTEM + tiny.CHATML)
    model = scorer(folder)
    (row,) = [row for row in answers() if row.id == "1-3"]
    tokenizer = model.loaded.tokenizer
    alone = tokenizer.apply_chat_template([{"role": "assistant", "content": row.text}], tokenize=False)
    assert alone.startswith("<|im_start|>system\nBe kind.")
    shown = tokenizer.decode(model.inputs.of(row).ids)
    assert shown.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert shown.count("Be kind.") == 1
    assert shown.rstrip("\n").endswith(f"<|im_start|>assistant\n{row.text}<|im_end|>")


def test_ours_read_turns_as_they_were_trained(tmp_path: Path) -> None:
    """ids(prompt with generation prompt) + ids(answer) + end-of-turn, the last 30 tokens of it."""
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3", own={"input": "turns", "max_length": 30, "loss": "pointwise"})
    rows = answers()[:4]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    want = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row.messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt).input_ids + tokenizer(row.text).input_ids + [tiny.END]
        assert len(ids) > 30
        with torch.no_grad():
            want.append(float(model(torch.tensor([ids[-30:]])).logits[0, 0]))
    with pytest.warns(UserWarning, match="4 of 4 answers are longer than 30 tokens"):
        assert scorer(folder).score(rows) == pytest.approx(want, abs=TOLERANCE)


def test_a_chat_model_reads_the_whole_conversation_and_an_encoder_a_pair(classifier: Made) -> None:
    row = Judged("a", "en", [{"role": "system", "content": "Be brief."}, *asked("Name a river.")], "Ebro")
    chat, encoder = scorer(classifier("Llama")), scorer(classifier("Bert"))
    assert chat.loaded.tokenizer.decode(chat.inputs.of(row).ids) == (
        "<|bos|><|im_start|>system: Be brief.<|im_end|>\n<|im_start|>user: Name a river.<|im_end|>\n"
        "<|im_start|>assistant: Ebro<|im_end|>\n"
    )
    found = encoder.inputs.of(row)
    want = encoder.loaded.tokenizer("Be brief.\n\nName a river.", "Ebro")
    assert (found.ids, found.segments) == (want["input_ids"], want["token_type_ids"])
    assert set(found.segments) == {0, 1}


def test_a_template_that_leaves_answers_out_is_refused(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3")
    only_users = tiny.CHATML.replace("for m in messages", "for m in messages if m['role'] == 'user'")
    (folder / "chat_template.jinja").write_text(only_users)
    with pytest.raises(ModelError, match="does not render an assistant's text"):
        scorer(folder)


def test_a_template_with_two_bos_is_refused(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Llama")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ bos_token }}" + tiny.CHATML)
    with pytest.raises(ModelError, match="begins with two BOS tokens"):
        scorer(folder)


# --- truncation ------------------------------------------------------------------------------------------------------


def test_the_beginning_is_cut_and_it_is_counted_and_said_once(classifier: Made) -> None:
    rows = answers()
    whole = [scorer(classifier("Qwen3")).inputs.of(row).ids for row in rows]
    limit = sorted(map(len, whole))[9]
    long = sum(len(ids) > limit for ids in whole)
    model = scorer(classifier("Qwen3"), {"max_length": limit})
    for row, ids in zip(rows, whole, strict=True):
        found = model.inputs.of(row)
        assert found.ids == ids[-limit:]
        assert found.cut == max(0, len(ids) - limit)
    with pytest.warns(UserWarning, match=f"{long} of 20 answers are longer than {limit} tokens with their prompt"):
        model.score(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(rows)
    assert 0 < long < 20
    assert model.truncated == 2 * long


def test_an_encoder_loses_its_prompt_first_and_keeps_what_frames_it(classifier: Made) -> None:
    row = Judged("a", "en", asked("Name three rivers of Spain"), "the Ebro and the Tajo")
    tokenizer = AutoTokenizer.from_pretrained(classifier("Bert"))
    prompt, answer = (tokenizer(text, add_special_tokens=False).input_ids for text in (LONG, row.text))
    model = scorer(classifier("Bert"), {"max_length": len(answer) + 5})
    prompt = tokenizer("Name three rivers of Spain", add_special_tokens=False).input_ids
    found = model.inputs.of(row)
    assert found.ids == [2, *prompt[-2:], 3, *answer, 3]
    assert found.segments == [0, 0, 0, 0, *[1] * len(answer), 1]
    short = scorer(classifier("Bert"), {"max_length": 5})
    assert short.inputs.of(row).ids == [2, 3, *answer[-2:], 3]


def test_nothing_is_longer_than_the_window(classifier: Made) -> None:
    row = Judged("a", "en", asked("x"), "river " * 400)
    assert len(scorer(classifier("Qwen3")).inputs.of(row).ids) == 256
    with pytest.raises(ModelError, match=r"settings.max_length 300 is more than the 256 tokens"):
        scorer(classifier("Qwen3"), {"max_length": 300})


def test_roberta_counts_positions_from_behind_its_pad_token(classifier: Made) -> None:
    """258 positions, of which 0 is the pad token's: a sequence of 257 runs, and equals transformers' own."""
    model = scorer(classifier("Roberta"))
    assert model.inputs.max_length == 257
    assert len(model.inputs.of(Judged("a", "en", asked("x"), "river " * 400)).ids) == 257
    with pytest.warns(UserWarning, match="longer than 257"):
        model.score([Judged("a", "en", asked("x"), "river " * 400)])


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Qwen3", "Bert"])
@pytest.mark.parametrize("label", ["good", 1])
def test_of_exclusive_labels_the_reward_is_the_log_odds(tmp_path: Path, family: str, label: str | int) -> None:
    """log p/(1 − p) of two labels is the difference of their outputs."""
    folder = tiny_rewards.save(tmp_path / "m", family, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    want = [float(logits[1] - logits[0]) for logits in plain(folder, answers())]
    assert scorer(folder, {"label": label}).score(answers()) == pytest.approx(want, abs=TOLERANCE)


def test_three_exclusive_labels(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3", num_labels=3)
    chances = [logits.double().softmax(-1)[2] for logits in plain(folder, answers())]
    want = [float(torch.log(p / (1 - p))) for p in chances]
    assert scorer(folder, {"label": "LABEL_2"}).score(answers()) == pytest.approx(want, abs=TOLERANCE)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_of_independent_labels_the_reward_is_the_output(tmp_path: Path, problem: str) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3", num_labels=3, problem_type=problem)
    want = [float(logits[1]) for logits in plain(folder, answers())]
    assert scorer(folder, {"label": 1}).score(answers()) == pytest.approx(want, abs=TOLERANCE)


def test_which_label_must_be_said_and_exist(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3", id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    with pytest.raises(ModelError, match=r"has 2 labels \(bad, good\); say by settings.label which is the reward"):
        scorer(folder)
    with pytest.raises(ModelError, match=r"has no label 'best'; its labels are bad, good"):
        scorer(folder, {"label": "best"})
    with pytest.raises(ModelError, match=r"has no label 2; its labels are 0 to 1"):
        scorer(folder, {"label": 2})
    with pytest.raises(RecipeError, match=r"settings\.labl"):
        scorer(folder, {"labl": 1})


# --- what cannot be scored -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Qwen3", "Bert"])
def test_a_score_that_is_no_number_names_its_answer(classifier: Made, family: str) -> None:
    model = scorer(classifier(family))
    letter = "Ω" if family == "Qwen3" else "Волга"
    poison = model.loaded.tokenizer(letter, add_special_tokens=False)["input_ids"][0]
    model.loaded.model.get_input_embeddings().weight[poison] = float("nan")
    good = Judged("ex-1: good", "en", asked("x"), "y")
    model.score([good])
    with pytest.raises(ModelError, match=r"ex-2: bad: its score under .* is nan; .* try float32"):
        model.score([good, Judged("ex-2: bad", "en", asked("x"), letter)])


def test_a_conversation_that_cannot_be_rendered_names_its_answer(classifier: Made) -> None:
    model = scorer(classifier("Qwen3"))
    model.loaded.tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(ModelError, match=r"ex-7: a: the chat template .* refuses"):
        model.score([Judged("ex-7: a", "en", asked("x"), "y")])


def test_a_tokenizer_larger_than_the_model_names_the_answer(classifier: Made) -> None:
    model = scorer(classifier("Qwen3"))
    model.loaded.tokenizer.add_tokens(["Guadalquivir"])
    with pytest.raises(ModelError, match="ex-3: token 360 is beyond the vocabulary of 360"):
        model.score([Judged("ex-3", "en", asked("x"), "Guadalquivir")])


def test_a_language_model_is_no_reward_model(tiny_model: Made) -> None:
    with pytest.raises(
        ModelError, match=r"is a language model \(Qwen3ForCausalLM\) and it has no head .* train reward"
    ):
        scorer(tiny_model("Qwen3"))


def test_a_bag_of_words_is_named_with_its_scorer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "polypref-bag-of-words", "version": 1}')
    with pytest.raises(ModelError, match="is a bag_of_words model, not a transformer; choose the scorer bag_of_words"):
        scorer(tmp_path)


def test_a_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    """transformers would draw one at random."""
    from safetensors.torch import load_file, save_file

    folder = tiny_rewards.save(tmp_path / "m", "Qwen3")
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of a sequence classifier \(such as score.weight\)"):
        scorer(folder)


def test_a_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be opened as a sequence classifier"):
        scorer(folder)


def test_a_models_own_code_is_not_run(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3")
    (folder / "code.py").write_text("raise SystemExit('run')")
    code = {"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"}
    change(folder, auto_map=code, model_type="theirs", architectures=["TheirRewardModel"])
    with pytest.raises(ModelError, match="brings its own Python code, which is not run"):
        scorer(folder)


def test_a_decoder_without_a_template_is_told_what_to_do(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "m", "Qwen3")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"has no chat template, .* or give settings.input: pair"):
        scorer(folder)
    assert len(scorer(folder, {"input": "pair"}).score(answers())) == 20


def test_no_model_is_told() -> None:
    with pytest.raises(ModelError, match="reward_model needs a model"):
        HFRewardModel.opened(ScorerSpec(scorer="reward_model"), no_other)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "share"), [("Qwen3", True), ("Qwen3", False), ("Bert", False)])
def test_out_of_memory_halves_the_batch_and_goes_on(
    classifier: Made, monkeypatch: pytest.MonkeyPatch, family: str, share: bool
) -> None:
    model = scorer(classifier(family), {"share_prompts": share})
    want = model.score(answers())
    shapes = record(monkeypatch, model, limit=400)
    assert model.score(answers()) == pytest.approx(want, abs=TOLERANCE)
    assert any(rows > 1 for rows, _ in shapes)
    assert all(rows * width <= 400 for rows, width in shapes)


def test_one_sequence_that_does_not_fit_is_told(classifier: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(classifier("Qwen3"))
    record(monkeypatch, model, limit=3)
    with pytest.raises(ModelError, match=r"ex-1: its \d+ tokens do not fit into memory alone"):
        model.score([Judged("ex-1", "en", asked("x"), "y")])


def test_batches_hold_no_more_tokens_than_asked_for(classifier: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer(classifier("Qwen3"), {"share_prompts": False}, batch_tokens=300)
    shapes = record(monkeypatch, model)
    model.score(answers())
    assert all(rows == 1 or rows * width <= 300 for rows, width in shapes)
    assert sum(rows for rows, _ in shapes) == 20
    assert len(shapes) < 20


def test_an_opener_that_closes_gives_the_memory_back(classifier: Made) -> None:
    context, opener = registry.context(("en",))
    spec = ModelSpec(path=str(classifier("Qwen3")), device="cpu")
    model = context.open("scorer", ScorerSpec(scorer="reward_model", model=spec))
    assert model.score(answers()) == scorer(classifier("Qwen3")).score(answers())
    weights = weakref.ref(model.loaded.weights.base)
    del model
    opener.close()
    assert weights() is None


def test_closing_lets_go_of_the_weights(classifier: Made) -> None:
    model = scorer(classifier("Qwen3"))
    assert scorer(classifier("Qwen3")).loaded.weights is model.loaded.weights
    hf_models.close_models()
    assert scorer(classifier("Qwen3")).loaded.weights is not model.loaded.weights


# --- adapters --------------------------------------------------------------------------------------------------------


def test_reward_adapters_on_a_language_model_bring_their_heads(tiny_model: Made, tmp_path: Path) -> None:
    """Two of them on one base in memory, taking turns."""
    base = tiny_model("Qwen3")
    adapters = [tiny_rewards.save_adapter(tmp_path / str(seed), base, seed) for seed in (1, 2)]
    models = [scorer(base, adapter=str(adapter)) for adapter in adapters]
    assert models[0].loaded.weights is models[1].loaded.weights
    assert models[0].fingerprint != models[1].fingerprint
    rows = answers()
    want = [transformers_own(base, rows, adapter) for adapter in adapters]
    assert want[0] != pytest.approx(want[1], abs=0.1)
    for k in (0, 1, 0):
        assert models[k].score(rows) == pytest.approx(want[k], abs=TOLERANCE)


def test_an_adapters_folder_opens_on_its_base(tiny_model: Made, tmp_path: Path) -> None:
    base = tiny_model("Qwen3")
    adapter = tiny_rewards.save_adapter(tmp_path / "a", base)
    rows = answers()[:3]
    assert scorer(adapter).score(rows) == pytest.approx(transformers_own(base, rows, adapter), abs=TOLERANCE)


def test_our_adapters_tell_how_they_were_trained(tiny_model: Made, tmp_path: Path) -> None:
    adapter = tiny_rewards.save_adapter(tmp_path / "a", tiny_model("Qwen3"))
    (adapter / ADAPTER_NOTE).write_text('{"input": "turns", "max_length": 40, "loss": "bradley_terry"}')
    model = scorer(tiny_model("Qwen3"), adapter=str(adapter))
    assert (model.inputs.input, model.inputs.max_length) == ("turns", 40)


def test_an_adapter_without_a_head_does_not_make_a_reward_model(tiny_model: Made, tmp_path: Path) -> None:
    adapter = tiny.save_adapter(tmp_path / "a", tiny_model("Qwen3"))
    with pytest.raises(ModelError, match=r"its adapter .* keeps no head"):
        scorer(tiny_model("Qwen3"), adapter=str(adapter))


def test_an_adapter_on_a_reward_model(classifier: Made, tmp_path: Path) -> None:
    """It has the head's place as well; the bare model stays itself."""
    base = classifier("Qwen3")
    adapter = tiny_rewards.save_adapter(tmp_path / "a", base)
    rows = answers()
    bare, adapted = scorer(base), scorer(base, adapter=str(adapter))
    assert bare.loaded.weights is adapted.loaded.weights
    for _ in range(2):
        assert adapted.score(rows) == pytest.approx(transformers_own(base, rows, adapter), abs=TOLERANCE)
        assert bare.score(rows) == pytest.approx(transformers_own(base, rows), abs=TOLERANCE)


# --- what polypref trains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LoraOptions(r=4)])
def test_what_was_trained_scores_as_training_said(tiny_model: Made, tmp_path: Path, lora: LoraOptions | None) -> None:
    """The validation loss at the last step is the mean of −log σ(r_w − r_l) over our scores; the accuracy likewise.
    The last 60 tokens of a sequence are read, and some are longer."""
    from polypref.backends.trl_reward import TRLRewardTrainer

    rows = [
        PairRow(f"{i}", "en", asked(LONG[: 30 + i]), tiny.TEXTS[i % 4][: 9 + 3 * i], tiny.TEXTS[(i + 1) % 4][: 30 - i])
        for i in range(12)
    ]
    options = RewardTrainOptions(
        lora=lora, batch_size=4, learning_rate=1e-3, max_length=60, select="last", evaluations=1
    )
    start = ModelSpec(path=str(tiny_model("Qwen3")))
    folder = tmp_path / "rm"
    folder.mkdir()
    told = TRLRewardTrainer().train(rows[:8], rows[8:], start, options, folder, silent)
    assert told["truncated"]["validation"] > 0
    model = scorer(folder) if lora is None else scorer(tiny_model("Qwen3"), adapter=str(folder))
    sides = [[Judged(row.id, "en", row.messages, text(row)) for row in rows[8:]] for text in (_chosen, _rejected)]
    with pytest.warns(UserWarning, match="scored without their beginning"):
        better, worse = (torch.tensor(model.score(side)) for side in sides)
    last = told["validation"][-1]
    assert last["loss"] == pytest.approx(float(-torch.nn.functional.logsigmoid(better - worse).mean()), abs=TOLERANCE)
    assert last["accuracy"] == pytest.approx(float((better > worse).float().mean()))


def _chosen(row: PairRow) -> str:
    return row.chosen


def _rejected(row: PairRow) -> str:
    return row.rejected
