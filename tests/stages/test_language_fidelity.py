"""Language fidelity: the benchmark's rates on answers whose language is known, and on real ones."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref import registry
from polypref.backends.base import Context, Identified
from polypref.errors import InputError
from polypref.records import Candidate, Example, parse_example
from polypref.stages import language_fidelity as stage
from polypref.stages.language_fidelity import (
    LanguageFidelityOptions,
    figures,
    harmonic,
    language_fidelity,
    rates,
    wanted_languages,
)

RU = "ого угу ага эге ыгы"
EN = "one two three four five"
ES = "uno dos tres cuatro cinco"
UNTOLD = "?? ?? zzz zzz zzz zzz zzz"
ENGLISH_WORD = "ого угу ага basically эге"


class FirstWord:
    """Tells the language of a text by its lines' first words: of most lines, the first among equals."""

    fingerprint = "first-word"
    WORDS: ClassVar = {"ого": "ru", "one": "en", "uno": "es", "??": None}

    def identify(self, texts: Sequence[str]) -> list[Identified]:
        return [Identified(self._tag(text), 1.0, "fake") for text in texts]

    def _tag(self, text: str) -> str | None:
        tags = [self.WORDS.get(line.split()[0]) for line in text.splitlines() if line.split()]
        return max(tags, key=tags.count) if tags else None


CONTEXT = Context(open=lambda role, spec: FirstWord())


def example(name: str, lang: str, *texts: str, prompt: str = "?", **rest: Any) -> Example:
    candidates = [{"id": str(i), "lang": lang, "text": text} for i, text in enumerate(texts)]
    return parse_example({"id": name, "prompts": {lang: prompt}, "candidates": candidates, **rest})


def found(*examples: Example, **options: Any) -> dict[str, dict[str, float]]:
    """Metric → prompt → value, of one language."""
    values = figures(examples, LanguageFidelityOptions(**options), CONTEXT).values
    return {metric: next(iter(by.values())) for metric, by in values.items()}


def test_an_answer_passes_by_lines_where_each_is_in_the_wanted_language_and_by_words_without_english() -> None:
    """L = 3 of 4, W = 2 of those 3, so F = 2 · ¾ · ⅔ / (¾ + ⅔) = 12/17."""
    told = found(
        example("all", "ru", f"{RU}\n{RU}"),
        example("none", "ru", f"{RU}\n{EN}"),
        example("word", "ru", f"{RU}\n{ENGLISH_WORD}"),
        example("short", "ru", f"{RU}\none two three four"),
        example("untold", "ru", f"{UNTOLD}\none two"),
    )
    assert told["line_pass_rate"] == {"all": 1, "none": 0, "word": 1, "short": 1}
    assert told["word_pass_rate"] == {"all": 1, "word": 0, "short": 1}
    assert math.fsum(told["language_confusion_pass_rate"].values()) / 4 == pytest.approx(12 / 17)
    assert told["code_switching"] == {"all": 0, "none": 1, "word": 1, "short": 0}
    assert told["no_judged_line"] == {"all": 0, "none": 0, "word": 0, "short": 0, "untold": 1}


def test_a_line_that_cannot_be_told_says_nothing_or_fails_as_in_the_benchmark() -> None:
    answers = [example("both", "ru", f"{RU}\n{UNTOLD}"), example("untold", "ru", UNTOLD)]
    assert found(*answers)["line_pass_rate"] == {"both": 1}
    strict = found(*answers, undetermined="fail")
    assert strict["line_pass_rate"] == {"both": 0, "untold": 0}
    assert strict["no_judged_line"] == {"both": 0, "untold": 0}
    assert "untold" not in strict["code_switching"]


def test_words_are_not_judged_in_latin_script() -> None:
    told = found(example("1", "es", f"{ES} basically"))
    assert told["line_pass_rate"] == {"1": 1}
    assert told["code_switching"] == {"1": 0}
    assert "word_pass_rate" not in told
    assert "language_confusion_pass_rate" not in told


def test_several_answers_to_a_prompt_are_one_value() -> None:
    told = found(example("1", "ru", RU, EN, ENGLISH_WORD, RU))
    assert told["line_pass_rate"] == {"1": 0.75}
    assert told["word_pass_rate"] == {"1": pytest.approx(2 / 3)}
    assert told["answered_in_ru"] == {"1": 0.75}
    assert told["answered_in_en"] == {"1": 0.25}


def test_the_matrix_counts_answers_and_every_prompt_has_a_share_of_every_language_of_its_row() -> None:
    answers = [example("1", "ru", RU), example("2", "ru", EN), example("3", "ru", UNTOLD), example("4", "es", ES)]
    result = language_fidelity(answers, LanguageFidelityOptions(), CONTEXT)
    assert result.matrix["monolingual"] == {"ru": {"ru": 1, "en": 1, "und": 1}, "es": {"es": 1}}
    assert result.matrix["crosslingual"] == {}
    values = result.evaluation.values
    assert values["answered_in_en"] == {"ru": {"1": 0, "2": 1, "3": 0}}
    shares = [
        figure[m]
        for figure in [result.evaluation.figures()["ru"]]
        for m in figure
        if re.fullmatch("answered_in_[a-z]+", m)
    ]
    assert math.fsum(shares) == pytest.approx(1)
    assert not any(metric.startswith("answered_in") for metric in rates(result.evaluation))


def test_an_answer_wanted_in_another_language_than_its_prompts_is_crosslingual() -> None:
    """By the answer's own field, else its example's, else the option."""
    one = example("1", "en", RU, EN, answer_language="Russian")
    two = example("2", "en", ES)
    two.candidates[0].extra["answer_language"] = "es"
    three = example("3", "en", EN)
    result = language_fidelity([one, two, three], LanguageFidelityOptions(answer_in_key="answer_language"), CONTEXT)
    assert result.matrix == {
        "monolingual": {"en": {"en": 1}},
        "crosslingual": {"ru": {"ru": 1, "en": 1}, "es": {"es": 1}},
    }
    values = result.evaluation.values
    assert values["crosslingual_line_pass_rate"] == {"ru": {"1": 0.5}, "es": {"2": 1.0}}
    assert values["crosslingual_word_pass_rate"] == {"ru": {"1": 1.0}}
    assert values["line_pass_rate"] == {"en": {"3": 1.0}}
    everything = LanguageFidelityOptions(answer_in="es")
    assert language_fidelity([one, two, three], everything, CONTEXT).matrix["crosslingual"] == {
        "es": {"en": 2, "ru": 1, "es": 1}
    }
    assert wanted_languages([one, two], LanguageFidelityOptions(answer_in_key="answer_language")) == ["en", "ru", "es"]


def test_answers_to_prompts_that_ask_for_another_language_are_left_out_and_counted() -> None:
    asks = example("asks", "en", ES, prompt="Translate this into Spanish: one")
    plain = example("plain", "en", EN, prompt="Name a river")
    told = found(asks, plain)
    assert told["asks_other_language"] == {"asks": 1, "plain": 0}
    assert told["line_pass_rate"] == {"plain": 1}
    kept = found(asks, plain, leave_out_asking=False)
    assert kept["line_pass_rate"] == {"asks": 0, "plain": 1}
    assert "asks_other_language" not in kept
    # Where the wanted language is said, nothing has to be guessed.
    assert found(asks, answer_in="es")["crosslingual_line_pass_rate"] == {"asks": 1}


def test_only_the_answers_that_are_asked_for_count() -> None:
    answers = example("1", "ru", RU, EN, EN, EN)
    for candidate, changes in zip(
        answers.candidates[1:], ({"model": "other"}, {"origin": "translated"}, {"error": "late"}), strict=True
    ):
        for name, value in changes.items():
            setattr(candidate, name, value)
    answers.candidates[0].model = "mine"
    assert found(answers, model="mine")["line_pass_rate"] == {"1": 1}


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="'1' comes a second time"):
        found(example("1", "ru", RU), example("1", "ru", RU))
    with pytest.raises(InputError, match="wanted of example '1' is 7; write the language"):
        found(example("1", "ru", RU, wanted=7), answer_in_key="wanted")
    apart = Context(open=lambda role, spec: FirstWord(), languages=("ru", "es"))
    with pytest.raises(
        InputError, match=r"wanted in de, which is none of the languages that are told apart \(ru, es, en\)"
    ):
        figures([example("1", "ru", RU)], LanguageFidelityOptions(answer_in="de"), apart)


def test_the_figures_are_what_they_were_under_this_version() -> None:
    """A change of these figures must raise VERSION, so that stored ones are made again.

    F has no W: 2 · ½ · 1 / (½ + 1) = ⅔; ∂F/∂L = 2 (1/1.5)² = 8/9, so the values are ⅔ ± 4/9."""
    values = figures(
        [example("p", "ru", f"{RU}\nага"), example("q", "ru", EN)], LanguageFidelityOptions(), CONTEXT
    ).values
    both = values.pop("language_confusion_pass_rate")
    assert both == {"ru": {"p": pytest.approx(10 / 9), "q": pytest.approx(2 / 9)}}
    assert (stage.VERSION, values) == (
        1,
        {
            "asks_other_language": {"ru": {"p": 0.0, "q": 0.0}},
            "line_pass_rate": {"ru": {"p": 1.0, "q": 0.0}},
            "word_pass_rate": {"ru": {"p": 1.0}},
            "code_switching": {"ru": {"p": 0.0, "q": 0.0}},
            "no_judged_line": {"ru": {"p": 0.0, "q": 0.0}},
            "answered_in_ru": {"ru": {"p": 1.0, "q": 0.0}},
            "answered_in_en": {"ru": {"p": 0.0, "q": 1.0}},
        },
    )


# --- the rates by their definition -----------------------------------------------------------------------------------

LINES = {RU: "ru", EN: "en", ES: "es", ENGLISH_WORD: "ru", "ого угу": "short", f"{RU} {RU}": "ru"}
answers_ru = st.lists(st.lists(st.sampled_from(list(LINES)), min_size=1, max_size=4), min_size=1, max_size=12)


@given(answers_ru)
def test_the_rates_are_the_benchmarks_counts(answers: list[list[str]]) -> None:
    """By its definition: responses with a line of five words; those where all these are right; of these, those without
    an English word."""
    told = found(*(example(str(i), "ru", "\n".join(lines)) for i, lines in enumerate(answers)))
    judged = [kept for lines in answers if (kept := [line for line in lines if LINES[line] != "short"])]
    passed = [lines for lines in judged if all(LINES[line] == "ru" for line in lines)]
    clean = [lines for lines in passed if ENGLISH_WORD not in lines]
    assert len(told.get("line_pass_rate", {})) == len(judged)
    if judged:
        assert math.fsum(told["line_pass_rate"].values()) == len(passed)
    if passed:
        assert list(told["word_pass_rate"].values()).count(1.0) == len(clean)
        line, word = len(passed) / len(judged), len(clean) / len(passed)
        both = math.fsum(told["language_confusion_pass_rate"].values()) / len(judged)
        assert both == pytest.approx(2 * line * word / (line + word), abs=1e-12)


def test_the_harmonic_mean_has_the_error_of_the_jackknife() -> None:
    """Of 400 prompts the delta method and the jackknife of F = 2LW/(L + W) agree to a percent."""
    noise = random.Random(0)
    lines = {str(i): float(noise.random() < 0.8) for i in range(400)}
    words = {prompt: float(noise.random() < 0.9) for prompt, passed in lines.items() if passed}

    def both(without: str | None = None) -> float:
        line = np.mean([v for p, v in lines.items() if p != without])
        word = np.mean([v for p, v in words.items() if p != without])
        return float(2 * line * word / (line + word))

    left = np.array([both(prompt) for prompt in lines])
    jackknife = math.sqrt(399 / 400 * ((left - left.mean()) ** 2).sum())
    values = np.array(list(harmonic(lines, words).values()))
    assert values.mean() == pytest.approx(both(), abs=1e-12)
    assert values.std(ddof=1) / 20 == pytest.approx(jackknife, rel=0.01)


# --- real answers ----------------------------------------------------------------------------------------------------

GERMAN = "der die das und ist nicht ein eine zu mit von den für auf dem sie es ich"
ENGLISH = "the and of to is that with for are this you was be have not"


def test_english_lines_of_real_german_answers_are_found(real_data: Path) -> None:
    """Lines of at least twelve words that plainly are English or German by their function words, in 805 answers."""
    file = real_data / "responses/x_alpacaeval/gpt-3.5-turbo-0125/de.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    examples = [Example(str(r["id"]), {}, [Candidate("0", "de", line)]) for r in rows for line in [r["response"]]]
    context, opener = registry.context(("de", "en"))
    try:
        result = language_fidelity(examples, LanguageFidelityOptions(), context)
    finally:
        opener.close()
    passes = result.evaluation.values["line_pass_rate"]["de"]
    english = german = caught = failed = 0
    for row in rows:
        words = re.findall(
            r"\w+", re.sub(r"```.*?(```|\Z)|[\"“„«].*?[\"”“»]", " ", row["response"], flags=re.DOTALL).lower()
        )
        own, other = (sum(word in known.split() for word in words) for known in (GERMAN, ENGLISH))
        if str(row["id"]) in passes and len(words) >= 12:
            english += other >= 5 * max(own, 1)
            caught += other >= 5 * max(own, 1) and passes[str(row["id"])] == 0
            german += own >= 5 and other == 0
            failed += own >= 5 and other == 0 and passes[str(row["id"])] == 0
    assert english >= 15
    assert caught >= 0.95 * english
    assert german > 400
    assert failed <= 0.005 * german
