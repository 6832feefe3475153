"""Every reader on input that is nearly right: it refuses in a sentence, or reads. No other error, no hang."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapes
import yaml
from attempts import LONGEST, depths, fuzz
from hypothesis import strategies as st
from pydantic import SecretStr

from polypref import recipe_file
from polypref.backends.base import Completion, ModelSpec
from polypref.backends.fingerprints import resolved
from polypref.backends.judge_prompts import judge_prompt
from polypref.backends.judge_readings import read_preference, read_rating, read_token
from polypref.backends.openai_wire import Failed, Refused, read_answer, read_completions
from polypref.backends.serving_wire import Limits, Refusal, read_request
from polypref.backends.verdict_file import VerdictFile, VerdictSettings
from polypref.cli_diagnoses import read_results
from polypref.cli_specs import judges_of
from polypref.recipes import folder
from polypref.records import Example, to_json
from polypref.registry import context
from polypref.reporting import again
from polypref.stages import mt_bench, prompts
from polypref.stages.answer_files import read_replies
from polypref.stages.judgments import read_judgments, write_judgments
from polypref.stages.language_features import read_features
from polypref.stages.people import read_key, unblinded
from polypref.stages.people_formats import read_verdicts
from polypref.stages.transfer import read_table, transfer
from polypref.stages.typology import cells
from polypref.store.journal import Journal
from polypref.store.jsonl import read_examples, write_examples
from polypref.store.manifest import Manifest
from polypref.store.parquet import SCHEMA, encode, read_metadata
from polypref.store.shards import standing
from report_pages import assert_inert
from runs import IMBALANCE, SMALL

EXAMPLE: dict[str, Any] = {
    "id": "1",
    "prompts": {
        "en": [{"role": "user", "content": "Hi"}],
        "es": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hola"}],
    },
    "candidates": [
        {"id": "a", "lang": "en", "text": "A", "origin": "sampled", "round": 1, "finish_reason": "stop", "tokens": 2}
        | {"token_ids": [1, 2], "scores": {"implicit": 0.5}, "label": {"helpful": 1}, "model": "m"},
        {"id": "b", "lang": "es", "text": "B", "parent": "a", "error": None},
    ],
    "pairs": [{"lang": "en", "chosen": "a", "rejected": "b", "score": "implicit", "margin": 0.5, "rule": "best-worst"}],
    "dropped": [{"stage": "pair", "reason": "equal", "lang": "en", "candidate": "a"}],
    "category": "c",
    "gold": [1],
    "task": None,
    "source": {"x": 1},
}
TURN = [{"role": "user", "content": "q"}]
ROWS: tuple[Any, ...] = (
    {"id": "1", "prompt": "Hi", "gold": 1, "category": "c"},
    {"id": 1, "instruction": "Hi", "input": "x", "output": "y"},
    {"id": "1", "messages": TURN},
    {"id": "1", "en": "Hi", "es": "Hola"},
    {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 1.0, "score_rejected": 0.0},
    {
        "prompt": TURN,
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    },
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}}
    | {"rejected": {"from": "gpt", "value": "b"}},
    {"prompt": "Hi", "completion": "a", "label": True},
    {"prompt": "Hi", "completions": ["a", "b"], "ranks": [0, 1]},
    {"id": "1", "prompt": "Hi", "responses": [{"text": "a", "score": 1}, {"text": "b", "score": 0}]},
    {"gem_id": "x-1", "worker_lang": "en", "summary": "s", "model": "m", "question4": "Yes", "article": "t"},
    {
        "message_id": "a",
        "parent_id": None,
        "text": "q",
        "role": "prompter",
        "lang": "en",
        "rank": None,
        "message_tree_id": "a",
    },
    {
        "message_id": "b",
        "parent_id": "a",
        "text": "r",
        "role": "assistant",
        "lang": "en",
        "rank": 0,
        "message_tree_id": "a",
    },
    EXAMPLE,
)
JUDGMENT: dict[str, Any] = {
    "id": "1", "language": "es", "judge": "j", "model": "m", "baseline": "b", "preference": 0.75,
    "orders": [1.0, 0.5], "flipped": False, "model_length": 8, "baseline_length": 10, "difficulty": None, "error": None,
    "failed": None, "prompt": "p", "model_answer": "x", "baseline_answer": "y", "said": ["s"], "sample": 0,
}  # fmt: skip
KEY: dict[str, Any] = {"item": "c1", "a": "model", "id": "1", "language": "es", "model": "m", "baseline": "b"} | {
    "prompt": "p", "model_answer": "x", "baseline_answer": "y", "category": None, "difficulty": None, "stratum": None,
    "weight": 1.0, "sample": 0,
}  # fmt: skip
REPLIES: tuple[Any, ...] = (
    {"instruction": "Hi", "output": "a", "generator": "m", "dataset": "d"},
    {"id": "1", "response": "a", "language": "es", "error": None, "gold": 1},
    EXAMPLE,
)
QUESTION = {"question_id": 101, "category": "math", "turns": ["a", "b"], "reference": ["x", "y"], "language": "en"}
ANSWERED = {"question_id": 101, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}], "language": "en"}
ARGILLA = {
    "id": "c1",
    "fields": {},
    "metadata": {},
    "responses": {"verdict": [{"user_id": "u", "value": "A", "status": "submitted"}]}
    | {"comment": [{"user_id": "u", "value": "why"}]},
}
STUDIO = {
    "data": {"item": "c1"},
    "annotations": [
        {
            "completed_by": {"email": "e"},
            "was_cancelled": False,
            "result": [
                {"from_name": "verdict", "value": {"choices": ["A"]}},
                {"from_name": "comment", "value": {"text": ["t"]}},
            ],
        }
    ],
}
RESULTS = {
    "results": {"sft": {"en": {"quality": 0.5, "quality_stderr": 0.1, "quality_n": 3}}},
    "config": {"name": "n", "pivot": "en"},
    "samples": [],
}
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a", "reasoning_content": "t"}}
    | {"finish_reason": "stop"}
    | {"logprobs": {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": -0.1}]}]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}  # fmt: skip
REQUEST = {
    "model": "m",
    "messages": [{"role": "user", "content": "q"}],
    "n": 1,
    "temperature": 0.5,
    "stream": False,
    "max_tokens": 4,
    "stop": ["x"],
    "seed": 1,
}
MATRIX = (
    ("source_language", "target_language", "win_rate"),
    ("en", "es", "51.5"),
    ("en", "en", "60"),
    ("es", "en", "40"),
    ("es", "es", "55"),
)
SERVER = ModelSpec(path="m", backend="openai", url="http://127.0.0.1:9/v1")


@dataclass(frozen=True)
class Reader:
    """A reader, and values for it. ``read`` gets a folder of its own and the value."""

    values: st.SearchStrategy[Any]
    read: Callable[[Path, Any], Any]
    refusals: tuple[type[BaseException], ...] = ()
    lines: int = LONGEST


def of_file(name: str, read: Callable[[Path], Any]) -> Callable[[Path, bytes], None]:
    """A reader of one file of that name."""

    def written(folder: Path, content: bytes) -> None:
        path = folder / name
        path.write_bytes(content)
        read(path)

    return written


def round_trip(path: Path) -> None:
    """What is accepted comes back equal from both forms in which it is written."""
    found = [stored(example) for example in read_examples(path)]
    for name in ("again.jsonl", "again.parquet"):
        write_examples(path.with_name(name), read_examples(path))
        assert [stored(example) for example in read_examples(path.with_name(name))] == found, name


def stored(example: Example) -> Any:
    """An example as JSON, its scores and margins as the floats that Parquet has for them."""
    found = to_json(example)
    for candidate in found["candidates"]:
        candidate["scores"] = {name: float(score) for name, score in candidate["scores"].items()}
    for pair in found["pairs"]:
        pair["margin"] = None if pair["margin"] is None else float(pair["margin"])
    return found


def of_prompts(**options: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> None:
        asked = prompts.PromptOptions(path=str(path), require="any", **options)
        examples, _ = prompts.read_prompts(asked, context()[0])
        for example in examples:
            json.dumps(to_json(example)).encode()

    return read


def parquet(rows: list[Any], schema: pa.Schema | None = None) -> bytes:
    """The bytes of a Parquet file; of rows that Arrow cannot hold, those of an empty one."""
    file = io.BytesIO()
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, file)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, NotImplementedError):
        return b"PAR1"
    return file.getvalue()


def columns_of_other_types() -> st.SearchStrategy[bytes]:
    """All the columns of the wire format, each of any type."""
    column = st.sampled_from(
        (
            *(
                [None],
                [1],
                [1.5],
                ["x"],
                [b"\xff"],
                [[]],
                [["x"]],
                [[None]],
                [[{"key": "en", "value": None}]],
                [[{"a": 1}]],
            ),
            *([[{"id": "a", "lang": "en", "text": "t"}]], [{"a": 1}], [[{"key": None, "value": "1"}]], [True]),
        )
    )
    whole = st.fixed_dictionaries(dict.fromkeys(SCHEMA.names, column))
    return whole.map(lambda found: parquet([{name: value[0] for name, value in found.items()}]))


def of_page(path: Path) -> None:
    again(path.parent)
    assert_inert((path.parent / "report.html").read_text(encoding="utf-8"))


def of_matrix(path: Path) -> None:
    rows = read_table(path, "win_rate")
    cells(rows, "win_rate")
    both = ("en", "es")
    transfer([{"source_language": s, "target_language": t, "accuracy": "50"} for s in both for t in both], rows)


def of_key(path: Path) -> None:
    unblinded([], read_key(path))


def of_judgments(path: Path) -> None:
    found = read_judgments(path)
    write_judgments(path.with_name("again.jsonl"), found)
    assert read_judgments(path.with_name("again.jsonl")) == found


def of_journal(path: Path) -> None:
    with Journal(path) as journal:
        journal.put("k", {"text": "kept"})
    with Journal(path) as journal:
        assert journal.get("k") == {"text": "kept"}


def of_manifest(path: Path) -> None:
    manifest = Manifest.open(path, pivot="en")
    with manifest.step("a"):
        manifest.say("b")
    manifest.said(), manifest.seconds()
    manifest.close()


def of_shard(path: Path) -> None:
    read_metadata(path)
    standing(path, "k")


def of_answer(folder: Path, value: tuple[int, bytes]) -> None:
    status, content = value
    headers = {"retry-after": content[:10].decode("latin-1")}
    for one in read_answer(
        status, headers, content, asked={"max_tokens": 5, "logprobs": True}, spec=SERVER, key=SecretStr("k")
    ):
        json.dumps(one.text, ensure_ascii=False).encode()


def of_readings(folder: Path, value: tuple[str, Any]) -> None:
    said, first = value
    for finish in ("stop", "length", None):
        completion = Completion(said, finish_reason=finish, first_token=first)
        for reading in (
            read_preference(completion),
            read_rating(completion, (1.0, 10.0)),
            read_token(completion, words_will_do=True),
        ):
            assert (reading.value is None) == (reading.error is not None)


def of_yaml(path: Path) -> None:
    recipe_file.read_recipe(path)


def recipes() -> st.SearchStrategy[bytes]:
    """Those that come with polypref, and two small ones that leave nothing open."""
    texts = [path.read_bytes() for path in sorted(folder().glob("*.yaml"))]
    trees = (SMALL, IMBALANCE)
    whole = shapes.mangled(st.sampled_from([*texts, *(yaml.safe_dump(tree).encode() for tree in trees)]))
    return whole | shapes.spoiled(trees, most=2).map(lambda tree: yaml.safe_dump(tree).encode())


FIRST_TOKENS = st.none() | st.dictionaries(
    st.sampled_from(("A", "B", " A", "x", "")), st.floats(max_value=0, allow_nan=False), max_size=3
)
WIRE = shapes.lines((EXAMPLE, {"id": "2", "prompts": {"en": "Hi"}}))
PACKED = shapes.mangled(
    st.lists(shapes.spoiled(EXAMPLE), max_size=2).map(
        lambda rows: parquet([encode_or_raw(row) for row in rows], SCHEMA)
    )
)


def encode_or_raw(row: Any) -> Any:
    try:
        return encode(row)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError):
        return row


READERS: dict[str, Reader] = {
    "wire format, JSON Lines": Reader(WIRE, of_file("x.jsonl", round_trip)),
    "wire format, Parquet": Reader(PACKED, of_file("x.parquet", round_trip)),
    "Parquet of other types": Reader(columns_of_other_types(), of_file("x.parquet", round_trip)),
    "a shard's footer": Reader(PACKED, of_file("part-00000.parquet", of_shard)),
    "prompts and preferences, JSON Lines": Reader(shapes.lines(ROWS), of_file("es.jsonl", of_prompts())),
    "prompts and preferences, JSON": Reader(shapes.array(ROWS) | shapes.deep(), of_file("es.json", of_prompts())),
    "prompts and preferences, Parquet": Reader(
        shapes.mangled(st.lists(shapes.spoiled(ROWS), max_size=2).map(parquet)), of_file("es.parquet", of_prompts())
    ),
    "prompts, CSV": Reader(
        shapes.table(("id", "prompt", "gold"), ("1", "Hi", "x"), ("2", "Hola", "y")), of_file("es.csv", of_prompts())
    ),
    "prompts, TSV": Reader(shapes.table(("id\tprompt",), ("1\tHi",)), of_file("es.tsv", of_prompts())),
    "prompts, gzip": Reader(
        shapes.mangled(shapes.lines(ROWS).map(gzip.compress)), of_file("es.jsonl.gz", of_prompts())
    ),
    "prompts, gzipped JSON": Reader(
        shapes.mangled(shapes.array(ROWS).map(gzip.compress)), of_file("es.json.gz", of_prompts())
    ),
    "a recipe": Reader(recipes(), of_file("r.yaml", of_yaml), lines=recipe_file.SHOWN + 1),
    "a judge's file": Reader(
        shapes.document({"scorer": "judge", "model": {"path": "m", "backend": "fake"}, "settings": {"scale": [1, 10]}}),
        of_file("j.yaml", lambda path: judges_of([f"j={path}"])),
        lines=recipe_file.SHOWN + 1,
    ),
    "a judge's prompt": Reader(
        shapes.mangled(
            st.just(b"{conversation} {answer} {{x}} [[number]]")
            | shapes.texts().map(lambda t: t.encode("utf-8", "replace"))
        ),
        of_file("p.txt", lambda path: judge_prompt("number", str(path))),
    ),
    "judgments": Reader(shapes.lines((JUDGMENT,)), of_file("j.jsonl", of_judgments)),
    "verdicts in a judge's place": Reader(
        shapes.lines((JUDGMENT,)), of_file("j.jsonl", lambda path: VerdictFile(VerdictSettings(file=str(path))))
    ),
    "a journal": Reader(shapes.lines(({"key": "k", "value": {"text": "a"}},)), of_file("j.jsonl", of_journal)),
    "a manifest": Reader(
        shapes.document({"versions": {}, "models": {}, "steps": {"a": {"done": True, "seconds": 1.0, "said": ["x"]}}}),
        of_file("manifest.json", of_manifest),
    ),
    "answers of models, AlpacaEval and others": Reader(
        shapes.lines(REPLIES), of_file("a.jsonl", lambda path: read_replies(str(path), "m", ("es", "en")))
    ),
    "answers of models, JSON": Reader(shapes.array(REPLIES), of_file("es.json", lambda path: read_replies(str(path)))),
    "MT-Bench's questions": Reader(
        shapes.lines((QUESTION,)), of_file("q.jsonl", lambda path: mt_bench.read_questions(str(path)))
    ),
    "MT-Bench's answers": Reader(
        shapes.lines((ANSWERED,)),
        of_file(
            "a.jsonl",
            lambda path: mt_bench.read_answers(str(path), "m", [mt_bench.Question("101", "en", "math", ("a", "b"))]),
        ),
    ),
    "matrices of figures, CSV": Reader(shapes.table(*MATRIX), of_file("w.csv", of_matrix)),
    "features of languages, CSV": Reader(
        shapes.table(("language", "81A", "85A"), ("en", "1", "2"), ("de", "2", "")),
        of_file("f.csv", lambda path: read_features(path, ("en", "de", "zh-Hans"))),
    ),
    "people's verdicts, CSV": Reader(
        shapes.table(("item", "verdict", "annotator", "comment"), ("c1", "A", "ann", "=1+1"), ("c2", "tie", "ann", "")),
        of_file("v.csv", read_verdicts),
    ),
    "people's verdicts, Argilla and Label Studio": Reader(
        shapes.array((ARGILLA, STUDIO)) | shapes.deep(), of_file("v.json", lambda path: read_verdicts(path, "ann"))
    ),
    "the key to people's items": Reader(shapes.lines((KEY,)), of_file("k.jsonl", of_key)),
    "results.json": Reader(shapes.document(RESULTS), of_file("results.json", read_results)),
    "results.json, made into a page": Reader(
        shapes.document(
            RESULTS
            | {"date": "d", "seed": 0, "signature": "s", "notes": ["n"], "timings": {"a": 1.0}, "unseen": ["es"]}
            | {"samples": [{"round": 1, "lang": "en", "prompt": "p", "chosen": "a", "rejected": "b"}]}
        ),
        of_file("results.json", of_page),
    ),
    "a server's answers": Reader(
        st.tuples(
            st.sampled_from((200, 200, 302, 400, 401, 404, 429, 500)),
            shapes.document(COMPLETION, {"error": {"message": "m"}}),
        ),
        of_answer,
        (Failed, Refused),
    ),
    "a server's completions, with stop strings": Reader(
        shapes.document(COMPLETION), lambda folder, content: read_completions(content, ("x", "a")), (Failed,)
    ),
    "requests to our server": Reader(
        shapes.document(REQUEST),
        lambda folder, content: read_request(content, {"accept-language": "es"}, Limits("m")),
        (Refusal,),
    ),
    "a judge's words": Reader(
        st.tuples(shapes.texts() | st.sampled_from(("[[A]]", "[[ 7 ]]", "A", "[[1e9]]", "[[" * 50_000)), FIRST_TOKENS),
        of_readings,
    ),
    "adapter_config.json": Reader(
        shapes.document({"base_model_name_or_path": "org/m", "revision": None, "r": 8, "peft_type": "LORA"}),
        of_file("adapter_config.json", lambda path: resolved(ModelSpec(path=str(path.parent)))),
    ),
}


@depths
@pytest.mark.parametrize("what", READERS)
def test_a_reader_refuses_in_a_sentence_or_reads(what: str, examples: int, tmp_path: Path) -> None:
    reader = READERS[what]
    counts = fuzz(
        what,
        reader.values,
        lambda value: reader.read(tmp_path, value),
        examples,
        refusals=reader.refusals,
        lines=reader.lines,
    )
    assert counts["accepted"] or examples < 100, "nothing was accepted: the reader takes another form now"
