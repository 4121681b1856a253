"""Locks between processes, and what is written aside: whole or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.atomic import complete_replacements, is_unfinished, lock, name_folder, replace_file, replace_folder
from data.errors import DataError

HOLDER = """
import sys, time
from pathlib import Path
from data.atomic import lock
from data.errors import DataError

with lock(Path(sys.argv[1]), DataError):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_others_out_and_names_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with lock(path, DataError):
        with pytest.raises(DataError, match=f"^{os.getpid()}$"), lock(path, DataError):
            raise AssertionError("two have it")
        with pytest.raises(DataError), lock(path, DataError):  # who was refused takes it from nobody
            raise AssertionError("two have it")
    with lock(path, DataError):  # given back, its file stays
        pass
    assert path.exists()


@pytest.mark.heavy
def test_a_lock_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"^{holder.pid}$"), lock(path, DataError):
            raise AssertionError("two have it")
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 5
    while True:
        try:
            with lock(path, DataError):
                return
        except DataError:
            assert time.monotonic() < deadline


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for durable in (False, True):
        with replace_file(path, durable=durable) as new:
            assert new.parent == tmp_path
            assert new.name.startswith("_")
            new.write_text(f"whole {durable}")
        assert path.read_text() == f"whole {durable}"
    with pytest.raises(UnicodeEncodeError), replace_file(path) as new:
        new.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "whole True"
    with replace_file(path) as new:
        new.write_text("again")
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def fill(path: Path, text: str) -> None:
    with replace_folder(path) as new:
        assert list(new.iterdir()) == []
        (new / "text").write_text(text)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "policies" / "shop"
    fill(path, "first")
    (path / "of the first").touch()
    with pytest.raises(IsADirectoryError), replace_folder(path) as new:
        new.write_text("no folder takes text")
    assert is_unfinished(new)
    assert (path / "text").read_text() == "first"
    fill(path, "second")
    assert [file.name for file in path.iterdir()] == ["text"]
    assert (path / "text").read_text() == "second"
    assert [folder.name for folder in path.parent.iterdir()] == ["shop"]
    assert not is_unfinished(path)


def test_a_replacement_that_was_killed_between_its_renames_is_completed(tmp_path: Path) -> None:
    fill(tmp_path / "a", "old")
    (tmp_path / "a").rename(tmp_path / "a.old")
    fill(tmp_path / "new", "new")
    (tmp_path / "new").rename(tmp_path / "a.new")
    fill(tmp_path / "b", "new")
    fill(tmp_path / "old", "old")
    (tmp_path / "old").rename(tmp_path / "b.old")  # killed after the second rename
    complete_replacements(tmp_path)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["a", "b"]
    assert [(tmp_path / name / "text").read_text() for name in "ab"] == ["new", "new"]


def test_who_is_second_to_name_a_folder_leaves_that_of_the_first(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        fill(tmp_path / name, name)
        name_folder(tmp_path / name, tmp_path / "digest")
    assert (tmp_path / "digest" / "text").read_text() == "mine"
    assert [folder.name for folder in tmp_path.iterdir()] == ["digest"]
    with pytest.raises(FileNotFoundError):
        name_folder(tmp_path / "none", tmp_path / "other")
