"""A translator that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polypref.backends.translation import Translation, TranslationRequest

Rule = Callable[[TranslationRequest], Translation]


class Scripted:
    """Translates by a rule: else it marks the text with its language, as the fake identifier reads it."""

    fingerprint = "scripted"

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or (lambda r: Translation(f"[{r.target}] {r.text}"))
        self.asked: list[TranslationRequest] = []

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        self.asked += requests
        return [self.rule(r) for r in requests]
