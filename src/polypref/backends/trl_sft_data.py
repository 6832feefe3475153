"""Demonstrations as the token ids that supervised fine-tuning reads; every row that cannot be used is counted.

A sequence is prompt ids + answer ids + end-of-turn, prompt and answer tokenised apart as in generation and scoring.
The loss sees the answer and its end-of-turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from polypref.backends.sft_training import SFTRow
from polypref.backends.trl_data import IGNORED, Template, Tokenised


def tokenise(rows: Sequence[SFTRow], template: Template, longest: int) -> Tokenised:
    """``input_ids``, ``labels`` and ``lang`` of the rows of at most ``longest`` tokens whose answer has a token.

    Longer ones are left out, never cut.
    """
    found = Tokenised()
    for row in rows:
        prompt = list(template.prompt_ids(row.answer.messages))
        answer = template.answer_tokens(row.answer)[0]
        length = len(prompt) + len(answer)
        if not answer or length > longest:
            found.dropped["too_long" if answer else "empty"] += 1
            continue
        labels = [IGNORED] * len(prompt) + answer
        found.rows.append({"input_ids": prompt + answer, "labels": labels, "lang": row.lang})
        found.languages[row.lang] += 1
        found.longest = max(found.longest, length)
    return found
