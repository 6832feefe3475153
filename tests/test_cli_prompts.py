"""Prompts as users bring them, through the command line: counts, the fix, and the fix followed."""

import json
from pathlib import Path

import pytest

from polypref import cli, reporting
from polypref.store.parquet import read_rows
from runs import small


@pytest.fixture
def polypref(capsys, monkeypatch):
    """The command line in this process: ``polypref(…)`` → (exit status, stderr)."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr(reporting, "render", lambda data: data.name)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        return end.value.code, capsys.readouterr().err

    return call


def files(folder: Path, **rows: list[dict]) -> Path:
    folder.mkdir()
    for lang, of in rows.items():
        (folder / f"{lang}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of), encoding="utf-8")
    return folder


def recipe(tmp_path: Path, path: Path, **options) -> Path:
    return small(tmp_path, prompts={"path": str(path), **options}, pair={"language_check": False})


def prompts(out: Path) -> dict[str, set[str]]:
    """The run's prompts: id → languages."""
    found = {}
    for shard in sorted((out / "prompts").rglob("*.parquet")):
        found |= {row["id"]: set(row["prompts"]) for _, row in read_rows(shard)}
    return found


def test_ids_with_their_language_are_told_with_the_key_that_joins_them(polypref, tmp_path):
    german = [{"id": f"degsm8k_test_{n}", "query": f"[de] Frage {n}"} for n in range(4)]
    english = [{"id": f"gsm8k_test_{n}", "query": f"[en] question {n}"} for n in range(4)]
    path = files(tmp_path / "data", es=german, en=english)
    spanish = [{**row, "id": row["id"].replace("de", "es", 1)} for row in german]
    (path / "es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in spanish))
    status, err = polypref("run", recipe(tmp_path, path), "--out", tmp_path / "run")
    assert status == 2
    assert "en 4 such as 'gsm8k_test_" in err
    assert "es 4 such as 'esgsm8k_test_" in err
    assert err.strip().endswith('say id_pattern: "{lang}{id}"')
    assert len(err.strip().splitlines()) == 1
    fixed = recipe(tmp_path, path, id_pattern="{lang}{id}")
    assert polypref("validate", fixed)[0] == 0
    assert polypref("run", fixed, "--out", tmp_path / "run2")[0] == 0
    assert prompts(tmp_path / "run2") == {f"gsm8k_test_{n}": {"en", "es"} for n in range(4)}


def test_a_pattern_that_is_none_is_told_by_validate(polypref, tmp_path):
    path = files(tmp_path / "data", en=[{"id": "1", "query": "one"}])
    status, err = polypref("validate", recipe(tmp_path, path, id_pattern="de-*"))
    assert (status, "prompts.id_pattern" in err, "must hold {lang} and {id} once each" in err) == (2, True, True)


def test_a_prompt_that_a_language_lacks_is_counted_and_told(polypref, tmp_path):
    english = [{"id": n, "query": f"[en] question {n}"} for n in range(5)]
    spanish = [{"id": n, "query": f"[es] pregunta {n}"} for n in range(4)]
    path = files(tmp_path / "data", en=english, es=list(reversed(spanish)))
    status, err = polypref("run", recipe(tmp_path, path), "--out", tmp_path / "run")
    assert status == 0
    assert "ids without a prompt: es 1" in err
    assert "a required language is missing: 1 of 5; require: pivot or any keeps more than require: all" in err
    assert prompts(tmp_path / "run") == {str(n): {"en", "es"} for n in range(4)}
    assert polypref("run", recipe(tmp_path, path, require="pivot"), "--out", tmp_path / "run2")[0] == 0
    assert prompts(tmp_path / "run2") == {str(n): {"en", "es"} if n < 4 else {"en"} for n in range(5)}


def test_rows_without_ids_are_never_joined_by_position_in_silence(polypref, tmp_path):
    """One row fell out of one file; by position, all rows behind it would meet the wrong partner."""
    english = [{"query": f"[en] question {n}"} for n in range(3)]
    path = files(tmp_path / "data", en=english, es=english[:2])
    status, err = polypref("run", recipe(tmp_path, path), "--out", tmp_path / "run")
    assert (status, "en.jsonl:1: no id among the fields query" in err, "id_key: position" in err) == (2, True, True)
    status, err = polypref("run", recipe(tmp_path, path, id_key="position"), "--out", tmp_path / "run")
    assert (status, "different numbers of rows (en 3, es 2)" in err) == (2, True)


def test_real_mgsm_is_joined_by_position_when_that_is_said(polypref, tmp_path, real_data):
    path = real_data / "mgsm"
    spoken = ["bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"]

    def asked(**options):
        given = {"path": str(path), "limit": 3, **options}
        return small(tmp_path, languages=spoken, prompts=given, pair={"language_check": False})

    status, err = polypref("run", asked(), "--out", tmp_path / "run")
    assert (status, "bn.jsonl:1: no id among the fields" in err, "say id_key: position" in err) == (2, True, True)
    status, err = polypref("run", asked(id_key="position"), "--out", tmp_path / "run")
    assert status == 0, err
    found = prompts(tmp_path / "run")
    assert len(found) == 3
    assert set(found) <= {str(n) for n in range(1, 251)}
    assert all(languages == set(spoken) for languages in found.values())
