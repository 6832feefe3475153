"""Answers joined with their prompts, and the matches that they make."""

import json

import pytest

from polypref.errors import InputError
from polypref.records import parse_example
from polypref.stages.alpaca_eval import Answers, joined, layout, matches, prompts_of, spoken_in
from polypref.stages.answer_files import Reply, read_replies


def user(text):
    return [{"role": "user", "content": text}]


PROMPTS = [
    parse_example({"id": "1", "prompts": {"en": "Name a river.", "es": "Nombra un río."}, "category": "rivers"}),
    parse_example({"id": "2", "prompts": {"en": "Say no.", "es": "Di no."}}),
]


def reply(text="x", id=None, language=None, prompt=None, where="f.jsonl:1", **more):
    return Reply(where, id, language, None if prompt is None else user(prompt), text, **more)


@pytest.fixture
def said():
    return []


def test_answers_join_by_id_in_their_language(said):
    answers = joined("m", [reply("Ebro", "1", "es"), reply("No", "2", "en")], PROMPTS, said.append)
    assert (answers.texts, said) == ({("1", "es"): "Ebro", ("2", "en"): "No"}, [])


def test_an_answer_without_an_id_joins_by_what_its_prompt_says_and_so_tells_its_language(said):
    replies = [reply("Ebro", prompt="Nombra  un río.\n"), reply("No", prompt="Say no.")]
    answers = joined("m", replies, PROMPTS, said.append)
    assert answers.texts == {("1", "es"): "Ebro", ("2", "en"): "No"}


def test_an_id_that_no_prompt_has_gives_way_to_the_prompt(said):
    assert joined("m", [reply("No", "17", "en", "Say no.")], PROMPTS, said.append).texts == {("2", "en"): "No"}


def test_answers_to_prompts_that_say_the_same_go_to_one_each(said):
    twice = [parse_example({"id": name, "prompts": {"en": "Again."}}) for name in ("a", "b")]
    replies = [reply("first", prompt="Again.", where="f:1"), reply("second", prompt="Again.", where="f:2")]
    assert joined("m", replies, twice, said.append).texts == {("a", "en"): "first", ("b", "en"): "second"}


def test_the_first_answer_of_a_row_counts_and_further_ones_are_said(said):
    answers = joined("m", [reply("one", "1", "es"), reply("two", "1", "es")], PROMPTS, said.append)
    assert answers.texts == {("1", "es"): "one"}
    assert said == ["m: 1 further answers in rows that hold several are left aside (first: f.jsonl:1)"]


def test_two_rows_that_answer_one_prompt_are_refused(said):
    replies = [reply("one", "1", "es", where="f:1"), reply("one", "1", "es", where="f:2")]
    with pytest.raises(InputError, match="f:2: m has answered prompt '1' in es already at f:1"):
        joined("m", replies, PROMPTS, said.append)


def test_answers_to_other_prompts_are_left_aside_and_said_unless_all_are(said):
    strange = reply("x", "99", "es", where="f:9")
    assert joined("m", [reply("Ebro", "1", "es"), strange], PROMPTS, said.append).texts == {("1", "es"): "Ebro"}
    assert said == ["m: 1 answers are to none of the prompts and are left aside (first: f:9)"]
    with pytest.raises(InputError, match="f:9 and all other answers are to none of the prompts"):
        joined("m", [strange], PROMPTS, said.append)


def test_an_id_whose_prompt_reads_otherwise_is_said(said):
    joined("m", [reply("x", "1", "en", "Name a lake.")], PROMPTS, said.append)
    assert said == ["m: 1 answers were given to a prompt that reads otherwise under the same id (first: f.jsonl:1)"]


def test_a_language_that_nothing_tells_is_asked_for(said):
    with pytest.raises(InputError, match="nothing tells which language the answer is in"):
        joined("m", [reply("x", "1")], PROMPTS, said.append)
    [placed] = spoken_in([reply("x", "1")], ["es"])
    assert joined("m", [placed], PROMPTS, said.append).texts == {("1", "es"): "x"}
    assert [r.text for r in spoken_in([reply("a", "1", "es"), reply("b", "1", "de")], ["es", "en"])] == ["a"]


def test_prompts_come_from_the_answers_by_id_or_by_what_they_say():
    """Two models answer one prompt, one under an id, the other without: it is one prompt."""
    replies = [
        reply("b", prompt="Say no.", language="en"),
        reply("c", prompt="Say yes.", language="en"),
        reply("a", "2", "en", "Say no.", category="words", gold="no"),
        reply("d", "2", "es", "Di no."),
    ]
    [known, hashed] = prompts_of(replies)
    assert (known.id, known.category, known.gold) == ("2", "words", "no")
    assert known.prompts == {"en": user("Say no."), "es": user("Di no.")}
    assert (hashed.prompts, len(hashed.id)) == ({"en": user("Say yes.")}, 16)
    with pytest.raises(InputError, match="id '2' stands elsewhere with another en prompt"):
        prompts_of([*replies, reply("e", "2", "en", "Say maybe.")])
    with pytest.raises(InputError, match="no answer carries its prompt"):
        prompts_of([reply("a", "2", "en")])


# --- matches -------------------------------------------------------------------------------------------------------


def answers(name, **texts):
    """``answers("m", es={"1": "Ebro"})``."""
    return Answers(name, {(i, lang): text for lang, of in texts.items() for i, text in of.items()})


ONE = answers("one", en={"1": "a", "2": "b"}, es={"1": "c", "2": None})
TWO = answers("two", en={"1": "d", "2": "e"}, es={"1": "f", "2": "g"})
THREE = answers("three", en={"1": "h"})


def meetings(found):
    return [(m.language, m.id, m.model, m.baseline) for m in found]


def test_all_models_meet_the_baseline(said):
    found = matches(PROMPTS, [TWO, ONE], "two", (), said.append)
    assert meetings(found) == [
        ("en", "1", "one", "two"),
        ("en", "2", "one", "two"),
        ("es", "1", "one", "two"),
        ("es", "2", "one", "two"),
    ]
    assert [(m.model_answer, m.baseline_answer) for m in found] == [("a", "d"), ("b", "e"), ("c", "f"), (None, "g")]
    assert (found[0].category, found[2].messages, said) == ("rivers", user("Nombra un río."), [])


def test_without_a_baseline_every_two_meet_and_what_is_not_compared_is_said(said):
    found = matches(PROMPTS, [ONE, TWO, THREE], None, ("en",), said.append)
    assert meetings(found) == [
        ("en", "1", "one", "two"),
        ("en", "1", "one", "three"),
        ("en", "1", "two", "three"),
        ("en", "2", "one", "two"),
    ]
    assert said == ["three has no answer, so that nothing is compared there, to 1 of 2 prompts in en"]


def test_the_difficulty_of_a_prompt_is_that_of_its_language(said):
    prompts = [
        parse_example({"id": "1", "prompts": {"en": "a", "es": "b"}, "difficulty": {"en": 1.5, "es": 2}}),
        parse_example({"id": "2", "prompts": {"en": "c", "es": "d"}, "difficulty": -3}),
    ]
    found = matches(prompts, [TWO, ONE], "two", (), said.append)
    assert [match.difficulty for match in found] == [1.5, -3, 2, -3]
    prompts[1].extra.clear()
    with pytest.raises(InputError, match="prompt '2' has no difficulty in en, but others have"):
        matches(prompts, [TWO, ONE], "two", (), said.append)


def test_who_cannot_meet_is_told(said):
    with pytest.raises(InputError, match="the baseline twi is none of the models; did you mean two"):
        matches(PROMPTS, [ONE, TWO], "twi", (), said.append)
    with pytest.raises(InputError, match="two alone has answers; name another model's"):
        matches(PROMPTS, [TWO], "two", (), said.append)
    with pytest.raises(InputError, match="one and four have no answers to the same prompt"):
        matches(PROMPTS, [answers("four", de={"1": "x"}), ONE], "four", (), said.append)
    with pytest.raises(InputError, match="nobody can be compared in es"):
        matches(PROMPTS, [THREE, ONE], "three", ("en", "es"), said.append)


# --- folders -------------------------------------------------------------------------------------------------------


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def test_a_folder_of_prompts_alone_has_no_references(tmp_path):
    write(tmp_path / "es.json", [{"id": 1, "dataset": "koala", "instruction": "Di no."}])
    found = layout(str(tmp_path))
    assert (found.prompts, found.references, found.id_key, found.category_key) == (str(tmp_path), None, None, "dataset")


def test_references_stand_in_a_folder_of_their_own_or_beside_the_prompts(tmp_path):
    write(tmp_path / "apart/prompts/es.json", [{"id": 1, "instruction": "Di no."}])
    write(tmp_path / "apart/references/es.json", [{"id": 1, "output": "No."}])
    found = layout(str(tmp_path / "apart"))
    assert found.prompts == str(tmp_path / "apart/prompts")
    assert found.references == str(tmp_path / "apart/references")
    write(tmp_path / "beside/es.json", [{"id": 1, "instruction": "Di no.", "output": "No."}])
    assert layout(str(tmp_path / "beside")).references == str(tmp_path / "beside")
    write(tmp_path / "apart/baseline/es.json", [{"id": 1, "output": "No."}])
    with pytest.raises(InputError, match=r"references and .*baseline; name the one to read with --baseline"):
        layout(str(tmp_path / "apart"))


def test_rows_of_one_file_need_no_ids(tmp_path):
    write(tmp_path / "alpaca_eval.json", [{"instruction": "Say no.", "output": "No.", "generator": "gpt4"}])
    assert layout(str(tmp_path / "alpaca_eval.json")).id_key == "position"


def test_real_answers_join_with_the_prompts_in_every_language(real_data, said):
    prompts = []
    for lang in ("es", "de"):
        rows = json.loads((real_data / f"prompts/x_alpacaeval/{lang}.json").read_text(encoding="utf-8"))
        prompts += [parse_example({"id": f"{row['id']}", "prompts": {lang: row["instruction"]}}) for row in rows]
    merged = {}
    for example in prompts:
        merged.setdefault(example.id, example).prompts.update(example.prompts)
    path = str(real_data / "responses/x_alpacaeval/gpt-4o-mini/{language}.jsonl")
    found = joined("mini", spoken_in(read_replies(path), ["es", "de"]), list(merged.values()), said.append)
    assert (len(found.texts), found.languages(), said) == (1610, {"es", "de"}, [])
