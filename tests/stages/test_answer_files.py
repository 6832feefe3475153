"""Models' answers as users have them: what a row says, and what is refused with its place."""

import json

import pytest

from polypref.errors import InputError
from polypref.stages.answer_files import read_replies


@pytest.fixture
def written(tmp_path):
    """``written(**{"es.jsonl": rows})`` → the folder."""

    def write(**files):
        for name, rows in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            text = json.dumps(rows) if name.endswith(".json") else "\n".join(json.dumps(row) for row in rows)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def told(replies):
    return [(reply.language, reply.id, reply.text) for reply in replies]


def test_a_folder_has_one_file_a_language(written):
    folder = written(**{"es.jsonl": [{"id": 1, "response": "Ebro"}], "de.jsonl": [{"id": 1, "response": "Rhein"}]})
    assert told(read_replies(str(folder))) == [("de", "1", "Rhein"), ("es", "1", "Ebro")]
    assert told(read_replies(str(folder / "{language}.jsonl"))) == told(read_replies(str(folder)))


def test_alpaca_eval_outputs_are_known_by_their_instruction(written):
    row = {"instruction": "Name a river.", "output": "Ebro", "generator": "gpt4", "dataset": "koala"}
    [reply] = read_replies(str(written(**{"model_outputs.json": [row]}) / "model_outputs.json"))
    assert (reply.id, reply.language, reply.text, reply.model, reply.category) == (None, None, "Ebro", "gpt4", "koala")
    assert reply.prompt == [{"role": "user", "content": "Name a river."}]


def test_the_wire_format_gives_every_answer_of_a_row(written):
    candidates = [
        {"id": "a", "lang": "es", "text": "Ebro", "model": "one"},
        {"id": "b", "lang": "es", "text": "Tajo", "model": "one"},
        {"id": "c", "lang": "de", "text": "", "model": "one", "error": "timeout"},
        {"id": "d", "lang": "es", "text": "Duero", "model": "two"},
    ]
    prompts = {"es": "Nombra un río.", "de": "Nenne einen Fluss."}
    row = {"id": "x", "prompts": prompts, "candidates": candidates, "gold": "Ebro", "category": "rivers"}
    path = str(written(**{"answers.jsonl": [row]}) / "answers.jsonl")
    replies = read_replies(path, "one")
    assert told(replies) == [("es", "x", "Ebro"), ("es", "x", "Tajo"), ("de", "x", None)]
    assert {(reply.gold, reply.category, reply.where) for reply in replies} == {("Ebro", "rivers", "answers.jsonl:1")}
    assert told(read_replies(path, "two")) == [("es", "x", "Duero")]
    with pytest.raises(InputError, match=r"several models \(one, two\), none called three"):
        read_replies(path, "three")


def test_an_answer_that_is_null_or_beside_an_error_has_failed(written):
    rows = [{"id": "1", "response": None}, {"id": "2", "response": "half", "error": "cut"}, {"id": "3", "response": ""}]
    assert [reply.text for reply in read_replies(str(written(**{"es.jsonl": rows}) / "es.jsonl"))] == [None, None, ""]


def test_a_file_name_tells_a_language_only_if_the_prompts_speak_it(written):
    """``my`` is Burmese, and here it is not."""
    folder = written(**{"my_answers.jsonl": [{"id": "1", "response": "x"}]})
    path = str(folder / "my_answers.jsonl")
    assert [reply.language for reply in read_replies(path, spoken=("es", "de"))] == [None]
    assert [reply.language for reply in read_replies(path, spoken=("my", "de"))] == ["my"]


def test_a_row_may_tell_its_language(written):
    rows = [{"id": "1", "response": "x", "language": "Spanish"}]
    folder = written(**{"answers.jsonl": rows, "sub__de.jsonl": rows})
    assert [reply.language for reply in read_replies(str(folder / "answers.jsonl"))] == ["es"]
    with pytest.raises(InputError, match=r"de\.jsonl:1: language is 'Spanish', but the file's name says de"):
        read_replies(str(folder / "sub"))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "1", "text": "x"}, "no answer among the fields id, text"),
        ({"id": "1", "response": 3}, "response is 3; an answer is a text"),
        ({"response": "x"}, "nothing tells which prompt is answered"),
        ({"id": True, "response": "x"}, "id is true; it must be"),
        ({"id": "1", "response": "x", "language": "Klingonisch"}, "language: "),
    ],
)
def test_a_row_that_is_no_answer_is_told_with_its_place(written, row, complaint):
    path = str(written(**{"answers.jsonl": [{"id": "0", "response": "fine"}, row]}) / "answers.jsonl")
    with pytest.raises(InputError, match=rf"answers\.jsonl:2: {complaint}"):
        read_replies(path)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_replies(str(tmp_path / "none"))
    (tmp_path / "es.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="is empty: it holds no answer"):
        read_replies(str(tmp_path / "es.jsonl"))
