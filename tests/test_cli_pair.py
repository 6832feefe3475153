"""``polypref pair``: what is counted and told, and that examples flow from file to file."""

import io
import json
import os
import threading
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polypref import cli, registry
from polypref.records import dumps, parse_example, to_json
from polypref.stages.pair import BestWorstOptions, fit_best_worst, pair_statistics
from polypref.stages.pair import best_worst as stage
from polypref.store import jsonl


def line(number: int, prompt: str = "Name three rivers.", **changes) -> dict:
    """An example of both answers and both translations."""
    candidates = [
        {"id": name, "lang": lang, "text": f"{name} {number}", "origin": "translated" if parent else "sampled"}
        | ({"parent": parent} if parent else {})
        for name, lang, parent in (("en", "en", None), ("fr", "fr", None), ("en>fr", "fr", "en"), ("fr>en", "en", "fr"))
    ]
    return {"id": f"q-{number}", "prompts": {"en": prompt, "fr": "?"}, "candidates": candidates} | changes


@pytest.fixture
def imbalance(capsys, monkeypatch, tmp_path):
    """``imbalance(lines, …)`` → (exit status, stdout, stderr), with ``tmp_path/out.jsonl`` as the output."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def call(lines, *arguments, output=tmp_path / "out.jsonl", source=tmp_path / "in.jsonl"):
        text = "".join(json.dumps(given) + "\n" for given in lines)
        if source == "-":
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        else:
            source.write_text(text)
        with pytest.raises(SystemExit) as end:
            cli.main(["pair", "imbalance", "--input", str(source), "--output", str(output), *map(str, arguments)])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return call


def chosen(path) -> list[str]:
    return [json.loads(written)["pairs"][0]["chosen"] for written in path.read_text().splitlines()]


def test_the_summary_says_what_was_taken_as_about_translation(imbalance, tmp_path):
    lines = [line(1), line(2, "Translate into German: river"), line(3)]
    (tmp_path / "ids.json").write_text('["q-3"]')
    status, out, err = imbalance(lines, "--json")
    assert (status, json.loads(out), err) == (0, {"pairs": 6, "dropped": 0}, "")
    detect = ("--detect-translation-prompts", "on")
    given = ("--translation-prompts", tmp_path / "ids.json")
    for arguments, told, first in (
        (detect, {"list": 0, "detector": 1}, ["en>fr", "en", "en>fr"]),
        (given, {"list": 1, "detector": 0}, ["en>fr", "en>fr", "en"]),
        ((*detect, *given), {"list": 1, "detector": 1}, ["en>fr", "en", "en"]),
    ):
        status, out, err = imbalance(lines, *arguments, "--json")
        assert (status, json.loads(out)["about_translation"], err) == (0, told, "")
        assert chosen(tmp_path / "out.jsonl") == first


def test_listed_ids_that_are_in_no_example(imbalance, tmp_path):
    (tmp_path / "ids.json").write_text('["q-1", "q-7", "q-8"]')
    status, _, err = imbalance([line(1), line(2)], "--translation-prompts", tmp_path / "ids.json")
    told = "polypref: 2 of 3 ids of ids.json are in no example, e.g. 'q-7', 'q-8'; the others count\n"
    assert (status, err) == (0, told)
    (tmp_path / "ids.json").write_text("[2, 8]")
    (tmp_path / "out.jsonl").write_text("what stood here\n")
    status, _, err = imbalance([line(1), line(2)], "--translation-prompts", tmp_path / "ids.json")
    assert (status, "did you mean 'q-2'? Write the ids as the examples have them" in err) == (2, True)
    assert (tmp_path / "out.jsonl").read_text() == "what stood here\n"


def test_a_pivot_without_a_detector_is_refused(imbalance, tmp_path):
    status, _, err = imbalance([line(1)], "--detect-translation-prompts", "on", "--pivot", "nl")
    assert (status, "not in the pivot nl" in err, (tmp_path / "out.jsonl").exists()) == (2, True, False)
    status, _, err = imbalance([line(1)], "--detect-translation-prompts", "perhaps")
    assert (status, "--detect-translation-prompts is 'perhaps'; say on or off" in err) == (2, True)


def test_a_bad_line_leaves_no_output(imbalance, tmp_path):
    """It is met when others are written already: under a temporary name, which goes."""
    status, _, err = imbalance([line(n) for n in range(2000)] + [{"id": "bad"}])
    assert (status, "in.jsonl:2001: prompts is missing" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_few_examples_are_in_memory_at_a_time(imbalance, monkeypatch):
    """Of 3000 examples never more than two chunks of 512 are read and not yet written."""
    parse, write = jsonl.parse_example, jsonl.to_json
    alive = most = 0

    def parsed(value):
        nonlocal alive, most
        alive, most = alive + 1, max(most, alive + 1)
        return parse(value)

    def written(example):
        nonlocal alive
        alive -= 1
        return write(example)

    monkeypatch.setattr(jsonl, "parse_example", parsed)
    monkeypatch.setattr(jsonl, "to_json", written)
    assert imbalance([line(n) for n in range(3000)])[0] == 0
    assert (alive, most <= 1024) == (0, True)


def test_the_output_may_be_the_input_and_dashes_are_streams(imbalance, tmp_path):
    path = tmp_path / "in.jsonl"
    assert imbalance([line(1)], output=path)[0] == 0
    assert chosen(path) == ["en>fr"]
    status, out, err = imbalance([line(1)], "--json", source="-", output="-")
    assert (status, json.loads(out)["id"], json.loads(err)) == (0, "q-1", {"pairs": 2, "dropped": 0})


def test_the_language_check_knows_the_languages_of_all_examples(imbalance, tmp_path):
    """The first example has no French: read alone, its answers would be identified among English and German."""
    text = "This is plainly a sentence of English words, and nobody would take it for another language."
    first = line(1)
    first["prompts"] = {"en": "?", "de": "?"}
    for candidate in first["candidates"]:
        candidate["lang"] = candidate["lang"].replace("fr", "de")
    second = line(2)
    second["candidates"][1]["text"] = text
    status, _, err = imbalance([first, second], "--language-check", "on")
    assert (status, err) == (0, "")
    dropped = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])["dropped"]
    assert [(drop["reason"], drop["lang"], drop["candidate"]) for drop in dropped] == [
        ("language", "fr", "fr"),
        ("language", "en", "fr"),
    ]


# polypref pair best-worst


@pytest.fixture
def best_worst(capsys, monkeypatch, tmp_path):
    """``best_worst(text, …)`` → (exit status, stdout, stderr) for lines that are scored by ``s``."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def call(text, *arguments, output=tmp_path / "out.jsonl", source=tmp_path / "in.jsonl"):
        if source == "-":
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        elif text is not None:
            source.write_text(text)
        command = ["pair", "best-worst", "--score", "s", "--input", source, "--output", output, *arguments]
        with pytest.raises(SystemExit) as end:
            cli.main(list(map(str, command)))
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return call


CONTROLLED = ("--length-control", "auto", "--language-check", "off", "--json")
answer = st.tuples(st.sampled_from(["en", "es"]), st.integers(0, 4), st.text("ab", max_size=5))


def scored(answers) -> dict:
    candidates = [
        {"id": str(k), "lang": lang, "text": text, "scores": {"s": score}}
        for k, (lang, score, text) in enumerate(answers)
    ]
    return {"prompts": {"en": "?", "es": "?"}, "candidates": candidates}


@given(st.lists(st.lists(answer, max_size=5), min_size=1, max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_a_file_twice_pairs_as_all_examples_at_once(best_worst, tmp_path, drawn):
    """α is fitted in a first look at the file, pairs are made in a second one: the stage does both on a list."""
    lines = [json.dumps({"id": str(number), **scored(answers)}) + "\n" for number, answers in enumerate(drawn)]
    options = BestWorstOptions(score="s", length_control="auto", language_check=False)
    whole = [parse_example(json.loads(line)) for line in lines]
    context, _ = registry.context()
    alphas = fit_best_worst(whole, options, context)
    paired = list(stage(whole, options, context, alphas))
    status, out, err = best_worst("".join(lines), *CONTROLLED)
    assert (status, err, json.loads(out)) == (0, "", pair_statistics(paired, options, alphas))
    written = (tmp_path / "out.jsonl").read_text()
    assert written == "".join(dumps(to_json(example)) + "\n" for example in paired)


def test_stdin_and_a_pipe_are_read_as_a_file_is(best_worst, tmp_path):
    text = "".join(
        json.dumps({"id": str(k), **scored([("es", k % 3, "a" * k), ("es", 1, "b"), ("es", 0, "")])}) + "\n\n"
        for k in range(9)
    )
    status, figures, err = best_worst(text, *CONTROLLED)
    expected = (tmp_path / "out.jsonl").read_text()
    assert (status, err) == (0, "polypref: in.jsonl: 8 blank lines skipped\n")  # once, though it is read twice
    assert json.loads(figures)["es"]["alpha"]
    status, out, err = best_worst(text, *CONTROLLED, source="-", output="-")
    assert (status, out, err) == (0, expected, "polypref: stdin: 8 blank lines skipped\n" + figures)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert best_worst(None, *CONTROLLED, source=pipe)[:2] == (0, figures)
    writer.join()
    assert (tmp_path / "out.jsonl").read_text() == expected


@pytest.mark.parametrize("arguments", [(), ("--length-control", "auto"), ("--language-check", "off"), CONTROLLED[:4]])
@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("{", "in.jsonl:700: not JSON"),
        ('{"id": "1", "prompts": {"en": "?"}}', "in.jsonl:700: id '1' stands already at in.jsonl:2"),
        (
            '{"id": "x", "prompts": {"en": "?"}, "candidates": [{"id": "a", "lang": "en", "text": "b"}]}',
            "candidate 'a' of example 'x' has no score 's'",
        ),
    ],
)
def test_a_bad_last_line_leaves_what_stood_there(best_worst, tmp_path, arguments, last, message):
    (tmp_path / "out.jsonl").write_text("what stood here\n")
    lines = [json.dumps({"id": str(k), **scored([("es", 1, "a"), ("es", 0, "b")])}) for k in range(699)]
    status, out, err = best_worst("\n".join([*lines, last]), *arguments)
    assert (status, out, message in err) == (2, "", True)
    assert (tmp_path / "out.jsonl").read_text() == "what stood here\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


class Text(str):
    """One that can be watched."""


@pytest.mark.parametrize("check", ["on", "off"])
def test_few_texts_are_in_memory_while_alpha_is_fitted(best_worst, monkeypatch, check):
    """Of 3000 examples never more than two chunks of 512 are alive, in any look at the file."""
    parse = jsonl.parse_example
    alive = most = 0

    def gone():
        nonlocal alive
        alive -= 1

    def parsed(value):
        nonlocal alive, most
        text = Text(value["candidates"][0]["text"])
        weakref.finalize(text, gone)
        alive, most = alive + 1, max(most, alive + 1)
        value["candidates"][0]["text"] = text
        found = parse(value)
        assert found.candidates[0].text is text
        return found

    monkeypatch.setattr(jsonl, "parse_example", parsed)
    text = "".join(json.dumps({"id": str(k), **scored([("es", 1, "a"), ("es", 0, "b")])}) + "\n" for k in range(3000))
    assert best_worst(text, "--length-control", "auto", "--language-check", check)[0] == 0
    assert (alive <= 1, most <= 1025) == (True, True)
