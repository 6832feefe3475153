"""Judging by servers that fail, by processes that are killed: every comparison is judged once, or its reason is kept.

The servers are processes of their own (``judge_server``, ``transformers serve``), and count what they are asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from judge_server import FAULTS, digest, fate
from polypref import registry
from polypref.backends.base import Context, ModelSpec, ScorerSpec
from polypref.backends.judge import PairJudge
from polypref.backends.judging import PairSettings
from polypref.backends.openai import OpenAIGenerator, Waits
from polypref.errors import ModelError
from polypref.stages.judge_matches import JudgeOptions, JudgeRun, judge_matches, named, question
from polypref.stages.judge_plan import plan
from polypref.stages.judgments import Judgment
from polypref.stages.matches import Match
from polypref.store.journal import Journal
from servers import alphabet_model, scripted_judge, transformers_serving

pytestmark = pytest.mark.timeout(240)

REASONS = {
    "429": "server answered 429 after 3 tries",
    "500": "server answered 500 after 3 tries",
    "cut": "the connection broke off after 3 tries",
    "hung up": "the connection broke off after 3 tries",
    "slow": "no answer within 3 s after 3 tries",
    "no JSON": "the server's answer is not JSON after 3 tries",
    "no completion": "the server's answer is no chat completion after 3 tries",
    "no verdict": "no verdict on the last line",
    "nothing": "the judge said nothing",
}
"""What a judgment says of a fault that comes at every try."""


def met(count: int) -> list[Match]:
    """Every third model answer is right, every fifth of the baseline's; every 50th pair is the same text."""
    matches = []
    for k in range(count):
        mine = f"{'right' if k % 3 == 0 else 'wrong'} {k}, as far as I know"
        its = mine if k % 50 == 0 else f"{'right' if k % 5 == 0 else 'wrong'} {k}, I am sure"
        asked = [{"role": "user", "content": f"Question {k}?"}]
        matches.append(Match(f"q{k}", ("en", "es")[k % 2], asked, "ours", "theirs", mine, its))
    return matches


def options(url: str, **rest: Any) -> JudgeOptions:
    model = ModelSpec(path="judge", backend="openai", url=url, concurrency=64, timeout=3.0, attempts=3, **rest)
    spec = ScorerSpec(scorer="pair_judge", model=model, settings={"read": "verdict"})
    return JudgeOptions(name="scripted", judge=spec)


def impatient(role: str, spec: ScorerSpec) -> PairJudge:
    """The judge of a spec, whose client waits a little between two tries."""
    assert spec.model is not None
    waits = Waits(first=0.01, longest=0.05, jitter=0.01, longest_asked=0.05)
    return PairJudge(OpenAIGenerator(spec.model, waits), PairSettings.model_validate(spec.settings))


def judged(url: str, journal: Path, matches: list[Match]) -> tuple[list[Judgment], JudgeRun]:
    with Journal(journal) as recall:
        run = judge_matches(matches, options(url), Context(open=impatient), recall)
        return list(run), run


def texts(matches: list[Match], judge: PairJudge) -> list[str]:
    """What the judge asks, a text a request."""
    asked = [comparison for told in named(matches) if (comparison := question(*told)) is not None]
    return [str(request.messages[-1]["content"]) for comparison in asked for request in judge.requests(comparison)]


def expected(match: Match, name: str, judge: PairJudge) -> tuple[float | None, str | None]:
    """The preference and the reasons that the server's rule and the faults' script give."""
    comparison = question(match, name)
    if comparison is None:
        return 0.5, None
    mine, its = ("right" in text for text in (comparison.first, comparison.second))
    fates = [fate(str(request.messages[-1]["content"])) for request in judge.requests(comparison)]
    reasons = [REASONS[fault] if stubborn and fault else None for fault, stubborn in fates]
    told = [reasons[0], None if reasons[1] is None else f"with the answers swapped: {reasons[1]}"]
    return None if None not in reasons else (mine - its + 1) / 2, "; ".join(filter(None, told)) or None


def test_two_thousand_comparisons_at_a_server_that_fails_one_time_in_five(tmp_path: Path) -> None:
    """Every one is judged once or says why not, and a second run asks only for the requests that failed on the way."""
    matches, log = met(2000), tmp_path / "log"
    with scripted_judge(log) as url:
        found, run = judged(url, tmp_path / "journal.jsonl", matches)
        first = Counter(log.read_text().split())
        again, second_run = judged(url, tmp_path / "journal.jsonl", matches)
        second = Counter(log.read_text().split()) - first
    judge = impatient("comparer", options(url).judge)
    assert [(one.id, one.language) for one in found] == [(one.id, one.language) for one in matches]
    assert [(one.preference, one.error) for one in found] == [expected(*told, judge) for told in named(matches)]
    assert (found, [one.said for one in found]) == (again, [one.said for one in again])

    asked = texts(matches, judge)
    fates = {digest(text): fate(text) for text in asked}
    assert {fault for fault, stubborn in fates.values() if stubborn} == set(FAULTS)  # the script has all kinds
    lost = {name for name, (fault, stubborn) in fates.items() if stubborn and fault not in FAULTS[-2:]}
    once = {name for name, (fault, _) in fates.items() if fault in (None, *FAULTS[-2:])}
    assert first == {name: 1 if name in once else 3 if name in lost else 2 for name in fates}
    assert second == dict.fromkeys(lost, 3)
    assert (run.spent.requests, run.spent.recalled) == (len(asked) - len(lost), 0)
    assert (second_run.spent.requests, second_run.spent.recalled) == (0, len(asked) - len(lost))
    assert run.spent.usage.asked == 100 * (len(asked) - len(lost))
    assert run.spent.failed == sum(one.preference is None for one in found)


KILLED = """
import sys
from pathlib import Path
from test_judging_faults import judged, met
judged(sys.argv[1], Path(sys.argv[2]), met(int(sys.argv[3])))
"""
"""A process that judges, to be killed."""


def test_after_a_kill_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    """Killed when a good deal is answered. What the journal holds then is not asked again, and all else is asked."""
    matches, log, journal = met(600), tmp_path / "log", tmp_path / "journal.jsonl"
    with scripted_judge(log) as url:
        command = [sys.executable, "-c", KILLED, url, str(journal), "600"]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
        while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 200):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was not done before
        kept = journal.read_bytes().count(b"\n")
        first = Counter(log.read_text().split())

        with Journal(journal) as recall:
            foreseen = plan(matches, options(url), Context(open=impatient), recall).total
            assert Counter(log.read_text().split()) == first  # a dry run asks nothing
        found, run = judged(url, journal, matches)
        second = Counter(log.read_text().split()) - first
    judge = impatient("comparer", options(url).judge)
    names = {digest(text) for text in texts(matches, judge)}
    assert 200 <= kept < len(names)
    assert (foreseen.recalled, foreseen.requests) == (kept, len(names) - kept)
    assert run.spent.recalled == kept
    assert len(second) == len(names) - kept
    assert names == set(first) | set(second)
    assert [(one.preference, one.error) for one in found] == [expected(*told, judge) for told in named(matches)]


def test_a_server_that_goes_away_stops_the_judging_and_loses_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with scripted_judge(tmp_path / "log") as url:
        judged(url, journal, met(10))
    kept = journal.read_bytes()
    with pytest.raises(ModelError, match="no server answers at"):
        judged(url, journal, met(20))
    assert journal.read_bytes() == kept
    with scripted_judge(tmp_path / "log") as elsewhere:
        found, run = judged(elsewhere, journal, met(20))
    assert len(found) == 20
    assert run.spent.recalled == 0  # another address is another judge


def test_a_real_server_whose_words_hold_no_verdict(tmp_path: Path) -> None:
    """``transformers serve`` tells no log-probabilities, and its model goes on with the alphabet where the prompt ends.
    The transport works: every order is answered, kept, and found to be no verdict."""
    pytest.importorskip("fastapi", reason="transformers serve needs the extra transformers[serving]")
    pytest.importorskip("uvicorn", reason="transformers serve needs the extra transformers[serving]")
    folder, prompt = tmp_path / "alphabet", tmp_path / "prompt.txt"
    alphabet_model(folder)
    prompt.write_text("{conversation}{first}{second} [[A]] [[B]] w", encoding="utf-8")
    matches = [Match("q", "en", [{"role": "user", "content": "q"}], "ours", "theirs", "a", "b")]
    with transformers_serving(folder, tmp_path / "log") as url:
        model = ModelSpec(path=str(folder), backend="openai", url=url, concurrency=2, timeout=60.0, attempts=2)
        settings = {"prompt": str(prompt), "read": "verdict", "max_tokens": 5}
        spec = ScorerSpec(scorer="pair_judge", model=model, settings=settings)
        context, opener = registry.context()
        with Journal(tmp_path / "journal.jsonl") as recall:
            asked = JudgeOptions(name="alphabet", judge=spec)
            run = judge_matches(matches, asked, context, recall)
            [found] = run
            foreseen = plan(matches, asked, context, recall).total
        opener.close()
    why = "no verdict on the last line"
    assert (found.preference, found.error) == (None, f"{why}; with the answers swapped: {why}")
    assert found.said == ("xyz", "xyz")
    assert (run.spent.requests, run.spent.usage.answered, foreseen.recalled) == (2, 2 * 4, 2)
