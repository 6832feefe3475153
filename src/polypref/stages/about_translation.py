"""Which prompts are about translation: "Translate into German: …", "How do you say cheese in French?".

Of these a translated answer is no answer (LIDR, arXiv 2410.08964, §3), so ``imbalance`` takes the untranslated one.
They are listed by id, or detected by a small reader: a sentence that orders a translation, or asks how something is
said, and names a language as such an order does. It errs towards no, since a yes puts an answer in the pivot's
language above one in the prompt's own.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from polypref import languages
from polypref.errors import InputError
from polypref.records import Example
from polypref.stages.asked_language import ENGLISH_NOUN, NAMED
from polypref.stages.prompt_instruction import plain

_CODES: Final = (*NAMED.split(), "gl", "kn", "or", "si")
_SENTENCE: Final = re.compile(r"(?<=[.!?؟])\s+|[\n。！？।]+")

_HEAD: Final = r"(?:^\W*|(?<=:)|(?<=: ))"
_ORDERED: Final = (
    r"(?:^\W*|(?<=[:;,>)])|(?<=[:;,>)] )|(?:please|and|then|must|should|now|help (?:me|us)|"
    r"(?:can|could|would|will) you|(?:are|about) to|"
    r"(?:want|need|like|ask|asked|have|required|instructed)(?: you| me| us)? to|(?:task|job|goal|aim) is to) )"
)
"""What stands before an English order: "a program to translate" is none."""

_ASKS: Final[Mapping[str, tuple[str, ...]]] = {
    "ar": (
        "ترجم(?:ي|وا|ها|ه)?|أن تترجم(?:ها|ه)?|(?:قم ب|مهمتك (?:هي )?|المطلوب )ترجمة",
        _HEAD + "ترجمة",
        "كيف (?:تقول|نقول|أقول|يقال)",
    ),
    "bn": ("অনুবাদ (?:প্রদান )?কর|রূপান্তর কর", "(?:কীভাবে|কিভাবে|কী).*বল"),
    "de": (
        r"übersetzen? sie|übersetze?|^.{0,40}übersetzen|^(?!.*\bum\b).*\bzu übersetzen",
        r"(?:müssen|sollen|können|sollst|musst|kannst)\b.*übersetzen",
        r"konvertieren sie|umzuwandeln|(?:gib|geben sie|stellen sie)\b.*übersetzung",
        _HEAD + "übersetzung",
        "wie (?:sagt man|sage ich|sagst du|heißt|lautet)",
    ),
    "en": (
        _ORDERED + r"(?:translates?|convert|turn|render|put)",
        _ORDERED + r"(?:provide|give|write|produce)\b.*\btranslation",
        _HEAD + r"translation",
        r"about translating",
        r"how (?:do|does|would|can|could|should|to|is|are|did)\b.*\b(?:say|said|translated?)",
        r"what(?:'s|’s| is| are)? (?:[\"'“«‘„].*|.*(?:words?|phrase|term|translation|equivalent) (?:for|of))",
        r"what does .*mean",
    ),
    "es": (
        r"(?<!para )traducir(?:l[aoe]s?)?|trad[uú](?:ce|zca)(?:n|s)?(?:l[aoe]s?)?",
        r"convi[eé]rt[ae]l[ao]s?|convertirl[ao]s?",
        _HEAD + r"traducción|proporcion[ea]\b.*\btraducción",
        r"cómo (?:se dice|se escribe|digo|dirías|puedo decir)",
    ),
    "fr": (
        r"(?<!pour )(?<!pour le )(?<!pour la )traduire|tradui(?:s|sez)(?:-l[ea]s?)?",
        r"convertir|convertissez(?:-l[ea]s?)?",
        _HEAD + r"traduction|fourni(?:r|ssez)\b.*\btraduction",
        r"comment (?:dit-on|dire|dites-vous|dis-tu|dirais-tu|diriez-vous|dit)",
    ),
    "it": (
        r"(?<!per )tradur(?:re|l[aoie])|tradu(?:ci|ca|cete)(?:l[aoie])?|converti(?:l[aoie])?",
        _HEAD + r"traduzione|forni(?:sci|re)\b.*\btraduzione",
        r"come (?:si dice|dici|diresti|posso dire)",
    ),
    "ja": (r"翻訳(?:し|す|せ|[:：]|$)|訳(?:して|しな|すこと|せ)|変換(?:し|す)", r"(?:何|なん|どう)(?:と|て)?(?:言|い)"),
    "ko": (r"번역(?:하|해)|변환(?:하|해)", r"어떻게.*(?:말|쓰)|뭐라고"),
    "pt": (
        r"(?<!para )traduzi(?:r|-l[ao]s?)|traduz(?:a|am|e)?(?:-[ao]s?)?|conver(?:ta|te)(?:-[ao]s?)?|convertê-l[ao]s?",
        _HEAD + r"tradução|forneça\b.*\btradução",
        r"como (?:se diz|se escreve|você diz|você diria|digo|dizer)",
    ),
    "ru": (
        r"(?<!чтобы )перевести|переведи(?:те)?|преобразуйте|преобразовать",
        _HEAD + r"перевод|предоставьте\b.*\bперевод",
        r"как (?:сказать|будет|сказали бы|говорят|перевести|переводится)",
    ),
    "sw": (
        r"(?:ku|u)(?:i|zi|li|vi)?tafsiri|(?:i|zi|li|vi)tafsiri|(?:ku)?(?:i|zi|li)?badilish[ae] kuwa",
        r"(?:^\W*|(?<=[:,])|(?<=[:,] )|tafadhali )tafsiri",
        r"(?:una|tuna|wana|nina)semaje",
    ),
    "th": (
        "(?<!การ)(?<!คำ)(?<!ดัด)(?<!เปลี่ยน)(?<!เครื่อง)แปล(?!ก|ว่า|ง)|"
        "(?<!ดัด)(?<!เปลี่ยน)แปลง(?:เป็นภาษา|ประโยค)|การแปล(?:ประโยค|ข้อความ|จาก|ง)",
        "พูดว่า|ว่าอย่างไร|ว่ายังไง",
    ),
    "zh": (
        r"翻[译譯](?:成|为|為|到|以下|下列|下面|这|這|此|一下|[:：])|(?<!翻)[译譯][成为為]|转[换化]成|轉[換化]成|提供.*翻译",
        r"怎么[说写]|怎麼[說寫]|如何.{0,4}[说說]|[说說][“\"「]",
    ),
}
"""How a translation is asked for, as alternatives."""

_NOUN: Final = rf"(?:{ENGLISH_NOUN}|(?= in\b))"
_TONGUES: Final[Mapping[str, str]] = {
    "ar": r"(?:ب|إلى |من |اللغة )(?:اللغة )?(?:{names})",
    "bn": r"(?:{names})(?:তে|য়| ভাষায়| ভাষা থেকে| থেকে)",
    "de": r"(?<!\w)(?:auf|ins|in(?: die)?|vom|von|aus dem|nach|für) (?:{names})(?:e[nr]?)?(?!\w)",
    "en": r"\b(?:in|into|to|from) (?:the )?(?:[a-z]+ )?(?:(?:{names})\b" + _NOUN + r"|(?-i:[A-Z][a-z]+) language)"
    r"|\b(?:{names}) (?:words?|phrase|term|translation|equivalent) (?:for|of)\b",
    "es": r"(?<!\w)(?:en|al?|del?) (?:idioma )?(?:{names})(?!\w)",
    "fr": r"(?<!\w)(?:en|au|du|vers l[e’']|de l[’']|à l[’']|vers) ?(?:(?:la )?langue )?(?:{names})e?(?!\w)",
    "it": r"(?<!\w)(?:in|dal|al|nel|dall[’']|all[’']|nell[’']) ?(?:lingua )?(?:{names})(?!\w)",
    "ja": r"(?:{names})(?:に|へ|から|で|を)",
    "ko": r"(?:{names})(?:로|에서|를)",
    "pt": r"(?<!\w)(?:em|para o|para|do|ao|no) (?:idioma )?(?:{names})(?!\w)",
    "ru": r"(?<!\w)(?:на|с|по)(?: язык| языка)?[ -](?:{names})",
    "sw": r"(?<!\w)(?:{names})(?!\w)",
    "th": r"ภาษา ?(?:{names})",
    "zh": r"(?:{names})",
}
"""How a sentence names the language that is translated into or from."""

_INSIDE: Final = frozenset({"bn", "ja", "ko", "th", "zh"})
"""Written without spaces, or with endings on the verb: what asks may stand before more letters."""


def about_translation(example: Example, pivot: str) -> bool:
    """Whether the prompt in the pivot asks for a translation.

    Every turn of the user counts, since an answer to "make it shorter" is a translation still.

    Raises:
        InputError: the pivot is a language whose prompts cannot be read.
    """
    asks, tongue = _reader(languages.primary(pivot))
    for message in plain(example).prompts.get(pivot, ()):
        text = unicodedata.normalize("NFC", str(message["content"]))
        # Few sentences name a language, so that is asked first.
        if message["role"] == "user" and any(tongue.search(s) and asks.search(s) for s in _SENTENCE.split(text)):
            return True
    return False


@functools.cache
def _reader(lang: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds an order to translate, and the language that it names."""
    import langcodes

    if lang not in _ASKS:
        raise InputError(
            f"prompts about translation can be detected in {', '.join(_ASKS)}, not in the pivot {lang}; list their "
            "ids in translation_prompts"
        )
    names = {langcodes.Language.get(code).display_name(lang) for code in _CODES}
    if lang == "ru":
        # Adjectives: «на французский», «с французского».
        names = {name.removesuffix("ий") if name.endswith("ский") else name for name in names}
    if lang == "zh":
        names |= {name[:-1] + "文" for name in names if name.endswith("语")}
    asks = "|".join(_ASKS[lang])
    tongue = _TONGUES[lang].replace("{names}", "|".join(re.escape(name) for name in sorted(names)))
    asks, tongue = (unicodedata.normalize("NFC", pattern) for pattern in (asks, tongue))
    return re.compile(asks if lang in _INSIDE else rf"(?<!\w)(?:{asks})(?!\w)", re.I), re.compile(tongue, re.I)


def read_ids(path: Path | str) -> tuple[str, ...]:
    """The ids of a JSON list of strings or whole numbers, as strings.

    Raises:
        InputError: the file cannot be read, or holds no such list.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a JSON list of ids") from None
    except ValueError as error:
        raise InputError(f"{path.name}: not JSON ({error}); write a list of ids") from None
    if not isinstance(found, list) or not all(isinstance(i, str | int) and not isinstance(i, bool) for i in found):
        raise InputError(f"{path.name}: holds no list of ids; write a JSON list of strings")
    return tuple(str(i) for i in found)
