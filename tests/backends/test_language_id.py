"""Language identification: what is told, what is left undetermined, and the figures on real answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import LanguageIdentifier
from polypref.backends.language_id import KIN, NEIGHBOURS, LinguaIdentifier, running_words

LANGUAGES = ("en", "es", "de", "fr", "ru", "sw")

ENGLISH = "The river rises in the mountains and flows through three countries before it reaches the sea."
SPANISH = "El río nace en las montañas y atraviesa tres países antes de llegar al mar."
ITALIAN = "Il fiume nasce tra le montagne e attraversa tre paesi prima di arrivare al mare."
GERMAN = "Der Fluss entspringt in den Bergen und fließt durch drei Länder, bevor er das Meer erreicht."
RUSSIAN = "Река берёт начало в горах и протекает через три страны, прежде чем впасть в море."
UKRAINIAN = "Річка бере початок у горах і протікає через три країни, перш ніж потрапити до моря."


@pytest.fixture(scope="module")
def identifier() -> LinguaIdentifier:
    return LinguaIdentifier(LANGUAGES)


def tags(identifier: LanguageIdentifier, *texts: str) -> list[str | None]:
    return [found.tag for found in identifier.identify(texts)]


def test_tells_the_runs_languages_in_order(identifier: LinguaIdentifier) -> None:
    assert isinstance(identifier, LanguageIdentifier)
    assert tags(identifier, SPANISH, ENGLISH, RUSSIAN, GERMAN) == ["es", "en", "ru", "de"]


def test_near_neighbours_are_not_taken_for_the_runs_languages(identifier: LinguaIdentifier) -> None:
    """Without Italian and Ukrainian among the choices these would be Spanish and Russian."""
    assert tags(identifier, ITALIAN, UKRAINIAN) == ["it", "uk"]


def test_a_text_is_judged_by_itself_and_only_once(identifier: LinguaIdentifier) -> None:
    together = identifier.identify([SPANISH, ENGLISH, SPANISH])
    assert (
        together[0]
        == together[2]
        == identifier.identify([SPANISH])[0]
        == LinguaIdentifier(LANGUAGES).identify([SPANISH])[0]
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "Ja.",
        "😌🐱",
        "x = 3 + y",
        "```python\nfor word in the_list_of_words:\n    print(word)\n```",
        "for word in words:\n    print(word)\n    return {word: None}",
        "https://example.org/the-quick-brown-fox-jumps-over-the-lazy-dog",
        "1. Meryl Streep\n2. Hugh Jackman\n3. Denzel Washington\n4. Viola Davis\n5. Audra McDonald",
        r"\[ \text{where the sum is over all of the terms} = \frac{1}{2} \]",
    ],
)
def test_code_numbers_names_and_short_texts_are_undetermined(identifier: LinguaIdentifier, text: str) -> None:
    assert tags(identifier, text) == [None]


def test_code_does_not_outweigh_the_words_around_it(identifier: LinguaIdentifier) -> None:
    code = "```python\n" + "# this is a comment that is in the English language\n" * 20 + "```"
    assert tags(identifier, f"{SPANISH}\n\n{code}") == ["es"]


def test_running_words_leave_out_what_is_the_same_everywhere() -> None:
    text = "Siehe `the code`, $$the formula$$, <b>fett</b>, max@example.org und #TheTag: Paris ist schön, v2 nicht."
    assert running_words(text) == ["fett", "und", "ist", "schön", "nicht"]


def test_another_script_is_told_even_when_no_language_of_the_run_has_it(identifier: LinguaIdentifier) -> None:
    (found,) = identifier.identify(["我喜欢每天早上吃面包和鸡蛋，然后去上班。"])
    assert (found.tag, found.method) == ("und-Hans", "script")


def test_languages_without_spaces_are_told_among_foreign_words() -> None:
    told = LinguaIdentifier(("en", "zh-Hans", "th"))
    assert tags(
        told, "使用Python编写一个函数来计算列表中所有数字的总和。", "ใช้ Python เขียนฟังก์ชันเพื่อหาผลรวมของตัวเลข"
    ) == ["zh", "th"]


def test_a_language_that_lingua_lacks_is_told_by_its_script_where_that_tells() -> None:
    told = LinguaIdentifier(("en", "am", "jv"))
    assert told.by_script == {"am", "jv"}
    (found,) = told.identify(["ሰላም ለዓለም እንዴት ናችሁ ዛሬ ጠዋት"])
    assert (found.tag, found.method) == ("am", "script")
    # Javanese and the languages beside English share the Latin script: only a language of the run is told.
    assert tags(told, ENGLISH, GERMAN) == ["en", None]


def test_bengali_swahili_and_thai_are_known_to_lingua() -> None:
    assert LinguaIdentifier(("bn", "sw", "th")).by_script == frozenset()


def test_close_kin_stands_for_the_language_of_the_run() -> None:
    """Serbian in Latin letters reads as Croatian or Bosnian, which a Serbian run does not tell apart."""
    told = LinguaIdentifier(("en", "sr"))
    latin = "Reka izvire u planinama i protiče kroz tri zemlje pre nego što stigne do mora, a mi smo je videli."
    cyrillic = "Река извире у планинама и протиче кроз три земље пре него што стигне до мора, а ми смо је видели."
    assert tags(told, latin, cyrillic) == ["sr", "sr"]


def test_a_macrolanguage_is_told_by_its_own_tag() -> None:
    text = (
        "Elva renner fra fjellet gjennom tre land før den når havet, og jeg har ikke sett noe vakrere hele livet mitt."
    )
    assert tags(LinguaIdentifier(("en", "no")), text) == ["no"]


def test_the_margin_decides_what_is_undetermined() -> None:
    text = "la casa de mi madre"
    (loose,) = LinguaIdentifier(LANGUAGES, margin=0.0, letters=1).identify([text])
    (strict,) = LinguaIdentifier(LANGUAGES, margin=1.0, letters=1).identify([text])
    assert (loose.tag, strict.tag) == ("es", None)
    assert loose.confidence == strict.confidence < 0.5


def test_a_single_language_needs_no_detector() -> None:
    assert tags(LinguaIdentifier(("th",)), "วันนี้อากาศดีมากเลยครับ", ENGLISH) == ["th", "und-Latn"]


def test_settings_and_languages_are_in_the_fingerprint() -> None:
    prints = {
        LinguaIdentifier(LANGUAGES).fingerprint,
        LinguaIdentifier(LANGUAGES[:-1]).fingerprint,
        LinguaIdentifier(LANGUAGES, margin=0.9).fingerprint,
        LinguaIdentifier(LANGUAGES, letters=40).fingerprint,
    }
    assert len(prints) == 4
    assert LinguaIdentifier(LANGUAGES).fingerprint in prints


def test_the_tables_name_languages_that_lingua_knows() -> None:
    from lingua import Language

    known = {language.iso_code_639_1.name.lower() for language in Language.all()}
    assert {*NEIGHBOURS, *" ".join(NEIGHBOURS.values()).split(), *" ".join(KIN).split()} <= known


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("th", "แม่น้ำไหลผ่านสามประเทศก่อนจะไปถึงทะเล"),
        ("bn", "নদীটি সাগরে পৌঁছানোর আগে তিনটি দেশের মধ্য দিয়ে প্রবাহিত হয়"),
        ("ko", "강은 산에서 시작하여 바다에 이르기 전에 세 나라를 지나간다"),
        ("el", "ο ποταμός περνά από τρεις χώρες πριν φτάσει στη θάλασσα"),
    ],
)
def test_a_script_that_one_language_alone_is_written_in_is_told_without_lingua(lang: str, text: str) -> None:
    """And what lingua says of the same text is the same, also of one that is mixed, which is left to it."""
    fast, slow = LinguaIdentifier(("en", lang)), LinguaIdentifier(("en", lang))
    slow._alone = {}
    texts = [text, f"{text} {ENGLISH.lower()}", text[:20], text.split()[0]]
    assert tags(fast, *texts) == tags(slow, *texts)
    told = [(found.tag, found.method) for found in fast.identify(texts[:2])]
    assert told[0] == (lang, "script")
    assert told[1][1] == "lingua"
    assert slow.identify(texts)[0].method == "lingua"


@pytest.fixture(scope="module")
def thai_by_script_and_by_lingua() -> tuple[LinguaIdentifier, LinguaIdentifier]:
    fast, slow = LinguaIdentifier(("en", "th")), LinguaIdentifier(("en", "th"))
    slow._alone = {}
    return fast, slow


PIECES = st.sampled_from(
    [
        "แม่น้ำ",
        "ไหล",
        "ที่ ",
        " ",
        "\n",
        "`",
        "```",
        "$$",
        "$",
        "\\(",
        "<",
        ">",
        "=",
        "f(",
        ")",
        ";",
        "#",
        "@ก.ข",
        "7",
        "x",
        "。",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_code_formulas_and_marks_change_no_verdict_of_the_script(
    thai_by_script_and_by_lingua: tuple[LinguaIdentifier, LinguaIdentifier], text: str
) -> None:
    one, other = thai_by_script_and_by_lingua
    assert tags(one, text) == tags(other, text)


def test_a_script_of_several_languages_is_left_to_lingua() -> None:
    """Cyrillic is Ukrainian's too, Han Chinese and Japanese, Devanagari Marathi's."""
    for lang, text in (
        ("ru", RUSSIAN),
        ("zh", "这条河发源于山中流经三个国家最后注入大海"),
        ("hi", "नदी समुद्र तक पहुँचने से पहले तीन देशों से होकर बहती है"),
    ):
        [found] = LinguaIdentifier(("en", lang)).identify([text])
        assert (found.tag, found.method) == (lang, "lingua")


# --- real answers --------------------------------------------------------------------------------------------------

FUNCTION_WORDS = {
    "en": "the and of to is that with for are this you was be have not",
    "es": "el la los de que y en un una es con para por se del las",
    "de": "der die das und ist nicht ein eine zu mit von den für auf dem sie es ich",
    "fr": "le la les des et de un une est que pour dans du vous avec",
    "ru": "и в не на что с для это как по из к",
    "sw": "ya na wa kwa ni za katika la cha kama au hii hivyo pia lakini",
}


def prose(text: str) -> str:
    """Without code and without what stands in quotation marks or is a numbered title."""
    text = re.sub(r"```.*?(```|\Z)", " ", text, flags=re.DOTALL)
    return re.sub(r"[\"“«][^\"”»]*[\"”»]|^\s*\d+\.[^a-zà-ÿ]*[A-Z].*$", " ", text, flags=re.MULTILINE)


def plainly(text: str, lang: str) -> str | None:
    """An independent judge: the language whose function words are five times as many as the other's and at least 5;
    ``en`` or ``lang``, None where neither is plain."""
    words = re.findall(r"\w+", prose(text).lower())
    english, own = (sum(w in FUNCTION_WORDS[tag].split() for w in words) for tag in ("en", lang))
    if english >= 5 and english > 5 * own:
        return "en"
    return lang if own >= 5 and own > 5 * english else None


def test_off_language_answers_of_real_models_are_found(identifier: LinguaIdentifier, real_data: Path) -> None:
    """805 answers a file, to prompts in the file's language. Of the answers that function words call English nearly
    all are found; of those in the prompt's language hardly one is called another (one prompt asks for French)."""
    english_found = english = own_dropped = own = 0
    for name in ("3.5-turbo-0125/de", "3.5-turbo-0125/es", "3.5-turbo-0125/ru", "4-turbo-2024-04-09/sw"):
        file = real_data / f"responses/x_alpacaeval/gpt-{name}.jsonl"
        texts = [json.loads(line)["response"] for line in file.read_text(encoding="utf-8").splitlines()]
        for text, found in zip(texts, identifier.identify(texts), strict=True):
            plain = plainly(text, file.stem)
            english += plain == "en"
            english_found += plain == "en" and found.tag == "en"
            own += plain == file.stem
            own_dropped += plain == file.stem and found.tag not in (None, file.stem)
    assert english > 60
    assert english_found >= 0.95 * english
    assert own > 2000
    assert own_dropped <= 0.003 * own


@pytest.mark.parametrize("lang", ["ar", "bn", "de", "en", "es", "fr", "it", "ja", "ko", "ru", "sw", "th", "zh"])
def test_real_prompts_are_hardly_ever_called_another_language(real_data: Path, lang: str) -> None:
    """805 prompts a language, told apart among thirteen; a few hold a text in another language."""
    told = LinguaIdentifier(("ar", "bn", "de", "en", "es", "fr", "it", "ja", "ko", "ru", "sw", "th", "zh"))
    rows = json.loads((real_data / f"prompts/x_alpacaeval/{lang}.json").read_text(encoding="utf-8"))
    found = tags(told, *(row["instruction"] for row in rows))
    assert sum(tag not in (None, lang) for tag in found) <= 2
    assert sum(tag == lang for tag in found) >= 0.8 * len(found)
