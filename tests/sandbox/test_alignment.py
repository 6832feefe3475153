"""Word embeddings that start out alike: what is mixed, how much, and that it is off unless it is asked for."""

from __future__ import annotations

import pytest
import torch

from polypref.sandbox.alignment import align, concepts
from polypref.sandbox.tokenizer import build_tokenizer
from polypref.sandbox.world import SUMMARY, TASKS

STD = 0.05


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(0)


def aligned(tokenizer, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of width 4096, so that cosines of independent ones are within 4 / √4096 = .0625 of 0; before and after."""
    torch.manual_seed(0)
    before = torch.randn(len(tokenizer), 4096) * STD
    after = before.clone()
    align(after, tokenizer, share, STD)
    return before, after


def row(tokenizer, embedding: torch.Tensor, word: str) -> torch.Tensor:
    [token] = tokenizer(word, add_special_tokens=False)["input_ids"]
    return embedding[token]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_translations_correlate_by_the_share_and_other_words_do_not(tokenizer, share: float) -> None:
    """√a·u + √(1 − a)·v of two words with the same u has correlation a."""
    _, after = aligned(tokenizer, share)
    assert cosine(row(tokenizer, after, " three"), row(tokenizer, after, " drei")) == pytest.approx(share, abs=0.0625)
    assert cosine(row(tokenizer, after, " dog"), row(tokenizer, after, " mbwa")) == pytest.approx(share, abs=0.0625)
    assert cosine(row(tokenizer, after, " three"), row(tokenizer, after, " vier")) == pytest.approx(0, abs=0.0625)


def test_the_size_of_the_entries_stays(tokenizer) -> None:
    _, after = aligned(tokenizer, 0.95)
    assert float(row(tokenizer, after, " three").std()) == pytest.approx(STD, rel=0.05)


def test_what_is_no_word_of_a_concept_stays_as_it_was(tokenizer) -> None:
    before, after = aligned(tokenizer, 0.95)
    words = {
        tuple(tokenizer(f"{space}{w}", add_special_tokens=False)["input_ids"])
        for c in concepts()
        for w in c
        for space in ("", " ")
    }
    touched = {ids[0] for ids in words if len(ids) == 1}
    kept = [token for token in range(len(tokenizer)) if token not in touched]
    assert torch.equal(before[kept], after[kept])
    assert not torch.isclose(before[list(touched)], after[list(touched)]).all(dim=1).any()


def test_concepts_are_columns_of_the_lexicon() -> None:
    found = concepts()
    assert ("three", "tres", "drei", "trois", "tatu") in found
    assert ("soup", "sopa", "Suppe", "soupe", "supu") in found
    assert ("then", "luego", "dann", "puis", "kisha") in found
    assert ("up", "subiendo", "aufwärts", "montant", "kupanda") in found


def test_only_the_tasks_that_are_asked_lend_their_words() -> None:
    """Summarise, Resume, Fasse … zusammen: nothing of them is drawn for a model that is not asked to summarise."""
    assert set(concepts((*TASKS, SUMMARY))) - set(concepts()) == {
        ("Summarise", "Resume", "Fasse", "Résume", "Fupisha"),
        ("Summarise", "Resume", "zusammen", "Résume", "Fupisha"),
    }
