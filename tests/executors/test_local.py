"""The loop over units: keys, retries, order, and what is left alone."""

import dataclasses

import pytest

from polypref.backends.base import silent
from polypref.errors import InternalError
from polypref.executors.local import Layer, map_units
from polypref.records import Candidate, Drop, Example, Pair
from polypref.store.shards import Track, write_prompts


def message(text):
    return [{"role": "user", "content": text}]


def track(folder, count=5, size=2, **more):
    examples = [Example(str(i), {"en": message(f"say {i}"), "es": message(f"di {i}")}, **more) for i in range(count)]
    write_prompts(folder / "prompts", examples, size)
    return Track(folder, "prompts", ("en", "es"), "en")


class Drawing:
    """Draws three candidates a prompt; those of ``bad`` fail. Keeps what it was asked for."""

    def __init__(self, bad=()):
        self.bad, self.asked = set(bad), []

    def __call__(self, lang, examples):
        for example in examples:
            have = {c.id for c in example.candidates}
            wanted = [i for i in (f"{example.id}/{lang}/{k}" for k in range(3)) if i not in have]
            self.asked += wanted
            new = [Candidate(i, lang, "x", error="no" if i in self.bad else None) for i in wanted]
            drops = [Drop("generate", "failed", lang, i) for i in wanted if i in self.bad]
            yield dataclasses.replace(
                example, candidates=[*example.candidates, *new], dropped=[*example.dropped, *drops]
            )


def lay(on, work, name="generate", settings=1, **how):
    return map_units(on, Layer(name, settings, work, **how), silent)


def ids(on, layer="generate"):
    return [c.id for e in on.over(layer).examples() for c in e.candidates]


def test_every_unit_is_worked_on_once(tmp_path):
    on, work = track(tmp_path), Drawing()
    assert lay(on, work) == 6  # 3 shards of 2 languages
    assert sorted(work.asked) == sorted(ids(on))
    assert lay(on, work) == 0
    assert lay(on, work, settings=2) == 6


@pytest.mark.parametrize("retry", [True, False])
def test_only_what_failed_is_drawn_again_and_takes_its_old_place(tmp_path, retry):
    on, work = track(tmp_path), Drawing(bad=["0/es/1", "3/en/0"])
    lay(on, work, retry=retry)
    order = ids(on)
    work.bad, work.asked = set(), []
    assert lay(on, work, retry=retry) == (2 if retry else 0)
    assert work.asked == (["0/es/1", "3/en/0"] if retry else [])
    assert ids(on) == order
    errors = [c.error for e in on.over("generate").examples() for c in e.candidates if c.error]
    drops = [d for e in on.over("generate").examples() for d in e.dropped]
    assert (len(errors), len(drops)) == ((0, 0) if retry else (2, 2))
    assert lay(on, work, retry=retry) == 0


def test_what_fails_again_is_recorded_once(tmp_path):
    on, work = track(tmp_path), Drawing(bad=["0/es/1"])
    lay(on, work, retry=True)
    kept = (tmp_path / "generate/es/part-00000.parquet").read_bytes()
    assert lay(on, work, retry=True) == 1
    assert (tmp_path / "generate/es/part-00000.parquet").read_bytes() == kept


def test_failures_that_were_there_before_are_no_reason_to_try_again(tmp_path):
    theirs = Candidate("theirs", "es", "", error="no answer")
    on, work = track(tmp_path, candidates=[theirs]), Drawing()
    lay(on, work, retry=True)
    assert lay(on, work, retry=True) == 0
    assert ids(on).count("theirs") == 5


def counting(name="pair"):
    seen = []

    def work(lang, examples):
        for example in examples:
            seen.append((lang, example.id))
            yield dataclasses.replace(example, dropped=[*example.dropped, Drop(name, "seen", lang)])

    return work, seen


def test_a_layer_is_worked_on_again_where_what_it_reads_has_changed(tmp_path):
    on = track(tmp_path)
    lay(on, Drawing())
    work, seen = counting()
    over = on.over("generate")
    lay(over, work, "pair")
    seen.clear()
    lay(on, Drawing(bad=["2/es/0"]), settings=2)  # every file is written anew, with another key in its footer
    assert lay(over, work, "pair") == 6
    seen.clear()
    (tmp_path / "pair/es/part-00001.parquet").unlink()
    assert lay(over, work, "pair") == 1
    assert seen == [("es", "2"), ("es", "3")]


def test_a_layer_of_whole_languages_depends_on_every_shard_of_its_own(tmp_path):
    on = track(tmp_path)
    lay(on, Drawing(bad=["2/es/0"]), retry=True)
    work, _ = counting()
    over = on.over("generate")
    assert lay(over, work, "pair", whole_language=True) == 6
    lay(on, Drawing(), retry=True)  # one shard of es changes
    assert lay(over, work, "pair", whole_language=True) == 3
    work, _ = counting("other")
    assert lay(over, work, "other") == 6
    assert lay(over, work, "other") == 0


def test_another_prompt_changes_the_units_that_read_it(tmp_path):
    on = track(tmp_path)
    lay(on, Drawing())
    examples = [e for i in range(3) for e in on.base(i)]
    changed = dataclasses.replace(examples[4], prompts={**examples[4].prompts, "es": message("otra cosa")})
    write_prompts(tmp_path / "prompts", [*examples[:4], changed], 2)
    assert lay(on, Drawing()) == 1  # only es of the last shard
    changed = dataclasses.replace(changed, prompts={**changed.prompts, "en": message("the pivot")})
    write_prompts(tmp_path / "prompts", [*examples[:4], changed], 2)
    assert lay(on, Drawing()) == 2  # scoring reads the pivot's prompt beside each language's own


def test_stale_shards_go_with_their_prompts(tmp_path):
    on = track(tmp_path)
    lay(on, Drawing())
    track(tmp_path, count=2)
    assert lay(on, Drawing()) == 0
    assert sorted(p.name for p in (tmp_path / "generate").rglob("*.parquet")) == ["part-00000.parquet"] * 2


def test_a_stage_that_loses_an_example_is_found_out(tmp_path):
    def losing(lang, examples):
        yield from list(examples)[:-1]

    with pytest.raises(ValueError, match="shorter"):
        lay(track(tmp_path), losing)
    assert not list((tmp_path / "generate").rglob("*.parquet"))


def test_a_stage_that_takes_something_away_is_found_out(tmp_path):
    on = track(tmp_path)
    lay(on, Drawing())

    def forgetting(lang, examples):
        for example in examples:
            yield dataclasses.replace(example, candidates=example.candidates[1:])

    with pytest.raises(InternalError, match="removed or moved a candidate"):
        lay(on.over("generate"), forgetting, "pair")


@pytest.mark.parametrize("again", [False, True])
def test_the_prompts_of_a_shard_are_read_once_for_all_its_languages(tmp_path, monkeypatch, again):
    on, read = track(tmp_path), []
    if again:  # every unit holds a failure, and is read twice: before the layer and with it
        lay(on, Drawing(bad=[f"{i}/{lang}/0" for i in range(5) for lang in ("en", "es")]), retry=True)
    monkeypatch.setattr(Track, "base", lambda self, index, base=Track.base: read.append(index) or base(self, index))
    assert lay(on, Drawing(), retry=True) == 6
    assert read == [0, 1, 2]


def test_progress_counts_units(tmp_path):
    said = []
    map_units(track(tmp_path), Layer("round-1/generate", 1, Drawing()), lambda *what: said.append(what))
    assert said == [("round-1/generate", k, 6) for k in range(1, 7)]


def beside(lang, examples):
    """A child of every answer, in the other language of the unit."""
    for example in examples:
        assert {c.lang for c in example.candidates} == {"en", lang} == set(example.prompts)
        new = [Candidate(f"{c.id}>", "en" if c.lang == lang else lang, "x", parent=c.id) for c in example.candidates]
        yield dataclasses.replace(
            example,
            candidates=[*example.candidates, *new],
            dropped=[*example.dropped, Drop("translate", "lost", lang), Drop("translate", "lost", "en")],
        )


def above(unit, examples):
    """A pair of the first and the last answer."""
    assert unit == "all"
    for example in examples:
        yield dataclasses.replace(example, pairs=[Pair("en", example.candidates[0].id, example.candidates[-1].id)])


def scoped(folder):
    on = track(folder)
    lay(on, Drawing())
    on = on.over("generate")
    assert lay(on, beside, "translate", scope="with_pivot") == 3  # shards; the pivot has no unit of its own
    on = on.over("translate", "with_pivot")
    assert lay(on, above, "pair", scope="whole") == 3
    return on.over("pair", "whole")


def test_wider_units_see_the_pivot_or_everything_and_the_track_puts_all_together(tmp_path):
    on = scoped(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*/part-00000.parquet")) == [
        "generate/en/part-00000.parquet",
        "generate/es/part-00000.parquet",
        "pair/all/part-00000.parquet",
        "translate/es/part-00000.parquet",
    ]
    whole = next(on.examples())
    assert [c.id for c in whole.candidates if c.parent == f"{whole.id}/en/0"] == [f"{whole.id}/en/0>"]
    assert len(whole.candidates) == 12
    assert len(whole.pairs) == 1
    assert [d.lang for d in whole.dropped] == ["es", "en"]
    assert on.whole()
    assert not on.over("score", "whole").whole()


def test_a_new_language_touches_no_wider_unit_but_the_whole_ones(tmp_path):
    on = scoped(tmp_path)
    more = dataclasses.replace(on, languages=("en",), layers=("generate",), beside=(), above=())
    assert more.content() != on.content()
    again = dataclasses.replace(on, layers=("generate",), beside=(), above=())
    assert lay(again, beside, "translate", scope="with_pivot") == 0
    again = again.over("translate", "with_pivot")
    assert lay(again, above, "pair", scope="whole") == 0
    assert lay(dataclasses.replace(again, beside=()), above, "pair", scope="whole") == 3


@pytest.mark.parametrize(("error", "again"), [("failed: the server", 1), ("wrong_language: de", 0)])
def test_of_a_wider_unit_only_the_translations_that_a_server_gave_up_are_made_again(tmp_path, error, again):
    on = track(tmp_path)
    lay(on, Drawing())
    on = on.over("generate")
    asked = []

    def failing(bad):
        def work(lang, examples):
            for example in examples:
                have = {c.id for c in example.candidates}
                new = [
                    Candidate(f"{c.id}>", lang, "x", parent=c.id, error=error if c.id in bad else None)
                    for c in example.candidates
                    if c.parent is None and f"{c.id}>" not in have
                ]
                asked.extend(c.id for c in new)
                yield dataclasses.replace(example, candidates=[*example.candidates, *new])

        return work

    lay(on, failing({"0/en/1"}), "translate", scope="with_pivot", retry=True)
    asked.clear()
    assert lay(on, failing(()), "translate", scope="with_pivot", retry=True) == again
    assert asked == ["0/en/1>"] * again
    made = [c for e in on.over("translate", "with_pivot").examples() for c in e.candidates]
    assert [c.error for c in made if c.error] == [error] * (1 - again)
