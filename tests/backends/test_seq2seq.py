"""Dedicated translators on tiny random T5 and M2M-100 models: how each names languages, and batches equal singles."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import M2M100Config, M2M100ForConditionalGeneration, PreTrainedTokenizerFast, T5Config
from transformers import T5ForConditionalGeneration as T5

from polypref import cli
from polypref.backends.seq2seq import Seq2SeqTranslator
from polypref.backends.translation import Translation, TranslationRequest, TranslatorSpec
from polypref.errors import ModelError

WORDS = ["the", "river", "sea", "el", "río", "mar", "24", "and", "home", "birds"]
PAD, END, UNKNOWN = 0, 1, 2


def _tokenizer(codes: Sequence[str], folder: Path, source: str | None) -> None:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *codes, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = "$A </s>" if source is None else f"{source} $A </s>"
    special = [("</s>", END)] + ([] if source is None else [(source, vocabulary[source])])
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(codes),
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def madlad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("madlad")
    _tokenizer(["<2en>", "<2es>", "<2zh_Hant>"], folder, None)
    torch.manual_seed(0)
    shape = {
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 4,
        "n_positions": 24,
        "initializer_factor": 8.0,
    }
    config = T5Config(vocab_size=16, **shape, decoder_start_token_id=PAD, eos_token_id=END, pad_token_id=PAD)
    T5(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nllb")
    _tokenizer(["eng_Latn", "spa_Latn", "swh_Latn", "zho_Hans"], folder, "eng_Latn")
    torch.manual_seed(0)
    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 24, "init_std": 1.0}
    ids = {"decoder_start_token_id": END, "eos_token_id": END, "pad_token_id": PAD, "bos_token_id": PAD}
    M2M100ForConditionalGeneration(M2M100Config(vocab_size=17, **shape, **heads, **ids)).save_pretrained(folder)
    return folder


def opened(folder: Path, **values: Any) -> Seq2SeqTranslator:
    model = {"path": str(folder), "dtype": "float32", "device": "cpu"} | values.pop("model", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Seq2SeqTranslator(
            TranslatorSpec.model_validate({"model": model, "method": "seq2seq", "max_tokens": 8, **values})
        )


def request(text: str, source: str = "en", target: str = "es") -> TranslationRequest:
    return TranslationRequest("x", text, source, target)


TEXTS = ["the river", "the sea and the river and home", "birds", "24 birds home and the sea"]


class Finishes(torch.nn.Module):
    """Stands for a model that was trained: writes three words and the end, and notes what it was asked."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.config, self.device = inner.config, inner.device
        self.asked: list[dict[str, Any]] = []

    def generate(self, **asked: Any) -> torch.Tensor:
        self.asked.append(asked)
        start = asked.get("forced_bos_token_id", PAD)
        first = self.config.decoder_start_token_id
        return torch.tensor([[first, start, *ids[-4:-1].tolist(), END] for ids in asked["input_ids"]])


@pytest.mark.parametrize("family", ["madlad", "nllb"])
def test_a_real_forward_pass_and_batches_equal_singles(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    asked = [TranslationRequest(str(n), text, "en", "es") for n, text in enumerate(TEXTS)]
    wide, narrow = opened(folder), opened(folder, model={"batch_tokens": 1})
    for translator in (wide, narrow):  # a random model seldom ends, so its ids are looked at
        translator._read = lambda row: Translation(" ".join(str(i) for i in row).rstrip("0 "))  # type: ignore[method-assign]
    together = wide.translate(asked)
    assert together == [wide.translate([one])[0] for one in asked] == narrow.translate(asked)
    assert len({t.text for t in together}) > 1


class Cramped(Finishes):
    """Has room for so many rows at once."""

    def __init__(self, inner: Any, rows: int) -> None:
        super().__init__(inner)
        self.rows = rows
        self.sizes: list[int] = []

    def generate(self, **asked: Any) -> torch.Tensor:
        self.sizes.append(len(asked["input_ids"]))
        if self.sizes[-1] > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().generate(**asked)


def test_out_of_memory_halves_the_batch_and_changes_nothing(nllb: Path) -> None:
    texts = [TranslationRequest(str(n), "the river sea", "en", "es") for n in range(8)]
    translator = opened(nllb)
    translator.model = Cramped(translator.model, rows=3)
    assert translator.translate(texts) == [Translation("the river sea")] * 8
    assert translator.model.sizes == [8, 4, 2, 2, 4, 2, 2]
    translator.model.sizes.clear()
    translator.translate(texts)
    assert max(translator.model.sizes) == 2, "what did not fit is not tried again"


def test_one_text_too_big_for_memory_is_told(nllb: Path) -> None:
    translator = opened(nllb)
    translator.model = Cramped(translator.model, rows=0)
    with pytest.raises(ModelError, match="memory is out for one text of 5 tokens and at most 8 new ones"):
        translator.translate([request("the river sea")])


def test_madlad_is_told_the_target_before_the_text(madlad: Path) -> None:
    translator = opened(madlad)
    translator.model = Finishes(translator.model)
    found = translator.translate([request("the river sea"), request("river", target="zh-Hant")])
    assert found[0] == Translation("the river sea")
    rows = [ask["input_ids"][0].tolist() for ask in translator.model.asked]
    tokens = [translator.tokenizer.convert_ids_to_tokens(row) for row in rows]
    assert tokens == [["<2es>", "the", "river", "sea", "</s>"], ["<2zh_Hant>", "river", "</s>"]]
    assert all("forced_bos_token_id" not in ask and ask["do_sample"] is False for ask in translator.model.asked)


def test_nllb_is_told_the_target_by_the_first_token(nllb: Path) -> None:
    translator = opened(nllb, beams=2, repetition_penalty=1.1)
    translator.model = Finishes(translator.model)
    found = translator.translate([request("the river sea", target=tag) for tag in ("es", "sw", "zh-Hans", "zh")])
    assert [t.text for t in found] == ["the river sea"] * 4
    names = [translator.tokenizer.convert_ids_to_tokens(a["forced_bos_token_id"]) for a in translator.model.asked]
    assert names == ["spa_Latn", "swh_Latn", "zho_Hans", "zho_Hans"]
    assert translator.tokenizer.src_lang == "eng_Latn"
    assert {(a["num_beams"], a["repetition_penalty"], a["max_new_tokens"]) for a in translator.model.asked} == {
        (2, 1.1, 8)
    }


def test_an_unknown_language_is_told_and_its_code_can_be_given(madlad: Path) -> None:
    with pytest.raises(ModelError, match="knows no language sw"):
        opened(madlad).translate([request("river", target="sw")])
    assert opened(madlad, codes={"Swahili": "es"}).code("sw") == "<2es>"


def test_beyond_the_window_and_without_an_end(madlad: Path) -> None:
    translator = opened(madlad)
    (long,) = translator.translate([request("the " * 30)])
    assert (long.reason, long.text) == ("too_long", None)
    assert translator._read([PAD, 6, 7, 8]) == Translation(None, "truncated")
    assert translator._read([PAD, END]) == Translation(None, "empty")
    assert translator._read([END, 6, END, PAD]).text == translator.tokenizer.decode([6])


def test_nllbs_licence_is_said_aloud_whatever_the_folders_name(nllb: Path, madlad: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.symlink_to(nllb)
    spec = {"model": {"path": str(mine), "device": "cpu"}, "method": "seq2seq"}
    with pytest.warns(UserWarning, match="non-commercial"):
        Seq2SeqTranslator(TranslatorSpec.model_validate(spec))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Seq2SeqTranslator(TranslatorSpec.model_validate({**spec, "model": {"path": str(madlad), "device": "cpu"}}))


def test_the_command_says_the_licence_and_why_a_text_failed(
    nllb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    source = tmp_path / "x.jsonl"
    source.write_text('{"id": "1", "prompts": {"en": "' + "the river " * 20 + '"}}\n')
    model = ["--model", str(nllb), "--method", "seq2seq", "--device", "cpu", "--language-check", "off"]
    files = ["--input", str(source), "--output", str(tmp_path / "y.jsonl"), "--by-paragraph", "off", "--json"]
    with pytest.raises(SystemExit) as end:
        cli.main(["translate", *model, "--prompts-into", "es", *files])
    told = capsys.readouterr()
    assert (end.value.code, json.loads(told.out)["failed"]) == (0, {"too_long": 1})
    assert told.err.startswith(f"polypref: {nllb}: NLLB's weights")
    assert "for non-commercial use alone" in told.err


def test_what_is_no_translation_model_is_refused(tmp_path: Path, madlad: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be opened as a translation model"):
        opened(tmp_path)
    assert opened(madlad).fingerprint != opened(madlad, beams=3).fingerprint
