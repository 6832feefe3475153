"""lm-eval itself, over local task files and a tiny model."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lm_eval", reason="needs the extra eval")

from transformers import AutoModelForCausalLM, AutoTokenizer

from polypref.backends import tasks as protocol
from polypref.backends.base import ModelSpec
from polypref.backends.lm_eval_harness import LmEvalHarness
from polypref.backends.tasks import TaskSettings
from polypref.errors import InputError, ModelError, RecipeError
from polypref.stages.standard_tasks import GROUPS, plan

pytestmark = pytest.mark.usefixtures("_closed")

CHOICES = {
    "es": [("¿Qué río?", ["el Ebro", "el mar"], 0), ("¿Qué mar?", ["el Tajo y el Duero", "el norte"], 1)],
    "de": [("Welcher Fluss?", ["Rhein", "Norden und Elbe"], 0), ("Was?", ["Elbe", "Donau fließen"], 1)],
}


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """Tasks of two choices in two languages, ``rivers_<language>``, and their group."""
    folder = tmp_path / "include"
    folder.mkdir()
    for lang, rows in CHOICES.items():
        data = tmp_path / f"{lang}.jsonl"
        lines = [{"id": f"r{i}", "q": q, "options": o, "gold": g} for i, (q, o, g) in enumerate(rows)]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write(folder, f"rivers_{lang}", data)
    group = {"group": "rivers", "task": ["rivers_de", "rivers_es"]}
    group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": True}]
    (folder / "rivers.yaml").write_text(yaml.safe_dump(group))
    return folder


def write(folder: Path, name: str, data: Path, **changes: Any) -> None:
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "options",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | changes, sort_keys=False))


@pytest.fixture(scope="module")
def built_in() -> LmEvalHarness:
    return LmEvalHarness()


def of(folder: Path) -> LmEvalHarness:
    """The tasks of a folder alone."""
    return LmEvalHarness(folder, built_in=False)


def scored(folder: Path, prompt: str, answer: str) -> float:
    """log p(answer | prompt) by transformers alone, the answer after a space, as lm-eval writes it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    whole, front = (tokenizer(text, return_tensors="pt").input_ids for text in (f"{prompt} {answer}", prompt))
    with torch.no_grad():
        log_p = model(whole).logits[0].log_softmax(-1)
    return sum(float(log_p[i - 1, whole[0, i]]) for i in range(front.shape[1], whole.shape[1]))


def test_accuracy_is_that_of_the_models_own_log_probabilities(include: Path, tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("Qwen3")
    harness = of(include)
    assert isinstance(harness, protocol.Harness)
    ran = harness.run(ModelSpec(path=str(folder)), "rivers_es", TaskSettings())
    expected = {}
    for i, (question, options, gold) in enumerate(CHOICES["es"]):
        found = [scored(folder, question, option) for option in options]
        expected[f"r{i}"] = float(found.index(max(found)) == gold)
        kept = [float(one[0]) for one in ran.samples[i]["filtered_resps"]]
        assert kept == pytest.approx(found, abs=1e-4)
    assert ran.items == {"acc": expected}
    assert (ran.left_out, list(ran.remarks)) == ({}, [])
    assert ran.about == {"num_fewshot": {"rivers_es": 0}, "versions": {"rivers_es": "Yaml"}, "cut": False}


@pytest.mark.parametrize("chat", [False, True])
def test_worked_examples_are_those_of_lm_eval_itself(
    include: Path, tmp_path: Path, tiny_model: Callable[[str], Path], chat: bool
) -> None:
    """Against lm_eval.simple_evaluate with a model that lm-eval opened: the same prompts, numbers and figure."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder, rows = (
        str(tiny_model("Qwen3")),
        [{"q": f"{i}?", "options": ["uno", "dos"], "gold": i % 2} for i in range(9)],
    )
    (tmp_path / "es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = of(include).run(
        ModelSpec(path=folder), "rivers_es", TaskSettings(num_fewshot=2, apply_chat_template=chat, seed=5, limit=6)
    )
    own: Any = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": folder, "dtype": "float32"},
        device="cpu",
        batch_size=8,
        tasks=["rivers_es"],
        task_manager=TaskManager(include_path=include, include_defaults=False),
        num_fewshot=2,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        fewshot_random_seed=5,
        limit=6,
        bootstrap_iters=0,
    )
    theirs = own["samples"]["rivers_es"]
    for sample, other in zip(ran.samples, theirs, strict=True):
        assert sample["arguments"] == other["arguments"]
        assert [float(one[0]) for one in sample["filtered_resps"]] == pytest.approx(
            [float(one[0]) for one in other["filtered_resps"]], abs=1e-4
        )
    assert sum(ran.items["acc"].values()) / 6 == pytest.approx(own["results"]["rivers_es"]["acc,none"])
    assert ran.about["num_fewshot"] == {"rivers_es": 2}


def test_a_group_is_the_items_of_its_tasks(include: Path, tiny_model: Callable[[str], Path]) -> None:
    harness, model = of(include), ModelSpec(path=str(tiny_model("Qwen3")))
    both = {task: harness.run(model, f"rivers_{task}", TaskSettings()).items["acc"] for task in ("de", "es")}
    ran = harness.run(model, "rivers", TaskSettings())
    assert ran.items["acc"] == {f"{lang}/{item}": x for lang, items in both.items() for item, x in items.items()}


def test_mgsm_from_local_files(
    real_data: Path, tmp_path: Path, tiny_model: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Written answers: the number is the last one in the text, and each item is right where it is the reference's."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    how = {
        "filter": [{"function": "regex", "regex_pattern": r"(-?\d+)", "group_select": -1}, {"function": "take_first"}]
    }
    for lang in ("es", "sw"):
        write(
            folder,
            f"mgsm_{lang}",
            real_data / "mgsm" / f"{lang}.jsonl",
            output_type="generate_until",
            doc_to_text="{{query}}",
            doc_to_choice=None,
            doc_to_target="{{response}}",
            generation_kwargs={"until": ["\n"], "do_sample": False, "max_gen_toks": 8},
            filter_list=[{"name": "last", **how}],
            metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        )
    capfd.readouterr()
    harness, steps = of(folder), []
    model = ModelSpec(path=str(tiny_model("Qwen3")))
    ran = harness.run(model, "mgsm_sw", TaskSettings(limit=12, batch_size=5), lambda *step: steps.append(step))
    [(metric, items)] = ran.items.items()
    assert (metric, list(items)) == ("exact_match,last", [str(i) for i in range(12)])
    for sample in ran.samples:
        said, reference = sample["filtered_resps"][0], sample["doc"]["response"]
        assert items[str(sample["doc_id"])] == float(said == reference)
    assert steps[-1] == ("mgsm_sw: generate_until", 12, 12)
    assert capfd.readouterr() == ("", "")  # lm-eval's own bars and words stay off the terminal


def test_an_adapter_is_on_while_its_task_runs(include: Path, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    import tiny

    base = tiny_model("Qwen3")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    harness = of(include)
    plain, changed = ModelSpec(path=str(base)), ModelSpec(path=str(base), adapter=str(adapter))

    def answers(spec: ModelSpec) -> Any:
        return [sample["filtered_resps"] for sample in harness.run(spec, "rivers_de", TaskSettings()).samples]

    first = answers(plain)
    assert answers(changed) != first
    assert answers(plain) == first


def test_the_models_template_is_used_when_it_is_asked_for(include: Path, tiny_model: Callable[[str], Path]) -> None:
    settings = TaskSettings(apply_chat_template=True, system="Short.", limit=1)
    ran = of(include).run(ModelSpec(path=str(tiny_model("Qwen3"))), "rivers_es", settings)
    prompt = ran.samples[0]["arguments"][0][0]
    assert (
        prompt == "<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\n¿Qué río?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_question_that_does_not_fit_is_said(include: Path, tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    data = tmp_path / "es.jsonl"
    data.write_text(json.dumps({"q": "río " * 300, "options": ["el Ebro", "el mar"], "gold": 0}) + "\n")
    ran = of(include).run(ModelSpec(path=str(tiny_model("Qwen3"))), "rivers_es", TaskSettings())
    assert list(ran.remarks) == ["rivers_es: questions that are too long for the model's window lost their beginning"]
    assert ran.about["cut"] is True


def test_a_task_that_fixes_its_worked_examples_says_so(include: Path, tmp_path: Path, tiny_model: Any) -> None:
    write(include, "rivers_es", tmp_path / "es.jsonl", num_fewshot=0)
    ran = of(include).run(ModelSpec(path=str(tiny_model("Qwen3"))), "rivers_es", TaskSettings(num_fewshot=1))
    assert list(ran.remarks) == ["rivers_es: rivers_es fixes 0 worked examples, so 1 are not shown"]


def test_a_metric_that_is_no_mean_over_items_is_left_out_and_said(
    include: Path, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    names = {"acc": "mean", "mcc": "matthews_corrcoef"}
    both = [{"metric": name, "aggregation": how, "higher_is_better": True} for name, how in names.items()]
    write(include, "rivers_es", tmp_path / "es.jsonl", metric_list=both)
    ran = of(include).run(ModelSpec(path=str(tiny_model("Qwen3"))), "rivers_es", TaskSettings())
    assert list(ran.items) == ["acc"]
    assert list(ran.left_out) == ["mcc"]
    assert list(ran.remarks) == ["rivers_es: mcc is no mean over items, so it has no place in results.json"]


def test_what_a_task_is_does_not_hang_on_where_it_lies(include: Path, tmp_path: Path) -> None:
    before = of(include).identity("rivers")
    moved = include.rename(tmp_path / "moved")
    assert of(moved).identity("rivers") == before
    (tmp_path / "es.jsonl").write_text((tmp_path / "es.jsonl").read_text() + "\n")
    changed_data = of(moved).identity("rivers")
    (moved / "utils.py").write_text("def f(): pass\n")
    changed_code = of(moved).identity("rivers")
    (moved / "shared").mkdir()
    (moved / "shared" / "utils.py").write_text("def f(): pass\n")
    further_code = of(moved).identity("rivers")
    write(moved, "rivers_de", tmp_path / "de.jsonl", doc_to_text="{{q}}!")
    found = [before, changed_data, changed_code, further_code, of(moved).identity("rivers")]
    assert len({json.dumps(one) for one in found}) == 5
    assert before.keys() == {"rivers", "rivers_de", "rivers_es"}


def test_mistakes_are_told_in_a_sentence(include: Path, tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    model = ModelSpec(path=str(tiny_model("Qwen3")))
    write(include, "codes", tmp_path / "es.jsonl", unsafe_code=True)
    write(include, "hub", tmp_path / "es.jsonl", dataset_path="nobody/nothing", dataset_kwargs=None)
    harness = of(include)
    with pytest.raises(InputError, match="codes runs code that the model writes"):
        harness.run(model, "codes", TaskSettings())
    with pytest.raises(InputError, match=r"the data of hub \(nobody/nothing\) cannot be read"):
        harness.run(model, "hub", TaskSettings())
    with pytest.raises(RecipeError, match="not a fake backend"):
        harness.run(ModelSpec(path="fake", backend="fake"), "rivers_es", TaskSettings())
    with pytest.raises(ModelError, match="is no folder"):
        harness.run(ModelSpec(path=str(tmp_path / "absent")), "rivers_es", TaskSettings())
    write(include, "writes", tmp_path / "es.jsonl", output_type="generate_until", doc_to_choice=None)
    with pytest.raises(ModelError, match=r"writes cannot be put to .*max tokens to generate"):
        of(include).run(model, "writes", TaskSettings(max_tokens=5000))
    (include / "second.yaml").write_text((include / "rivers_es.yaml").read_text())
    with pytest.raises(InputError, match=r"second\.yaml and .*rivers_es\.yaml are both called rivers_es"):
        of(include)
    (include / "broken.yaml").write_text("task: [")
    with pytest.raises(InputError, match=r"broken\.yaml is no task of lm-eval"):
        of(include)
    with pytest.raises(InputError, match=r"holds no \.yaml"):
        of(tmp_path / "nowhere")


def test_the_papers_tasks_are_there_under_one_name(built_in: LmEvalHarness) -> None:
    found = plan(["multilingual", "global_mmlu"], ["en", "es", "de", "sw"], built_in.names())
    by_language = {lang: [p.task for p in found.tasks if p.lang == lang] for lang in ("en", "es", "sw")}
    okapi = ["arc_es", "hellaswag_es", "m_mmlu_es", "truthfulqa_es_mc1", "truthfulqa_es_mc2"]
    assert by_language["es"] == [*okapi, "mgsm_native_cot_es", "global_mmlu_es"]
    english = ["arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2"]
    assert by_language["en"] == [*english, "mgsm_native_cot_en", "global_mmlu_en"]
    assert by_language["sw"] == ["mgsm_native_cot_sw", "global_mmlu_sw"]
    assert len(found.absent) == len(GROUPS["multilingual"]) - 1  # Swahili is in MGSM alone
    assert len(built_in.identity("mmlu")) > 57  # its subjects


def test_without_the_extra_it_is_said_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from polypref.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "polypref.backends.lm_eval_harness")
    with pytest.raises(MissingExtraError, match=r"pip install 'polypref\[eval\]'"):
        importlib.import_module("polypref.backends.lm_eval_harness")


@pytest.fixture(autouse=True)
def _nothing_stays_replaced() -> Iterator[None]:
    from lm_eval.models import huggingface
    from tqdm import tqdm

    yield
    assert huggingface.tqdm is tqdm
