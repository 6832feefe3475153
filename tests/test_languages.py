"""Codes, names, scripts."""

import pytest

from polypref import languages
from polypref.errors import InputError


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("es", "es"),
        ("deu_Latn", "de"),
        ("zh_Hans", "zh-Hans"),
        ("pt_BR", "pt-BR"),
        ("Spanish", "es"),
        ("swahili", "sw"),
        ("arb_Arab", "ar"),
        ("swh", "sw"),
        ("hrv", "hr"),
    ],
)
def test_codes_and_names_become_tags(code, tag):
    assert languages.normalise(code) == tag


@pytest.mark.parametrize("code", ["xx-klingon", "", "en-", "Gibberish", "e s"])
def test_what_is_no_language_is_refused(code):
    with pytest.raises(InputError, match="is no language"):
        languages.normalise(code)


def test_names_scripts_and_directions():
    assert languages.name("sw") == "Swahili"
    assert languages.script("ru") == "Cyrl"
    assert languages.right_to_left("ar")
    assert languages.right_to_left("he")
    assert not languages.right_to_left("es")
