"""A shard, a checkpoint or a small result that is not as it was written does not stand, wherever the damage is."""

import json

import pytest

from polypref.errors import InputError
from polypref.records import parse_example, to_json
from polypref.store import checkpoint
from polypref.store.damage import discard_damaged
from polypref.store.parquet import read_rows, sealed, write_rows
from polypref.store.results import keep, kept
from polypref.store.shards import Track, part, standing, write_prompts, write_shard

EXAMPLES = [
    parse_example({"id": str(n), "prompts": {"en": f"What is {n}?", "es": f"¿Qué es {n}?"}, "gold": n})
    for n in range(3)
]


def flip(path, place, bit):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << bit
    path.write_bytes(bytes(raw))


def test_every_flipped_bit_of_a_shard_is_found(tmp_path):
    """Header, pages, footer, the seal itself: each byte of the file, another bit in each."""
    shard = tmp_path / "part-00000.parquet"
    write_shard(shard, "key", [to_json(e) for e in EXAMPLES], failed=2)
    whole = shard.read_bytes()
    assert standing(shard, "key") == 2
    for place in range(0, len(whole), 7):
        flip(shard, place, place % 8)
        assert standing(shard, "key") is None, place
        shard.write_bytes(whole)
    assert standing(shard, "key") == 2


@pytest.mark.parametrize("left", [0, 3, 11, 500, -1])
def test_a_truncated_shard_does_not_stand(tmp_path, left):
    shard = tmp_path / "part-00000.parquet"
    write_shard(shard, "key", [to_json(e) for e in EXAMPLES])
    shard.write_bytes(shard.read_bytes()[:left])
    assert standing(shard, "key") is None


def test_the_same_rows_make_the_same_bytes_and_the_seal_tells_contents_apart(tmp_path):
    names = [tmp_path / f"{n}.parquet" for n in range(3)]
    for name, rows in zip(names, (EXAMPLES, EXAMPLES, EXAMPLES[:2]), strict=True):
        write_rows(name, [to_json(e) for e in rows])
    assert names[0].read_bytes() == names[1].read_bytes()
    assert sealed(names[0]) == sealed(names[1]) != sealed(names[2])


def test_a_file_without_a_seal_is_read_but_is_no_shard(tmp_path):
    import pyarrow.parquet as pq

    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    write_rows(ours, [to_json(e) for e in EXAMPLES], {"key": "k"})
    pq.write_table(pq.read_table(ours), theirs)
    assert [row["id"] for _, row in read_rows(theirs)] == ["0", "1", "2"]
    assert standing(theirs, "k") is None


def test_a_damaged_shard_is_told_by_name_when_it_is_read_and_removed_by_the_next_start(tmp_path):
    write_prompts(tmp_path / "prompts", EXAMPLES, 2)
    track = Track(tmp_path, "prompts", ("en", "es"), "en")
    assert [e.id for e in track.examples()] == ["0", "1", "2"]
    damaged = tmp_path / "prompts" / part(1)
    flip(damaged, damaged.stat().st_size // 2, 3)
    for read in (lambda: track.content(), lambda: list(track.examples())):
        with pytest.raises(InputError, match=r"prompts/part-00001\.parquet is damaged.*run the same command again"):
            read()
    said = []
    discard_damaged(tmp_path, said.append)
    assert [message.partition(" is ")[0] for message in said] == ["prompts/part-00001.parquet"]
    assert sorted(p.name for p in (tmp_path / "prompts").iterdir()) == [part(0)]
    write_prompts(tmp_path / "prompts", EXAMPLES, 2)
    assert [e.id for e in track.examples()] == ["0", "1", "2"]


def test_a_user_s_file_of_ours_that_was_damaged_is_refused(tmp_path):
    path = tmp_path / "mine.parquet"
    write_rows(path, [to_json(e) for e in EXAMPLES])
    flip(path, 20, 1)
    with pytest.raises(InputError, match=r"mine\.parquet"):
        list(read_rows(path))


def test_a_checkpoint_with_a_flipped_bit_is_made_again(tmp_path):
    def work(folder):
        (folder / "model.safetensors").write_bytes(bytes(range(256)))
        return {"steps": 1}

    target = tmp_path / "checkpoint"
    checkpoint.build(target, "k", work)
    assert checkpoint.standing(target, "k") == {"steps": 1}
    flip(target / "model.safetensors", 100, 0)
    assert checkpoint.standing(target, "k") is None
    said = []
    discard_damaged(tmp_path, said.append)
    assert [message.partition(";")[0] for message in said] == [
        "checkpoint is damaged: model.safetensors not as written"
    ]
    checkpoint.build(target, "k", work)
    assert checkpoint.standing(target, "k") == {"steps": 1}
    (target / "model.safetensors").unlink()
    assert checkpoint.standing(target, "k") is None


def test_a_full_disk_in_the_words_of_another_language_is_one_sentence(tmp_path):
    """safetensors and torch raise errors of their own, with the system's words in them."""

    def work(folder):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(InputError, match="the disk is full"):
        checkpoint.build(tmp_path / "checkpoint", "k", work)


def test_a_result_with_a_changed_digit_is_found_anew(tmp_path):
    path = tmp_path / "figures.json"
    keep(path, "k", {"quality": 0.5})
    assert kept(path, "k") == {"quality": 0.5}
    assert kept(path, "other") is None
    path.write_text(path.read_text().replace("0.5", "0.7"))
    assert json.loads(path.read_text())["content"] == {"quality": 0.7}
    assert kept(path, "k") is None
