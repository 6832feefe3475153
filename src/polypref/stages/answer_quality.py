"""How good a model's greedy answers to held-out prompts are: against reference answers, and by a scorer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from polypref.backends.base import Context, Generator, Judged, Request, Sampling, Scorer, ScorerSpec
from polypref.backends.sft_training import Figures
from polypref.errors import InputError, ModelError
from polypref.records import Example, with_system


class AnswerQuality:
    """A ``Measure``: chrF of a model's answers, and with a scorer their mean score, by language.

    chrF is that of a language's whole set (Popović 2015; sacrebleu's defaults), each answer against all references to
    its prompt, 0 to 100. A prompt that cannot be answered (it leaves no room in the model's window) is left out, which
    is said, since all checkpoints leave out the same.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        scorer: ScorerSpec | None,
        max_tokens: int,
        system: Mapping[str, str],
        context: Context,
    ) -> None:
        """
        Args:
            examples: their candidates are the references.
            system: a system prompt by language, which the model reads and the scorer does not.
        """
        self._context, self._spec = context, scorer
        self._sampling = Sampling(temperature=0, max_tokens=max_tokens)
        self._asked: list[tuple[Example, str]] = []
        self._references: list[list[str]] = []
        for example in examples:
            references: dict[str, list[str]] = defaultdict(list)
            for candidate in example.candidates:
                references[candidate.lang].append(candidate.text)
            self._asked += [(example, lang) for lang in references]
            self._references += references.values()
        self._requests = [
            Request(f"{example.id}/{lang}", with_system(example.prompts[lang], system.get(lang)))
            for example, lang in self._asked
        ]

    def __call__(self, generator: Generator) -> Figures:
        """
        Raises:
            InputError: no prompt of a language can be answered.
            ModelError: the scorer gives a language no score, or one that is not finite.
        """
        answers = [completions[0] for completions in generator.generate(self._requests, self._sampling)]
        places: dict[str, list[int]] = defaultdict(list)
        for place, ((_, lang), answer) in enumerate(zip(self._asked, answers, strict=True)):
            places[lang] += [place] if answer.error is None else []
        if failed := sum(answer.error is not None for answer in answers):
            self._context.warn(f"{failed} of {len(answers)} validation prompts cannot be answered and are left out")
        for lang, own in places.items():
            if not own:
                why = next(a.error for (_, tag), a in zip(self._asked, answers, strict=True) if tag == lang)
                raise InputError(f"no validation prompt in {lang} can be answered ({why}); lower max_tokens")
        texts = [answer.text for answer in answers]
        places = {lang: places[lang] for lang in sorted(places)}
        figures = {"chrf": {lang: self._chrf(texts, own) for lang, own in places.items()}}
        if self._spec is not None:
            scorer: Scorer = self._context.open("scorer", self._spec)
            figures["score"] = {lang: self._score(scorer, texts, own, lang) for lang, own in places.items()}
        return figures

    def _chrf(self, texts: Sequence[str], places: Sequence[int]) -> float:
        from sacrebleu.metrics import CHRF

        references = [self._references[place] for place in places]
        most = max(map(len, references))
        # sacrebleu wants one list for the first references, one for the second, and so on.
        lists = [[own[k] if k < len(own) else None for own in references] for k in range(most)]
        return float(CHRF().corpus_score([texts[place] for place in places], lists).score)

    def _score(self, scorer: Scorer, texts: Sequence[str], places: Sequence[int], lang: str) -> float:
        judged = []
        for place in places:
            example, _ = self._asked[place]
            name, prompt = self._requests[place].id, example.prompts[lang]
            judged.append(Judged(name, lang, prompt, texts[place], example.gold, example.category))
        scores = [score for score in scorer.score(judged) if score is not None]
        if not scores or not all(map(math.isfinite, scores)):
            found = f"scores an answer in {lang} that is no number" if scores else f"gives no answer in {lang} a score"
            raise ModelError(
                f"{self._spec.scorer if self._spec else 'the scorer'} {found}; mend the scorer, or set select to loss"
            )
        return math.fsum(scores) / len(scores)
