"""What is asked beside the prompt: filled in by language, part of the last user turn, and told apart from it again."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Context
from polypref.errors import InputError, RecipeError
from polypref.mistakes import checked
from polypref.records import Example, parse_example, to_json
from polypref.stages.about_translation import about_translation
from polypref.stages.asked_language import asks_other_language
from polypref.stages.overlap import find_overlap
from polypref.stages.prompt_instruction import instructed, plain
from polypref.stages.prompts import PromptOptions, read_prompts

CONTEXT = Context(open=lambda role, spec: None)
SOLVE = "Think step by step and answer in {language}."


def example(**prompts):
    return parse_example({"id": "1", "prompts": prompts})


def said(found: Example, lang: str) -> str:
    return found.prompts[lang][-1]["content"]


def test_the_instruction_follows_the_prompt_in_its_language():
    (found,) = instructed([example(en="How many?", de="Wie viele?")], SOLVE)
    assert said(found, "en") == "How many?\n\nThink step by step and answer in English."
    assert said(found, "de") == "Wie viele?\n\nThink step by step and answer in German."


def test_a_language_is_named_in_english_or_in_itself():
    (found,) = instructed([example(sw="Ngapi?", ja="いくつ？")], "{language_native}/{language}")
    assert [said(found, lang).split("\n\n")[1] for lang in ("sw", "ja")] == ["Kiswahili/Swahili", "日本語/Japanese"]


def test_with_the_prompt_in_it_the_instruction_stands_around():
    (found,) = instructed([example(es="¿Cuántos?")], "Task, in {language}:\n{prompt}\nAnswer:")
    assert said(found, "es") == "Task, in Spanish:\n¿Cuántos?\nAnswer:"


def test_each_language_may_have_its_own():
    options = checked(PromptOptions, {"path": "x", "instruction": {"German": "Rechne.", "en": "Reckon."}})
    (found,) = instructed([example(en="How many?", de="Wie viele?")], options.instruction)
    assert (said(found, "en"), said(found, "de")) == ("How many?\n\nReckon.", "Wie viele?\n\nRechne.")
    with pytest.raises(InputError, match="instruction has a text for de, en, but none for sw; add one, or leave sw"):
        instructed([example(sw="Ngapi?")], options.instruction)


def test_braces_of_the_prompt_and_of_tex_stay():
    instruction = r"Q{prompt} End with \boxed{answer}, \boxed{prompt} or {}."
    (found,) = instructed([example(en="Is {language} a word, {prompt}?")], instruction)
    assert said(found, "en") == r"QIs {language} a word, {prompt}? End with \boxed{answer}, \boxed{prompt} or {}."


def test_only_the_last_user_turn_is_changed_and_no_input():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How many?"},
    ]
    one = example(en=turns)
    (found,) = instructed([one], "In {language}.")
    assert found.prompts["en"][:-1] == turns[:-1]
    assert said(found, "en") == "How many?\n\nIn English."
    assert one == example(en=turns)
    assert instructed([one], None) == [one]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["en", "de", "th", "zh-Hans"]))
def test_the_users_own_words_come_back(prompt, before, after, lang):
    """Also through the file format."""
    (found,) = instructed([example(**{lang: prompt})], f"a{before.replace('{', '')}{{prompt}}{after.replace('{', '')}")
    again = parse_example(json.loads(json.dumps(to_json(found))))
    assert plain(again) == example(**{lang: prompt}) == plain(example(**{lang: prompt}))


def test_a_later_instruction_takes_the_place_of_an_earlier_one():
    """So a language that came later, such as a translated prompt's, is told as the others, and none is told twice."""
    (first,) = instructed([example(en="How many?")], "{prompt} Be brief.")
    grown = replace(first, prompts=first.prompts | example(de="Wie viele?").prompts)
    assert instructed([grown], SOLVE) == instructed([example(en="How many?", de="Wie viele?")], SOLVE)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("Answer in {lang}.", r"instruction: \{lang\} is no place of an instruction; did you mean language\?"),
        ({"de": "Auf {sprache}."}, r"instruction: de: \{sprache\} is no place of an instruction; known: "),
        ("{prompt}{prompt}", r"instruction: \{prompt\} stands twice; the prompt goes in once"),
        ("{prompt}", "instruction: the instruction says nothing; leave it out"),
        (" ", "instruction: the instruction says nothing; leave it out"),
    ],
)
def test_a_wrong_instruction_is_told(instruction, message):
    with pytest.raises(RecipeError, match=message):
        checked(PromptOptions, {"path": "x", "instruction": instruction})


@pytest.mark.parametrize("mark", [["en"], {"en": 3}, {"en": ["a", "b"]}, "long"])
def test_a_field_of_the_users_by_that_name_is_refused(mark):
    one = parse_example({"id": "1", "prompts": {"en": "Hi"}, "instructed": mark})
    with pytest.raises(InputError, match=r"example '1': instructed is .*; rename a field of your own"):
        plain(one)


def test_prompts_are_read_with_it(tmp_path):
    for lang, text in (("en", "How many?"), ("es", "¿Cuántos?")):
        row = {"id": "1", "prompt": text, "gold": 3}
        (tmp_path / f"{lang}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"id": "2", "prompt": " "}) + "\n")
    (found,), summary = read_prompts(checked(PromptOptions, {"path": str(tmp_path), "instruction": SOLVE}), CONTEXT)
    assert said(found, "es") == "¿Cuántos?\n\nThink step by step and answer in Spanish."
    assert (found.gold, summary.empty) == (
        3,
        {"en": 1, "es": 1},
    )  # a blank prompt is blank, whatever is asked beside it


def test_an_instruction_is_no_wish_of_the_user():
    said = {"en": "Add 2 and 3.", "de": "Addiere 2 und 3."}
    prompts = {tag: [{"role": "user", "content": text}] for tag, text in said.items()}
    [example] = instructed([Example("1", prompts)], "Translate your thoughts, step by step, and answer in {language}.")
    assert not asks_other_language(example, "de", "en")
    assert not about_translation(example, "en")
    assert find_overlap([example], [Example("2", prompts)]).texts
