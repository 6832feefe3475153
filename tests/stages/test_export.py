"""Exports: the rows that TRL and LLaMA-Factory read, in a folder that loads as a data set."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.export import DATA, ExportOptions, ExportSummary, export_pairs
from polypref.stages.prompts import PromptOptions, read_prompts

os.environ.setdefault("HF_HUB_OFFLINE", "1")

FORMATS = ("trl", "trl-unpaired", "trl-completion", "llamafactory")
EXTRA = {"id", "language", "score_chosen", "score_rejected", "margin"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def example(key: str = "1", **changes: Any) -> Example:
    """A Spanish pair by score (2 against −0.5, margin 2.5) and an English one without."""
    values: dict[str, Any] = {
        "id": key,
        "prompts": {"en": [user("Hi")], "es": [system("Sé breve."), user("Hola"), assistant("¿Sí?"), user("Ríos")]},
        "candidates": [
            Candidate(f"{key}/es/0", "es", "El Ebro", scores={"implicit": 2}),
            Candidate(f"{key}/es/1", "es", "", scores={"implicit": -0.5}),
            Candidate(f"{key}/en/0", "en", "Hello"),
            Candidate(f"{key}/en/1", "en", "Bye\n\n```"),
        ],
        "pairs": [
            Pair("en", f"{key}/en/0", f"{key}/en/1", rule="imbalance"),
            Pair("es", f"{key}/es/0", f"{key}/es/1", "implicit", 2.5, "best_worst"),
        ],
    }
    return Example(**(values | changes))


def export(folder: Path, *examples: Example, provenance: Any = None, **options: Any) -> ExportSummary:
    return export_pairs(examples or (example(),), ExportOptions(**options), folder, provenance=provenance)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / DATA).read_text(encoding="utf-8").splitlines()]


# --- rows ----------------------------------------------------------------------------------------------------------


def test_trl_rows(tmp_path: Path) -> None:
    """The scored pair comes first: see test_a_column_keeps_its_type…"""
    summary = export(tmp_path)
    assert rows(tmp_path) == [
        {
            "prompt": [system("Sé breve."), user("Hola"), assistant("¿Sí?"), user("Ríos")],
            "chosen": [assistant("El Ebro")],
            "rejected": [assistant("")],
            "id": "1",
            "language": "es",
            "score_chosen": 2.0,
            "score_rejected": -0.5,
            "margin": 2.5,
        },
        {
            "prompt": [user("Hi")],
            "chosen": [assistant("Hello")],
            "rejected": [assistant("Bye\n\n```")],
            "id": "1",
            "language": "en",
            "score_chosen": None,
            "score_rejected": None,
            "margin": None,
        },
    ]
    assert '"score_chosen": 2.0' in (tmp_path / DATA).read_text()
    assert summary == ExportSummary("trl", ("README.md", DATA), {"en": 1, "es": 1}, {"en": 1, "es": 1})


def test_trl_unpaired_and_completion_rows(tmp_path: Path) -> None:
    one = example(pairs=[Pair("en", "1/en/0", "1/en/1")])
    assert export(tmp_path, one, format="trl-unpaired").rows == {"en": 2}
    asked = {"prompt": [user("Hi")]}
    assert [{k: v for k, v in row.items() if k not in EXTRA} for row in rows(tmp_path)] == [
        asked | {"completion": [assistant("Hello")], "label": True},
        asked | {"completion": [assistant("Bye\n\n```")], "label": False},
    ]
    export(tmp_path, one, format="trl-completion")
    assert [{k: v for k, v in row.items() if k not in EXTRA} for row in rows(tmp_path)] == [
        asked | {"completion": [assistant("Hello")]}
    ]


def test_plain_rows_and_what_they_cannot_hold(tmp_path: Path) -> None:
    warnings: list[str] = []
    options = ExportOptions(conversational=False)
    summary = export_pairs([example()], options, tmp_path, warn=warnings.append)
    assert [(r["prompt"], r["chosen"], r["rejected"]) for r in rows(tmp_path)] == [("Hi", "Hello", "Bye\n\n```")]
    assert summary.left_out == {"more_than_one_turn": {"es": 1}}
    assert warnings == ["pairs left out, more_than_one_turn: es 1"]


def test_llamafactory_rows_follow_its_documented_schema(tmp_path: Path) -> None:
    """https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md, "Sharegpt Format", "Preference Dataset":
    conversations whose last turn is human, chosen and rejected as one gpt turn each, system in a column of its own;
    dataset_info.json with formatting sharegpt, ranking true and the columns' names."""
    summary = export(tmp_path, format="llamafactory", name="mine")
    row = rows(tmp_path)[0]
    assert {key: value for key, value in row.items() if key not in EXTRA} == {
        "system": "Sé breve.",
        "conversations": [
            {"from": "human", "value": "Hola"},
            {"from": "gpt", "value": "¿Sí?"},
            {"from": "human", "value": "Ríos"},
        ],
        "chosen": {"from": "gpt", "value": "El Ebro"},
        "rejected": {"from": "gpt", "value": ""},
    }
    assert rows(tmp_path)[1]["system"] == ""
    info = json.loads((tmp_path / "dataset_info.json").read_text())["mine"]
    assert info["file_name"] == DATA
    assert (info["formatting"], info["ranking"]) == ("sharegpt", True)
    assert info["columns"] == {
        "messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected"
    }  # fmt: skip
    assert set(info["columns"].values()) <= set(row)
    tags = info["tags"]
    assert {tags["role_tag"], tags["content_tag"]} == set(row["chosen"])
    assert {turn[tags["role_tag"]] for turn in row["conversations"]} == {tags["user_tag"], tags["assistant_tag"]}
    assert summary.files == ("README.md", DATA, "dataset_info.json", "train_dpo.yaml")


def test_llamafactory_training_file(tmp_path: Path) -> None:
    export(
        tmp_path, format="llamafactory", name="mine", base_model="org/model", template="qwen3_nothink",
        beta=0.5, nll=0.2, max_length=512, learning_rate=1e-6,
    )  # fmt: skip
    recipe = yaml.safe_load((tmp_path / "train_dpo.yaml").read_text())
    expected = {
        "model_name_or_path": "org/model", "stage": "dpo", "do_train": True, "dataset_dir": ".", "dataset": "mine",
        "template": "qwen3_nothink", "cutoff_len": 512, "pref_beta": 0.5, "pref_ftx": 0.2, "pref_loss": "sigmoid",
        "learning_rate": 1e-6,
    }  # fmt: skip
    assert {key: recipe[key] for key in expected} == expected
    assert isinstance(recipe["learning_rate"], float)
    export(tmp_path, format="llamafactory")
    text = (tmp_path / "train_dpo.yaml").read_text()
    assert "# model_name_or_path: the folder" in text
    assert yaml.safe_load(text)["template"] is None


@pytest.mark.parametrize(
    "prompt",
    [
        [user("a"), user("b")],
        [assistant("a"), user("b")],
        [user("a"), {"role": "tool", "content": "1"}, user("b")],
        [user("a"), system("s"), user("b")],
    ],
)
def test_conversations_that_llamafactory_would_skip_are_left_out_and_counted(
    tmp_path: Path, prompt: list[dict[str, str]]
) -> None:
    summary = export(tmp_path, example(prompts={"en": [user("Hi")], "es": prompt}), format="llamafactory")
    assert summary.left_out == {"turns_do_not_alternate": {"es": 1}}
    assert summary.pairs == {"en": 1}


# --- nothing silent ------------------------------------------------------------------------------------------------


def test_pairs_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    failed = example("2")
    failed.candidates[0] = Candidate("2/es/0", "es", "x", error="timeout")
    equal = example("3")
    equal.candidates[3] = Candidate("3/en/1", "en", "Hello")
    summary = export(tmp_path, example("1", prompts={"en": [user("Hi")]}), failed, equal)
    assert summary.left_out == {
        "candidate_failed": {"es": 1}, "duplicate": {"en": 1}, "prompt_missing": {"es": 1}
    }  # fmt: skip
    assert summary.pairs == {"en": 2, "es": 1}
    card = (tmp_path / "README.md").read_text()
    assert "| candidate_failed | es | 1 |" in card
    assert "| all | 3 | 3 |" in card


def test_no_pair_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^no pair to export; make pairs first"):
        export(tmp_path / "out", example(pairs=[]))
    with pytest.raises(InputError, match=r"^no pair to export; left out, prompt_missing: 1; make"):
        export(tmp_path / "out", example(prompts={"en": [user("Hi")]}, pairs=example().pairs[1:]))
    with pytest.raises(InputError, match=r"example '1': a pair names '1/xx/0', which is no candidate there"):
        export(tmp_path / "out", example(pairs=[Pair("en", "1/en/0", "1/xx/0")]))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_export_as_it_was(tmp_path: Path) -> None:
    export(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError):
        export(tmp_path, example("2"), example(pairs=[Pair("en", "1/en/0", "gone")]))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_foreign_files_stay_and_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    export(tmp_path, format="llamafactory")
    export(tmp_path, format="trl")  # ours may be replaced, and what the new format does not write goes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "notes.md", "train.jsonl"]
    (tmp_path / "README.md").write_text("my own words")
    with pytest.raises(InputError, match=r"holds README\.md, train\.jsonl, and polypref did not write them"):
        export(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"
    with pytest.raises(InputError, match="is a file; name a folder"):
        export(tmp_path / "notes.md")


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, format: str) -> None:
    digests = []
    for name in ("a", "b", "b"):
        export(tmp_path / name, example("1"), example("2"), format=format, provenance={"seed": 0, "models": ["m"]})
        files = sorted((tmp_path / name).iterdir())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1] == digests[2]


def test_the_card_tells_languages_counts_and_settings(tmp_path: Path) -> None:
    """Norwegian is the string "no" in the front matter, which YAML would otherwise read as false."""
    norwegian = example(prompts={"no": [user("Hei")]}, pairs=[Pair("no", "1/en/0", "1/en/1")])
    export(tmp_path, norwegian, name="pairs", provenance={"score": {"view": "cross_lingual"}, "note": "a ``` b"})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["language"] == ["no"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "train.jsonl"}]
    assert "| no | 1 | 1 |" in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["score"] == {"view": "cross_lingual"}


def test_an_export_reads_back_as_preferences(tmp_path: Path) -> None:
    """TRL's rows and LLaMA-Factory's are shapes that read_prompts knows: id, language, texts, scores and margin. A pair
    whose rejected answer is empty is no preference to learn from, and is dropped with its reason."""
    context = Context(open=lambda role, spec: None)
    for format in ("trl", "llamafactory"):
        export(tmp_path / format, format=format)
        (back,), _ = read_prompts(PromptOptions(path=str(tmp_path / format)), context)
        assert (back.id, back.prompts) == ("1", example().prompts)
        texts = {(p.lang, back.candidate(p.chosen).text, back.candidate(p.rejected).text, p.margin) for p in back.pairs}
        assert texts == {("en", "Hello", "Bye\n\n```", None)}
        assert [(d.lang, d.reason) for d in back.dropped] == [("es", "empty_turn")]


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    module.disable_progress_bars()
    return module


@pytest.mark.parametrize("conversational", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_exports_load_as_a_file_and_as_a_folder(
    tmp_path: Path, datasets: Any, format: str, conversational: bool
) -> None:
    export(tmp_path / "out", format=format, conversational=conversational)
    by_file = datasets.load_dataset("json", data_files=str(tmp_path / "out" / DATA), split="train")
    by_folder = datasets.load_dataset(str(tmp_path / "out"))
    assert list(by_folder) == ["train"]
    assert by_folder["train"].to_list() == by_file.to_list() == rows(tmp_path / "out")


def test_a_folder_whose_pairs_have_no_scores_still_has_number_columns(tmp_path: Path, datasets: Any) -> None:
    export(tmp_path / "out", example(pairs=example().pairs[:1]))
    features = datasets.load_dataset(str(tmp_path / "out"), split="train").features
    assert [features[name].dtype for name in ("score_chosen", "score_rejected", "margin")] == ["float64"] * 3


def test_a_column_keeps_its_type_beyond_the_first_block_of_the_file(tmp_path: Path, datasets: Any) -> None:
    """`datasets` fixes a column's type by the first 10 MB of a JSON file. 12 MB of pairs without a score before the
    one that has scores would break loading; and a whole number written as 2 would make the column one of integers."""
    long = example()
    long.prompts["en"] = [user("x" * 200_000)]
    unscored = [Example(f"n{i}", long.prompts, long.candidates, [long.pairs[0]]) for i in range(60)]
    scored = example()
    scored.candidates[0].scores["implicit"] = 1
    scored.candidates[1].scores["implicit"] = 0.25
    export(tmp_path / "out", *unscored, scored)
    assert (tmp_path / "out" / DATA).stat().st_size > 11_000_000
    loaded = datasets.load_dataset("json", data_files=str(tmp_path / "out" / DATA), split="train")
    assert len(loaded) == 62
    assert (loaded[0]["score_chosen"], loaded[0]["score_rejected"], loaded[61]["margin"]) == (1.0, 0.25, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of about 20 thousand parameters and a byte-level tokenizer with a chat template, saved."""
    pytest.importorskip("trl")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<pad>", "<s>", "<end>"]
    words = specials + sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="<end>", model_max_length=256
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("format", ["trl", "trl-unpaired", "trl-completion"])
def test_exports_train_a_step_in_trl(tmp_path: Path, datasets: Any, tiny: Path, format: str) -> None:
    """Two pairs, one batch, one step. The policy begins as its own reference, so the first DPO loss is ln 2."""
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export(tmp_path / "out", example("1"), format=format)
    data = datasets.load_dataset(str(tmp_path / "out"), split="train")
    config_class, trainer_class, more = {
        "trl": (trl.DPOConfig, trl.DPOTrainer, {}),
        "trl-unpaired": (trl.KTOConfig, trl.KTOTrainer, {}),
        "trl-completion": (trl.SFTConfig, trl.SFTTrainer, {"completion_only_loss": True}),
    }[format]
    config = config_class(
        output_dir=str(tmp_path / "model"), max_steps=1, per_device_train_batch_size=len(data), learning_rate=1e-2,
        report_to="none", save_strategy="no", use_cpu=True, bf16=False, logging_steps=1, disable_tqdm=True, seed=0,
        gradient_checkpointing=False, max_length=128, **more,
    )  # fmt: skip
    trainer = trainer_class(
        model=str(tiny), args=config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(tiny)
    )
    result = trainer.train()
    assert result.global_step == 1
    if format == "trl":
        assert result.training_loss == pytest.approx(0.693147, abs=1e-5)
    before = AutoModelForCausalLM.from_pretrained(tiny).state_dict()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert any((before[name] != after[name]).any() for name in before)
