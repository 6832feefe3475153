"""Do bag-of-words reward models carry over to other languages, on real answers?

    python benchmarks/reward_transfer_real.py [DATA] [--test-share 0.4] [--seed 0] [--resamples 1000]

DATA (or the environment's POLYPREF_DATA) is a folder with

    prompts/x_alpacaeval/<language>.json                              id, instruction
    responses/x_alpacaeval/<model>/<language>.jsonl                   id, response
    hh_rlhf/harmless_base_test.jsonl.gz                               chosen, rejected (transcripts)

Preference pairs in five languages are made of two models' answers to the same 805 prompts, the stronger model's chosen:
a proxy, since nobody compared the answers. Pairs with an answer in another language than its prompt's are left out, so
that the models do not learn to tell languages. A linear Bradley–Terry model on words and letters is trained for each
language and judged in all of them on held-out prompts, beside a length rule (direction and threshold fitted on the same
training pairs). The human preferences of hh-rlhf are split by prompt in the same way; all models are judged on them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from polypref import registry
from polypref.backends.base import Context
from polypref.records import Candidate, Example, Pair
from polypref.stages.judge_rewards import Judgement, JudgeOptions, figures, judge
from polypref.stages.preference_data import split
from polypref.stages.prompts import PromptOptions, read_prompts
from polypref.stages.reward_baselines import fit_baselines
from polypref.stages.reward_matrix import matrix
from polypref.stages.score import ScorerOptions, by_scorer
from polypref.stages.train_reward import TrainRewardOptions, train_reward, trained_reward

LANGUAGES = ("en", "es", "de", "fr", "ru")
CHOSEN, REJECTED = "gpt-4-turbo-2024-04-09", "gpt-3.5-turbo-0125"


def model_pairs(data: Path, context: Context) -> list[Example]:
    """One example a prompt, with a pair in each language whose two answers differ and are in that language."""
    prompts: dict[int, dict[str, str]] = {}
    answers: dict[tuple[int, str], dict[str, str]] = {}
    for lang in LANGUAGES:
        for row in json.loads((data / f"prompts/x_alpacaeval/{lang}.json").read_text(encoding="utf-8")):
            prompts.setdefault(row["id"], {})[lang] = row["instruction"]
        for model in (CHOSEN, REJECTED):
            path = data / f"responses/x_alpacaeval/{model}/{lang}.jsonl"
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                answers.setdefault((row["id"], lang), {})[model] = row["response"]
    identifier = context.open("language_identifier", None)
    cells = list(answers)
    texts = [answers[cell][model] for cell in cells for model in (CHOSEN, REJECTED)]
    found = identifier.identify([text[:1000] for text in texts])
    other = dict.fromkeys(LANGUAGES, 0)
    pairs: dict[int, list[tuple[str, str, str]]] = {}
    for place, (number, lang) in enumerate(cells):
        chosen, rejected = texts[2 * place : 2 * place + 2]
        if any(f.tag not in (lang, None) for f in found[2 * place : 2 * place + 2]):
            other[lang] += 1
        elif chosen != rejected:
            pairs.setdefault(number, []).append((lang, chosen, rejected))
    print("pairs left out, an answer in another language:", ", ".join(f"{k} {v}" for k, v in other.items()))
    return [_example(f"x-alpacaeval-{number}", prompts[number], found) for number, found in pairs.items()]


def _example(name: str, prompts: Mapping[str, str], pairs: Sequence[tuple[str, str, str]]) -> Example:
    candidates, given = [], []
    for lang, *texts in pairs:
        ids = [f"{lang}/{model}" for model in (CHOSEN, REJECTED)]
        candidates += [Candidate(i, lang, text, origin="reference") for i, text in zip(ids, texts, strict=True)]
        given.append(Pair(lang, *ids, rule="given"))
    asked = {lang: [{"role": "user", "content": text}] for lang, text in prompts.items()}
    return Example(name, asked, candidates=candidates, pairs=given)


def human_pairs(data: Path, context: Context) -> list[Example]:
    options = PromptOptions(path=str(data / "hh_rlhf/harmless_base_test.jsonl.gz"), shape="hh", languages=("en",))
    examples, summary = read_prompts(options, context)
    print(f"hh-rlhf: {summary.pairs} pairs")
    return [example for example in examples if example.pairs]


def in_language(examples: Sequence[Example], lang: str) -> list[Example]:
    """The examples with a pair in a language, that pair alone."""
    own = [replace(e, pairs=[p for p in e.pairs if p.lang == lang]) for e in examples]
    return [e for e in own if e.pairs]


def judged(
    name: str, folder: Path, options: TrainRewardOptions, examples: Sequence[Example], context: Context
) -> Judgement:
    spec = trained_reward(options, folder)
    scorer = ScorerOptions(**spec.model_dump(), name=name)
    return judge(by_scorer(examples, scorer, context), JudgeOptions(score=name))


def row(name: str, cells: Mapping[str, Mapping[str, float]], metric: str = "accuracy") -> str:
    shown = []
    for cell in cells.values():
        low, high = (cell.get(f"{metric}_{end}") for end in ("low", "high"))
        interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
        shown.append(f"{100 * cell[metric]:.1f}{interval}")
    return f"| {name} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("POLYPREF_DATA"))
    parser.add_argument("--test-share", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    if asked.data is None or not Path(asked.data).is_dir():
        parser.error("name the folder of the data, or set POLYPREF_DATA to it; --help tells what it holds")
    context, _ = registry.context(languages=LANGUAGES, warn=lambda message: print(message, file=sys.stderr))
    training, test = split(model_pairs(Path(asked.data), context), asked.test_share, asked.seed)
    hh_training, hh_test = split(human_pairs(Path(asked.data), context), asked.test_share, asked.seed)

    sources = {f"rm-{lang}": (lang, in_language(training, lang)) for lang in LANGUAGES} | {"rm-hh": ("en", hh_training)}
    on_models: dict[str, Judgement] = {}
    on_people: dict[str, Judgement] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, (lang, examples) in sources.items():
            options = TrainRewardOptions(method="bag_of_words", languages=(lang,), seed=asked.seed)
            folder = Path(place) / name
            folder.mkdir()
            train_reward(examples, [], options, context, folder)
            on_models[name] = judged(name, folder, options, test, context)
            on_people[name] = judged(name, folder, options, hh_test, context)

    fitted = {"models": fit_baselines(training), "people": fit_baselines(hh_training)}
    by_model = {name: figures(found, baselines=fitted["models"]) for name, found in on_models.items()}
    by_people = {name: figures(found, baselines=fitted["people"])["en"] for name, found in on_people.items()}
    print("pairs:", ", ".join(f"{name} {len(examples)}" for name, (_, examples) in sources.items()), "in training;")
    counts = {lang: len(in_language(test, lang)) for lang in LANGUAGES}
    print("      ", ", ".join(f"{k} {v}" for k, v in counts.items()), f"and hh {len(hh_test)} in the test")
    print(f"| accuracy, % | {' | '.join(LANGUAGES)} | hh-rlhf (en) |")
    print(f"|---|{'---|' * (len(LANGUAGES) + 1)}")
    for name in sources:
        print(row(name, {lang: by_model[name][lang] for lang in LANGUAGES} | {"hh": by_people[name]}))
    baseline = {lang: by_model["rm-en"][lang] for lang in LANGUAGES} | {"hh": by_people["rm-hh"]}
    print(row("length", baseline, "length_baseline"))
    own = {name: found for name, found in on_models.items() if name != "rm-hh"}
    transfer = matrix(own, {name: (sources[name][0],) for name in own}, asked.seed, asked.resamples).to_json()
    for mean in ("diagonal_mean", "off_diagonal_mean"):
        value = transfer[mean]
        print(f"{mean}: {100 * value['value']:.1f} ± {100 * value['stderr']:.1f}")
    for lang, best in transfer["best"].items():
        share = best["share_best"][best["source"]]
        print(f"best for {lang}: {best['source']}, in {100 * share:.0f}% of {asked.resamples} resamples of the prompts")


if __name__ == "__main__":
    main()
