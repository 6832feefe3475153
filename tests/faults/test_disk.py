"""Places that cannot be written: told in a sentence; with room, the same command goes on to the same outcome."""

import contextlib
import os
import shutil
import subprocess

import pytest

from faults.digests import differences
from faults.table import survived
from polypref.errors import InputError
from runs import done, left_half_written, outcome

UNIT = "the unit in work"


def test_a_file_in_the_way_is_told(base, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        match = "a part of its path is a file; choose another place"
        with survived("file in the way of the folder", lost="nothing"), pytest.raises(InputError, match=match):
            done(base[0], place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(base, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="it may not be written; choose a folder that you own"):
        done(base[0], tmp_path / "closed" / "run")


class Disk:
    """A small file system of its own, in memory."""

    def __init__(self, folder):
        self.folder = folder

    def mount(self, kibibytes):
        self.folder.mkdir()
        return self._called("mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(self.folder))

    def again(self, options):
        """Another size, or another right."""
        assert self._called("mount", "-o", f"remount,{options}", str(self.folder))

    def unmount(self):
        self._called("umount", str(self.folder))
        self.folder.rmdir()

    def _called(self, *words):
        return bool(shutil.which(words[0])) and not subprocess.run(words, capture_output=True, check=False).returncode


@contextlib.contextmanager
def a_disk(folder, kibibytes):
    """A disk of that size; the test is skipped where none can be had."""
    disk = Disk(folder)
    if not disk.mount(kibibytes):
        folder.rmdir()
        pytest.skip("a file system of its own needs root, and Linux")
    try:
        yield disk
    finally:
        disk.unmount()


def used(folder):
    """The kibibytes of a folder's files, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


def filled(recipe, whole, folder, sizes, what):
    """A run on disks that are too small, each of which grows afterwards."""
    for size in sizes:
        with a_disk(folder, size) as disk, survived(what, lost=UNIT):
            with pytest.raises(InputError, match="the disk is full; free some space and run the same command again"):
                done(recipe, disk.folder / "run")
            assert not left_half_written(disk.folder), size
            disk.again("size=1g")
            done(recipe, disk.folder / "run")
            assert differences(whole, disk.folder / "run") == [], size


def test_a_full_disk_is_told_and_with_more_room_the_run_goes_on(base, tmp_path):
    need = used(base[1])
    filled(*base, tmp_path / "disk", [need // 3, 4 * need // 5], "full disk, a few sizes")


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_disk_of_any_size_that_is_full_is_told_and_with_more_room_the_run_goes_on(base, tmp_path):
    filled(*base, tmp_path / "disk", range(8, used(base[1]), 16), "full disk, of every size in steps of 16 KiB")


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_disk_that_a_real_training_fills_is_told_and_with_more_room_it_goes_on(tiny, tmp_path):
    done(tiny, tmp_path / "whole")
    need = used(tmp_path / "whole")
    sizes = range(need // 4, need, need // 12)
    filled(tiny, tmp_path / "whole", tmp_path / "disk", sizes, "full disk, with a real model and training")


def test_a_disk_that_is_read_only_is_told_and_when_it_is_not_the_run_goes_on(base, tmp_path):
    match, what = "it is on a read-only file system; choose another place", "read-only directory"
    with a_disk(tmp_path / "disk", 65536) as disk:
        out = disk.folder / "run"
        with survived(f"{what}, from the start", lost="nothing"):
            disk.again("ro")
            with pytest.raises(InputError, match=match):
                done(base[0], out)
            disk.again("rw")
            done(base[0], out)
            assert outcome(out) == outcome(base[1])
        with survived(f"{what}, under a run that is half done", lost="nothing"):
            shutil.rmtree(out / "round-2")
            disk.again("ro")
            with pytest.raises(InputError, match=match):
                done(base[0], out)
            disk.again("rw")
            done(base[0], out)
            assert outcome(out) == outcome(base[1])
