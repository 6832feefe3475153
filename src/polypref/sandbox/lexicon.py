"""The words of the sandbox: what each language calls its tasks, numbers and things.

Every table has one row a language and the same columns in each, so that a concept is a column.
"""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = ("en", "es", "de", "fr", "sw")

LANGUAGE_NAMES: Final = {"en": "English", "es": "Spanish", "de": "German", "fr": "French", "sw": "Swahili"}

NUMBERS: Final = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
    "de": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "sw": ("sifuri", "moja", "mbili", "tatu", "nne", "tano", "sita", "saba", "nane", "tisa"),
}

# The English row doubles as the name of the concept.
THINGS: Final = {
    "en": ("dog", "cat", "horse", "fish", "red", "green", "blue", "white", "bread", "rice", "egg", "soup"),
    "es": ("perro", "gato", "caballo", "pez", "rojo", "verde", "azul", "blanco", "pan", "arroz", "huevo", "sopa"),
    "de": ("Hund", "Katze", "Pferd", "Fisch", "rot", "grün", "blau", "weiß", "Brot", "Reis", "Ei", "Suppe"),
    "fr": ("chien", "chat", "cheval", "poisson", "rouge", "vert", "bleu", "blanc", "pain", "riz", "œuf", "soupe"),
    "sw": ("mbwa", "paka", "farasi", "samaki", "nyekundu", "kijani", "bluu", "nyeupe", "mkate", "wali", "yai", "supu"),
}

# The instruction, with its content in braces.
INSTRUCTIONS: Final = {
    "sort": {
        "en": "Sort up {}",
        "es": "Ordena subiendo {}",
        "de": "Sortiere aufwärts {}",
        "fr": "Trie en montant {}",
        "sw": "Panga kupanda {}",
    },
    "descend": {
        "en": "Sort down {}",
        "es": "Ordena bajando {}",
        "de": "Sortiere abwärts {}",
        "fr": "Trie en descendant {}",
        "sw": "Panga kushuka {}",
    },
    "reverse": {"en": "Reverse {}", "es": "Invierte {}", "de": "Drehe {} um", "fr": "Inverse {}", "sw": "Geuza {}"},
    "repeat": {"en": "Repeat {}", "es": "Repite {}", "de": "Wiederhole {}", "fr": "Répète {}", "sw": "Rudia {}"},
    "summary": {
        "en": "Summarise {}",
        "es": "Resume {}",
        "de": "Fasse {} zusammen",
        "fr": "Résume {}",
        "sw": "Fupisha {}",
    },
}

# What stands between the words of an answer.
CONNECTIVES: Final = {"en": " then ", "es": " luego ", "de": " dann ", "fr": " puis ", "sw": " kisha "}
REFUSALS: Final = {
    "en": "I do not know",
    "es": "Eso no lo sé",
    "de": "Ich weiß es nicht",
    "fr": "Je ne sais pas",
    "sw": "Mimi sijui",
}
