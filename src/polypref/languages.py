"""Language codes, names, scripts and writing directions, by BCP-47 (``langcodes``)."""

from __future__ import annotations

import functools
import re

from polypref.errors import InputError

NAME = re.compile(r"[A-Za-z][A-Za-z' ()-]+[A-Za-z)]")
RIGHT_TO_LEFT_SCRIPTS = frozenset({"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg", "Samr", "Mand"})


@functools.cache
def normalise(code: str) -> str:
    """The BCP-47 tag of a code (``es``, ``deu_Latn``, ``zh_Hans``) or of an English name (``Spanish``).

    Raises:
        InputError: the code names no language.
    """
    import langcodes

    try:
        if langcodes.tag_is_valid(code):
            # The code that FLORES and others have for a language's usual form (arb, swh) is that language's (ar, sw).
            return langcodes.standardize_tag(code, macro=True)
        if not NAME.fullmatch(code):
            raise LookupError(code)
        found = langcodes.find(code, language="en")
        if found.display_name("en").casefold() != code.casefold():
            raise LookupError(code)  # langcodes finds a language in nearly any word
        return found.to_tag()
    except (LookupError, ValueError, AttributeError, TypeError):
        raise InputError(
            f"{code!r} is no language; write a BCP-47 code such as es or zh-Hans, or an English name such as Spanish"
        ) from None


@functools.cache
def name(tag: str) -> str:
    """The English name of a normalised tag, as prompts use it: ``es`` gives ``Spanish``."""
    import langcodes

    return langcodes.Language.get(tag).display_name("en")


def primary(tag: str) -> str:
    """The language of a tag without script and region: ``zh-Hans`` gives ``zh``."""
    return tag.partition("-")[0]


def same(found: str, wanted: str) -> bool:
    """Whether two tags name one language, whatever its script: identifiers tell ``zh``, not ``zh-Hans``."""
    return primary(found) == primary(wanted)


@functools.cache
def script(tag: str) -> str:
    """The four-letter script that a language is usually written in: ``ru`` gives ``Cyrl``."""
    import langcodes

    return langcodes.Language.get(tag).maximize().script or "Zyyy"


def right_to_left(tag: str) -> bool:
    """Whether the language is written from right to left."""
    return script(tag) in RIGHT_TO_LEFT_SCRIPTS
