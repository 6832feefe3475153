"""Which tasks a name means, what is kept of them, and what reaches results.json; the harness is scripted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Context, ModelSpec
from polypref.backends.tasks import Harness, Ran, TaskSettings
from polypref.errors import InputError, RecipeError
from polypref.stages import standard_tasks as stage
from polypref.stages.standard_tasks import Plan, Planned

TASKS = """
    arc_challenge arc_easy arc_es arc_de arc_zh hellaswag hellaswag_es hellaswag_de mmlu m_mmlu_en m_mmlu_es m_mmlu_zh
    truthfulqa_mc1 truthfulqa_mc2 truthfulqa_gen truthfulqa_es_mc1 truthfulqa_es_mc2 mgsm_native_cot_en
    mgsm_native_cot_es mgsm_direct_es mgsm_direct_es_spanish_bench belebele_deu_Latn belebele_zho_Hans belebele_zho_Hant
    gsm8k
"""
NAMES = frozenset(TASKS.split())


class Scripted:
    """A harness whose answers are given: task → metric → item → value."""

    version = "scripted 1"

    def __init__(self, answers: Mapping[str, Mapping[str, Mapping[str, float]]], **rest: Any) -> None:
        self.answers, self.rest = answers, rest
        self.asked: list[str] = []
        self.definition = "first"

    def names(self) -> frozenset[str]:
        return frozenset(self.answers)

    def identity(self, task: str) -> str:
        return f"{self.definition} {task}"

    def run(self, model: ModelSpec, task: str, settings: TaskSettings, progress: Any = None) -> Ran:
        self.asked.append(task)
        return Ran(self.answers[task], [{"doc_id": 0, "logprob": float("-inf")}], {"num_fewshot": 0}, **self.rest)


def run(
    harness: Scripted, tasks: list[Planned], folder: Path, name: str = "base", model: str = "m", **settings: Any
) -> list[stage.Done]:
    spec = ModelSpec(path=model)
    context = Context(open=lambda role, spec: None)
    options = TaskSettings(**settings)
    return stage.run_tasks(tasks, spec, name, options, harness, folder, context, lambda spec: f"hash of {spec.path}")


SPANISH, GERMAN = Planned("arc_es", "arc", "es"), Planned("arc_de", "arc", "de")
ARC = {"arc_es": {"acc_norm": {"7": 1.0, "8": 0.0}}, "arc_de": {"acc_norm": {"7": 1.0, "8": 1.0}}}


def test_one_name_means_the_tasks_of_every_language() -> None:
    found = stage.plan(["multilingual"], ["en", "es"], NAMES)
    assert [planned.task for planned in found.tasks if planned.lang == "es"] == (
        ["arc_es", "hellaswag_es", "m_mmlu_es", "truthfulqa_es_mc1", "truthfulqa_es_mc2", "mgsm_native_cot_es"]
    )
    # English is the original wherever a translated set names it otherwise.
    assert [planned.task for planned in found.tasks if planned.lang == "en"] == (
        ["arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2", "mgsm_native_cot_en"]
    )
    assert found.absent == ()


def test_a_family_of_a_group_that_lacks_a_language_is_left_out_and_said() -> None:
    found = stage.plan(["multilingual"], ["zh"], NAMES)
    assert [planned.task for planned in found.tasks] == ["arc_zh", "m_mmlu_zh"]
    assert "there is no hellaswag in zh, so multilingual goes without it there" in found.absent
    assert len(found.absent) == 4


def test_a_task_that_is_asked_twice_is_put_once() -> None:
    found = stage.plan(["truthfulqa", "truthfulqa_mc1"], ["es"], NAMES)
    assert [planned.task for planned in found.tasks] == ["truthfulqa_es_mc1", "truthfulqa_es_mc2"]


def test_names_of_the_users_own_and_other_codes_of_a_language() -> None:
    assert stage.plan(["belebele"], ["de"], NAMES).tasks == (Planned("belebele_deu_Latn", "belebele", "de"),)
    assert stage.plan(["arc"], ["zh-Hans"], NAMES).tasks == (Planned("arc_zh", "arc", "zh-Hans"),)
    assert stage.plan(["mgsm_direct"], ["es"], NAMES).tasks == (Planned("mgsm_direct_es", "mgsm_direct", "es"),)
    assert stage.plan(["gsm8k:eng_Latn"], [], NAMES) == Plan((Planned("gsm8k", "gsm8k", "en"),))


@pytest.mark.parametrize(
    ("asked", "tags", "message"),
    [
        ("arc", ["fr"], "there is no arc in fr; there is de, en, es, zh"),
        ("belebele", ["zh"], "there is no belebele in zh; there is de, zh-Hans, zh-Hant"),
        ("arcc", ["es"], "did you mean arc?"),
        ("gsm8k", ["en"], "give its language, as gsm8k:en"),
        ("gsm8l:en", [], "did you mean gsm8k?"),
        ("arc", [], "--tasks arc needs languages"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(asked: str, tags: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        stage.plan([asked], tags, NAMES)
    assert message in str(error.value)


def test_a_task_that_is_done_is_not_put_again(tmp_path: Path) -> None:
    harness = Scripted(ARC)
    assert isinstance(harness, Harness)
    first = run(harness, [SPANISH], tmp_path)
    assert run(harness, [SPANISH, GERMAN], tmp_path, batch_size=1)[0] == first[0]  # batches are no part of an outcome
    assert harness.asked == ["arc_es", "arc_de"]
    run(harness, [SPANISH], tmp_path, limit=1)
    assert harness.asked == ["arc_es", "arc_de", "arc_es"]
    harness.definition = "second"
    run(harness, [SPANISH], tmp_path, limit=1)
    assert harness.asked[3:] == ["arc_es"]
    [sample] = (tmp_path / "tasks" / "base" / "arc_es.samples.jsonl").read_text().splitlines()
    assert json.loads(sample) == {"doc_id": 0, "logprob": "-inf"}


def test_two_models_do_not_mix_under_one_name(tmp_path: Path) -> None:
    harness = Scripted(ARC)
    run(harness, [SPANISH], tmp_path)
    with pytest.raises(InputError, match="holds tasks of another model"):
        run(harness, [GERMAN], tmp_path, model="other")
    run(harness, [GERMAN], tmp_path, name="a/b", model="other")
    assert {name: [one.task for one in done] for name, done in stage.kept(tmp_path).items()} == {
        "a/b": ["arc_de"],
        "base": ["arc_es"],
    }
    with pytest.raises(RecipeError, match="cannot be called"):
        run(harness, [GERMAN], tmp_path, name="..")


def test_a_kept_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run(Scripted(ARC), [SPANISH], tmp_path)
    (tmp_path / "tasks" / "base" / "arc_es.json").write_text('{"task": "arc_es"}')
    with pytest.raises(InputError, match=r"arc_es\.json is no kept task"):
        stage.kept(tmp_path)


def test_what_the_harness_remarks_reaches_the_user(tmp_path: Path) -> None:
    said: list[str] = []
    context = Context(open=lambda role, spec: None, warn=said.append)
    harness = Scripted(ARC, remarks=["arc_es: cut"], left_out={"f1": 0.5})
    [done] = stage.run_tasks(
        [SPANISH], ModelSpec(path="m"), "base", TaskSettings(), harness, tmp_path, context, lambda spec: "hash"
    )
    assert said == ["arc_es: cut"]
    assert done.left_out == {"f1": 0.5}


def test_figures_join_a_models_own_with_their_error_and_n(tmp_path: Path) -> None:
    """arc_es: 1 and 0, mean 1/2, s = √½, s/√2 = 1/2. The mean over es and de, by item: 1 and 1/2, so 3/4 and
    √(2·(2·(1/8)²)) = 1/4."""
    done = run(Scripted(ARC), [SPANISH, GERMAN], tmp_path)
    before = {"results": {"base": {"es": {"quality": 0.3}}, "other": {"es": {"quality": 0.4}}}, "seed": 7}
    found = stage.merged(before, "base", "who", done)
    assert found["results"]["base"]["es"] == {
        "quality": 0.3,
        "arc_acc_norm": 0.5,
        "arc_acc_norm_stderr": pytest.approx(0.5),
        "arc_acc_norm_n": 2,
    }
    assert found["results"]["other"] == {"es": {"quality": 0.4}}
    assert found["seed"] == 7
    assert found["standard_tasks"]["base"]["arc_es"]["settings"]["limit"] is None
    assert before["results"]["base"] == {"es": {"quality": 0.3}}
    mean = stage.evaluation_of(done).mean("arc_acc_norm")
    assert (mean.value, mean.stderr, mean.n) == (0.75, pytest.approx(0.25), 2)


def test_figures_take_the_place_of_former_ones(tmp_path: Path) -> None:
    done = run(Scripted(ARC), [SPANISH, GERMAN], tmp_path)
    table = {"from": "base", "to": "aligned"}
    found = stage.merged({"results": {}, "alignment_tax": [table, {"from": "a", "to": "b"}]}, "base", "who", done)
    assert found["alignment_tax"] == [{"from": "a", "to": "b"}]
    again = stage.merged(found, "base", "who", done[1:])
    assert again["results"]["base"] == {
        "es": {},
        "de": {"arc_acc_norm": 1.0, "arc_acc_norm_stderr": 0.0, "arc_acc_norm_n": 2},
    }
    assert list(again["standard_tasks"]["base"]) == ["arc_de"]


def test_results_that_are_made_anew_keep_the_tasks_of_the_same_models(tmp_path: Path) -> None:
    done = run(Scripted(ARC), [SPANISH], tmp_path)
    former: dict[str, Any] = {"results": {"base": {"es": {"quality": 0.3, "old": 1.0}}}}
    for name in ("base", "aligned", "foreign"):
        former = stage.merged(former, name, f"hash of {name}", done)
    former["alignment_tax"] = [{"from": "foreign", "to": "base"}, {"from": "base", "to": "aligned"}]
    anew = {"base": {"es": {"quality": 0.5}}, "aligned": {}}
    found = stage.carried(former, anew, {"base": "hash of base", "aligned": "hash of another"})
    figures = {"arc_acc_norm": 0.5, "arc_acc_norm_stderr": pytest.approx(0.5), "arc_acc_norm_n": 2}
    assert found["results"] == {"base": {"es": {"quality": 0.5, **figures}}, "aligned": {}, "foreign": {"es": figures}}
    assert list(found["standard_tasks"]) == ["base", "foreign"]
    assert found["alignment_tax"] == [{"from": "foreign", "to": "base"}]
    assert anew["base"] == {"es": {"quality": 0.5}}
    nothing = {"results": anew, "standard_tasks": None, "alignment_tax": None}
    assert stage.carried({"results": {}}, anew, {}) == nothing


def test_truthfulqa_counts_its_two_measures_by_the_same_items(tmp_path: Path) -> None:
    tasks = [Planned(f"truthfulqa_es_{mc}", f"truthfulqa_{mc}", "es") for mc in ("mc1", "mc2")]
    harness = Scripted({task.task: {"acc": {"0": 1.0}} for task in tasks})
    values = stage.evaluation_of(run(harness, tasks, tmp_path)).values
    assert values == {
        "truthfulqa_mc1_acc": {"es": {"truthfulqa/0": 1.0}},
        "truthfulqa_mc2_acc": {"es": {"truthfulqa/0": 1.0}},
    }


def test_the_headline_metric_is_the_papers_own(tmp_path: Path) -> None:
    answers = {"arc_es": {"acc": {"0": 0.0}, "acc_norm": {"0": 1.0}}, "mine_es": {"f1": {"0": 1.0}, "em": {"0": 1.0}}}
    done = run(Scripted(answers), [SPANISH, Planned("mine_es", "mine", "es")], tmp_path)
    assert stage.headline(done) == ["arc_acc_norm", "mine_f1", "mine_em"]


def test_metric_names_do_not_read_as_errors_or_counts() -> None:
    assert stage.metric_name("mgsm", "exact_match,flexible-extract") == "mgsm_exact_match_flexible_extract"
    assert stage.metric_name("mine", "top_n") == "mine_top_n_category"
