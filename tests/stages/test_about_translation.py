"""Which prompts are about translation: orders and questions in many languages, and what only speaks of languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polypref.errors import InputError
from polypref.records import Example
from polypref.stages.about_translation import about_translation, read_ids

ASKS = {
    "ar": ["ترجم الجملة التالية إلى الألمانية", "كيف تقول جبن بالفرنسية؟", "ترجم هذا النص من الإنجليزية إلى العربية."],
    "bn": ["নিচের বাক্যটি জার্মান ভাষায় অনুবাদ করুন।", "ফরাসি ভাষায় পনির কীভাবে বলে?"],
    "de": ["Übersetze ins Englische: Guten Morgen", "Wie sagt man Käse auf Französisch?"],
    "en": [
        "Translate into German: Good morning",
        "How do you say cheese in French?",
        "Can you translate this to Spanish? I am here.",
        "What is the French word for cheese?",
        "What's “bread” in Italian?",
        "Please convert the sentence into the Hindi language.",
        "Translation from English to Telugu.",
        "Read it first.\nThen translate it into Korean.",
    ],
    "es": ["Traduce al alemán: Buenos días", "¿Cómo se dice queso en francés?"],
    "fr": ["Traduisez en allemand : bonjour", "Comment dit-on fromage en espagnol ?"],
    "it": ["Traduci in tedesco: buongiorno", "Come si dice formaggio in francese?"],
    "ja": ["次の文をドイツ語に翻訳してください。", "「チーズ」はフランス語で何と言いますか。"],
    "ko": ["다음 문장을 독일어로 번역하세요.", "'치즈'는 프랑스어로 뭐라고 하나요?"],
    "pt": ["Traduza para o alemão: bom dia", "Como se diz queijo em francês?"],
    "ru": ["Переведите на немецкий: доброе утро", "Как сказать «сыр» по-французски?"],
    "sw": ["Tafsiri sentensi ifuatayo kwa Kijerumani.", "Unasemaje jibini kwa Kifaransa?"],
    "th": ["แปลประโยคต่อไปนี้เป็นภาษาเยอรมัน", "ชีสภาษาฝรั่งเศสพูดว่าอะไร"],
    "zh": ["把下面的句子翻译成德语：早上好", "“奶酪”用法语怎么说？", "请将这段话译成英文。"],
}
SPEAKS_OF = {
    "ar": ["اكتب قصيدة بالفرنسية.", "ما هي الدول التي تتحدث الإسبانية؟"],
    "bn": ["ফরাসি ভাষায় একটি কবিতা লিখুন।"],
    "de": ["Schreibe ein Gedicht auf Französisch.", "Welches Buch wurde ins Deutsche übersetzt?"],
    "en": [
        "What countries speak Spanish?",
        "Write a poem in French.",
        "Explain how Google Translate works from English to French.",
        "Write a Python program to translate English into French.",
        "Translate the description into a Google Sheets formula.",
        "Who first had the Bible translated into German?",
        "How can I say no to French guests?",
        "Turn this into Italian dressing.",
        "Your task is to check if the Hindi sentence is a translation of the English one.",
    ],
    "es": ["Escribe un poema en francés.", "Escribe un programa para traducir del inglés al francés."],
    "fr": ["Écris un poème en espagnol.", "Quel livre a été traduit en français ?"],
    "it": ["Scrivi una poesia in francese.", "Scrivi un programma per tradurre dall'inglese all'italiano."],
    "ja": ["フランス語で詩を書いてください。", "機械翻訳の歴史を英語で説明してください。"],
    "ko": ["프랑스어로 시를 써 주세요."],
    "pt": ["Escreva um poema em francês.", "Qual livro foi traduzido para o inglês?"],
    "ru": ["Напиши стихотворение на французском языке.", "Какая книга переведена на английский?"],
    "sw": ["Andika shairi kwa Kifaransa."],
    "th": ["เขียนบทกวีเป็นภาษาฝรั่งเศส", "ประเทศใดพูดภาษาสเปน"],
    "zh": ["用法语写一首诗。", "机器翻译的历史是什么？"],
}


def prompt(lang: str, *turns: str) -> Example:
    roles = ("user", "assistant")
    messages: list[dict[str, Any]] = [{"role": roles[k % 2], "content": text} for k, text in enumerate(turns)]
    return Example("x", {lang: messages})


@pytest.mark.parametrize(("lang", "text"), [(lang, text) for lang, texts in ASKS.items() for text in texts])
def test_an_order_to_translate_is_found(lang: str, text: str) -> None:
    assert about_translation(prompt(lang, text), lang)


@pytest.mark.parametrize(("lang", "text"), [(lang, text) for lang, texts in SPEAKS_OF.items() for text in texts])
def test_a_language_that_is_only_spoken_of_is_no_translation(lang: str, text: str) -> None:
    assert not about_translation(prompt(lang, text), lang)


def test_the_users_turns_count_and_the_pivots_prompt_alone() -> None:
    order = "Translate into German: Good morning"
    assert about_translation(prompt("en", order, "Guten Morgen", "Make it shorter."), "en")
    assert not about_translation(prompt("en", "Hi", order, "Why?"), "en")
    assert not about_translation(prompt("de", "Übersetze ins Englische: Guten Morgen"), "en")
    assert about_translation(prompt("zh-Hant", "請將這段話翻譯成德语"), "zh-Hant")


def test_a_pivot_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"can be detected in ar, bn, .* not in the pivot nl; list their ids"):
        about_translation(prompt("nl", "Vertaal in het Duits"), "nl")


def test_letters_with_marks_are_read_however_they_are_encoded() -> None:
    """য় is one character or two; both are the same text."""
    for letter in ("\u09df", "\u09af\u09bc"):
        assert about_translation(prompt("bn", f"জার্মান ভাষা{letter} অনুবাদ করুন"), "bn")


# --- real data -----------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def detected(path: Path, lang: str) -> set[str]:
    found = ((str(row.get("id", row.get("instruction_id"))), row["instruction"]) for row in rows(path))
    return {key for key, text in found if about_translation(prompt(lang, text), lang)}


@pytest.mark.parametrize(("lang", "found"), [("en", 7), ("fr", 6)])
def test_real_prompts_that_their_authors_list(real_data: Path, lang: str, found: int) -> None:
    """1000 Alpagasus prompts, of which LIDR's authors list 7. None is detected beside those; the one missed in French
    is a machine translation in the third person («Traduit la phrase …»)."""
    folder = real_data / "lidr"
    listed = set(read_ids(folder / "translation_instruction_ids.json"))
    mine = detected(folder / "alpagasus_0_1000" / f"{lang}.jsonl", lang)
    assert len(listed & {row["id"] for row in rows(folder / "alpagasus_0_1000" / "en.jsonl")}) == 7
    assert (len(mine & listed), len(mine - listed)) == (found, 0)


TRANSLATIONS = """
    2a91fd9d c05ca40d c55f12c8 e1be533d a7f291d1 2f602deb 4228f0fe 52a96979 c34121a6 ae473bc1 4b4e8682 e9cd06f6 9c808673
    6390484a c8b537b5 3fce2a62 c2f4aed8 31ffd908 e1000cd8 53a96d54 0474ab94 58287fcf 853d04ec 8702e3a3 0b43f4b8 3c3a0e53
    5fc9e914 3b5b238c abc92e23 6e6cb53d 803d2a57 8df2a9c0 377fee8a d1a9245d 8ca99e88 972cd429 0a4d98a9 9837b420 4cbddd2f
    6a24b06a 305b7f06 a889addd 8ba960ff aa7d61c9 47f7935c 92ed1742 a1f0ad6e b12ed0f0 bdbdcc79 253efe3a d4a05818 f6446826
    eada6bf6 c39fc227 82e5f22e 69f9151d 4f8c2359 38f6bb20 597b7835 7c043225 6b92a181 868bb581 7e3cb9f6 ab395ea8
"""
"""The ids, by their first characters, of the 1000 UltraFeedback prompts whose English one asks for a translation."""


@pytest.mark.parametrize(
    ("lang", "found", "wrong"),
    [
        ("en", 61, 0), ("es", 60, 0), ("de", 59, 1), ("fr", 56, 0), ("ru", 59, 1), ("th", 60, 4), ("bn", 45, 4),
        ("sw", 54, 1), ("zh", 60, 1),
    ],
)  # fmt: skip
def test_real_prompts_in_nine_languages(real_data: Path, lang: str, found: int, wrong: int) -> None:
    """No fewer of the 64 translations are detected than were, and no more of the 936 other prompts."""
    right = set(TRANSLATIONS.split())
    mine = {key[:8] for key in detected(real_data / "prompts" / "ultrafeedback_1000" / f"{lang}.jsonl", lang)}
    assert len(mine & right) >= found
    assert len(mine - right) <= wrong


# --- lists ---------------------------------------------------------------------------------------------------------


def test_ids_are_read_as_strings(tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text('["a", 17]')
    assert read_ids(tmp_path / "ids.json") == read_ids(str(tmp_path / "ids.json")) == ("a", "17")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"a": 1}', r"ids\.json: holds no list of ids"),
        ("[true]", r"ids\.json: holds no list of ids"),
        ("[1", r"ids\.json: not JSON"),
        (b"\xff", r"ids\.json: not JSON"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    (tmp_path / "ids.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=told):
        read_ids(tmp_path / "ids.json")


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json cannot be read \(No such file"):
        read_ids(tmp_path / "none.json")
