"""The fakes keep their protocols' promises, depend on nothing but what they say, and are light."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from polypref.backends.base import (
    Answer,
    Generator,
    HiddenStates,
    Judged,
    LanguageIdentifier,
    LogprobModel,
    ModelSpec,
    PreferenceRow,
    Request,
    Sampling,
    Scorer,
    Text,
    silent,
)
from polypref.backends.fake import (
    FakeGenerator,
    FakeHiddenStates,
    FakeLanguageIdentifier,
    FakeLogprobs,
    FakeRewardTrainer,
    FakeScorer,
    FakeTrainer,
)
from polypref.backends.reward_training import PairRow, RewardTrainer, RewardTrainOptions
from polypref.backends.training import Trainer, TrainOptions
from polypref.errors import InputError, ModelError


def fake(path: str = "fake", **fields: object) -> ModelSpec:
    return ModelSpec(path=path, backend="fake", **fields)  # type: ignore[arg-type]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


REQUESTS = [Request(f"1/policy/x-{i}/{lang}", user(f"{lang} {i}")) for i in range(20) for lang in ("en", "es", "ru")]


def test_the_fakes_play_their_roles() -> None:
    assert isinstance(FakeGenerator(fake()), Generator)
    assert isinstance(FakeLogprobs(fake()), LogprobModel)
    assert isinstance(FakeScorer(), Scorer)
    assert isinstance(FakeLanguageIdentifier(), LanguageIdentifier)
    assert isinstance(FakeTrainer(), Trainer)
    assert isinstance(FakeRewardTrainer(), RewardTrainer)
    assert isinstance(FakeHiddenStates(fake()), HiddenStates)


def test_a_fake_is_light() -> None:
    """Smoke runs and stage tests pay for nothing heavy."""
    code = "import sys, polypref.backends.fake; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_same_text_in_every_process() -> None:
    """Fixed here, since the hash of a string differs between Python processes unless one takes care."""
    (sample,), *_ = FakeGenerator(fake("fake?length=0&stray=0")).generate(REQUESTS[:1], Sampling(n=1, seed=7))
    assert sample.text.startswith("[en] ")
    assert sample.text == GOLDEN_TEXT
    (logprob,) = FakeLogprobs(fake()).logprobs([Answer("a", user("hello"), "one two", finished=False)])
    assert (logprob.sum, logprob.tokens) == (GOLDEN_LOGPROB, 2)


GOLDEN_TEXT = "[en] follow to sea to follow home to birds it birds home river sea to it to"
GOLDEN_LOGPROB = -3.6043701171875


def test_samples_depend_on_seed_id_and_number_alone() -> None:
    generator = FakeGenerator(fake())
    together = generator.generate(REQUESTS, Sampling(n=6, seed=1))
    assert [generator.generate([request], Sampling(n=6, seed=1))[0] for request in REQUESTS] == together
    assert [samples[:2] for samples in together] == generator.generate(REQUESTS, Sampling(n=2, seed=1))
    assert generator.generate(REQUESTS[::-1], Sampling(n=6, seed=1)) == together[::-1]
    assert generator.generate(REQUESTS, Sampling(n=6, seed=2)) != together
    assert len({sample.text for samples in together for sample in samples}) > 300


def test_greedy_samples_are_equal() -> None:
    (samples,) = FakeGenerator(fake()).generate(REQUESTS[:1], Sampling(n=3, temperature=0, seed=1))
    assert samples[0] == samples[1] == samples[2]
    assert samples == FakeGenerator(fake()).generate(REQUESTS[:1], Sampling(n=3, temperature=0, seed=2))[0]


def test_shares_are_as_asked() -> None:
    """Of 60 x 20 samples a share p is met within five standard errors: 5·sqrt(.25/1200) = .073."""
    generator = FakeGenerator(fake("fake?errors=0.3&length=0.5&stray=0.5"))
    samples = [
        (request, sample)
        for request, row in zip(REQUESTS, generator.generate(REQUESTS, Sampling(n=20)), strict=True)
        for sample in row
    ]
    alive = [(request, sample) for request, sample in samples if sample.error is None]
    assert 1 - len(alive) / len(samples) == pytest.approx(0.3, abs=0.073)
    assert sum(s.finish_reason == "length" for _, s in alive) / len(alive) == pytest.approx(0.5, abs=0.09)
    found = FakeLanguageIdentifier().identify([s.text for _, s in alive])
    astray = [f.tag != r.id.rpartition("/")[2] for f, (r, _) in zip(found, alive, strict=True)]
    assert sum(astray) / len(alive) == pytest.approx(0.5, abs=0.09)
    for _, sample in samples:
        assert (sample.error is None) == bool(sample.text)
        assert sample.token_ids is None or len(sample.token_ids) == len(sample.text.split())


def test_max_tokens_cuts() -> None:
    """An answer of the fake has three words at least, so that two tokens cut each."""
    for (sample,) in FakeGenerator(fake("fake?length=0")).generate(REQUESTS, Sampling(max_tokens=2)):
        assert len(sample.text.split()) == len(sample.token_ids or ()) == 2
        assert sample.finish_reason == "length"


def test_answers_are_in_the_language_of_the_prompt() -> None:
    generator, identifier = FakeGenerator(fake("fake?stray=0")), FakeLanguageIdentifier(("en", "sw"))
    asked = [Request("a/zh-Hans", user("x")), Request("b", user("[sw] x")), Request("c", user("x"))]
    texts = [sample.text for (sample,) in generator.generate(asked, Sampling())]
    assert [found.tag for found in identifier.identify([*texts, "no marker"])] == ["zh-Hans", "sw", "en", None]


def test_thinking_when_the_template_is_asked_to() -> None:
    thinking = FakeGenerator(fake(chat_template_kwargs={"enable_thinking": True}))
    assert all(sample.thinking for (sample,) in thinking.generate(REQUESTS, Sampling()))
    assert all(sample.thinking is None for (sample,) in FakeGenerator(fake()).generate(REQUESTS, Sampling()))


def test_logprobs_follow_prompt_text_and_model() -> None:
    model = FakeLogprobs(fake())
    answer = Answer("a", user("hello"), "one two three")
    (score,) = model.logprobs([answer])
    assert score.sum < 0
    assert score.tokens == 4
    others = [
        Answer("a", user("hallo"), "one two three"),
        Answer("a", user("hello"), "one two four"),
        Answer("a", user("hello"), "one two three", finished=False),
    ]
    assert len({score.sum, *(other.sum for other in model.logprobs(others))}) == 4
    assert model.logprobs([*others, answer])[-1] == score
    assert FakeLogprobs(fake("fake?version=1")).logprobs([answer]) != [score]
    assert FakeLogprobs(fake("fake?sleep=0.001")).logprobs([answer]) == [score]


def test_a_longer_answer_is_less_likely() -> None:
    model = FakeLogprobs(fake())
    scores = model.logprobs([Answer("a", user("q"), " ".join(["word"] * n), finished=False) for n in range(1, 30)])
    assert all(later.sum < earlier.sum for earlier, later in itertools.pairwise(scores))


def test_scores_are_finite_and_follow_the_text() -> None:
    scorer = FakeScorer(fake())
    scores = scorer.score([Judged("a", "en", user("q"), f"answer {i}") for i in range(50)])
    assert all(0 <= score < 1 for score in scores)
    assert len(set(scores)) == 50


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("fake?eror=1", "did you mean errors"),
        ("fake?errors=lots", "must be a number"),
        ("gpt2", "no fake model"),
    ],
)
def test_a_wrong_path_is_told(path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FakeGenerator(fake(path))


def rows(count: int) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            f"x-{i}", "es", Answer(f"x-{i}/0", user(str(i)), "bueno"), Answer(f"x-{i}/1", user(str(i)), "no tan bueno")
        )
        for i in range(count)
    ]


def test_training_writes_a_model_that_opens(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    options = TrainOptions(method="fake", batch_size=4)
    first = FakeTrainer().train(rows(10), fake("fake?errors=0.5"), options, tmp_path / "a", lambda *s: steps.append(s))
    assert first["rows"] == 10
    assert first["languages"] == {"es": 10}
    assert first["steps"] == len(first["curve"]) == 2
    assert steps == [("train", 1, 2), ("train", 2, 2)]
    trained = FakeGenerator(fake(str(tmp_path / "a")))
    assert trained.options["errors"] == 0.5
    assert trained.fingerprint != FakeGenerator(fake("fake?errors=0.5")).fingerprint


def test_a_checkpoint_is_the_same_to_the_byte_wherever_it_stands(tmp_path: Path) -> None:
    options = TrainOptions(method="fake", max_steps=2)
    for name, count, seed in (("a", 3, 0), ("b", 3, 0), ("rows", 4, 0), ("options", 3, 1)):
        chosen = options.model_copy(update={"seed": seed})
        FakeTrainer().train(rows(count), fake(), chosen, tmp_path / name, silent)
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
    found = {name: FakeLogprobs(fake(str(tmp_path / name))).fingerprint for name in ("a", "b", "rows", "options")}
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3


def test_training_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no preference pair"):
        FakeTrainer().train([], fake(), TrainOptions(method="fake"), tmp_path, silent)


def test_a_real_checkpoint_is_no_fake(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="real model"):
        FakeGenerator(fake(str(tmp_path)))


def test_a_translation_goes_word_by_word_between_tags() -> None:
    """river (place 1) and sea (4) are the words of those places, whatever they are; what it does not know stays."""
    prompt = "What stands between <sentence> tags, to Spanish: <sentence>[en] river, 24 sea!\n```x```</sentence>"
    ask = Request("x/en/0>es/0/es", [{"role": "user", "content": prompt}], prefill="<translated>")
    model = FakeGenerator(fake("fake?unclosed=0"))
    ((found,),) = model.generate([ask], Sampling(temperature=0))
    assert (found.text, found.finish_reason) == ("[es] río, 24 mar!\n```x```</translated>", "stop")
    bare = Request(ask.id, ask.messages)
    ((found,),) = model.generate([bare], Sampling(temperature=0))
    assert found.text.startswith("<translated>[es]")
    ((found,),) = FakeGenerator(fake("fake?unclosed=1")).generate([ask], Sampling(temperature=0))
    assert "</translated>" not in found.text
    assert model.fingerprint != FakeGenerator(fake("fake")).fingerprint


def pairs(count: int) -> list[PairRow]:
    return [PairRow(f"x-{i}", "es", user(f"{i}"), f"good {i}", f"bad {i}") for i in range(count)]


def test_a_fake_reward_model_is_what_it_was_trained_on(tmp_path: Path) -> None:
    """64 rows, 32 a step, twice over: four steps. Other rows or options make another model, another folder none."""
    options = RewardTrainOptions(method="fake", batch_size=32, epochs=2)
    steps: list[tuple[str, int, int | None]] = []
    found = {}
    for name, count, seed in (("a", 64, 0), ("b", 64, 0), ("rows", 65, 0), ("options", 64, 1)):
        chosen = options.model_copy(update={"seed": seed})
        told = FakeRewardTrainer().train(
            pairs(count), pairs(2), None, chosen, tmp_path / name, lambda *step: steps.append(step)
        )
        found[name] = FakeScorer(fake(str(tmp_path / name))).score([Judged("1", "es", user("x"), "y")])
    assert (told["rows"], told["validation_rows"], told["languages"]) == (64, 2, {"es": 64})
    assert told["steps"] == told["selected_step"] == told["validation"][-1]["step"] == len(told["curve"]) == 4
    assert steps[:4] == [("train", step, 4) for step in (1, 2, 3, 4)]
    assert found["a"] == found["b"]
    assert len({*map(tuple, found.values())}) == 3
    with pytest.raises(InputError, match="no row is left"):
        FakeRewardTrainer().train([], [], None, options, tmp_path / "none", silent)


def test_fake_hidden_states_are_the_texts() -> None:
    texts = [Text("1", user("a")), Text("2", user("b")), Text("3", user("a")), Text("4", user("a"), "answer")]
    last, embedded = FakeHiddenStates(fake()).hidden(texts, [-1, 0], "last")
    assert last.shape == embedded.shape == (4, 16)
    assert last.dtype == "float32"
    assert last[0].tolist() == last[2].tolist()
    assert len({tuple(row) for row in last.tolist()}) == 3
    (alone,) = FakeHiddenStates(fake()).hidden(texts[1:2], [4], "last")
    assert alone[0].tolist() == last[1].tolist()
    other, same = FakeHiddenStates(fake("fake?version=1")).hidden(texts, [4, 0], "last")
    assert other.tolist() != last.tolist()
    assert same.tolist() == embedded.tolist()
    assert FakeHiddenStates(fake()).hidden(texts, [4], "mean")[0].tolist() != last.tolist()
