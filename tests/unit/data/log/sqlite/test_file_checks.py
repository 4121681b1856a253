"""The log's file: deleted, replaced, damaged, of other tables, open to others. What is acknowledged is in it."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from data.log.erasures import erase_from_store
from data.log.errors import StoreDamaged, StoreError, StoreLost, StoreUnavailable
from data.log.store import Store
from data.log.writer.process import WriterProcess
from data.private import keep_private
from data.schema import Decision, Event
from serve.api.application import create_api
from tests.support.rows import count_rows
from tests.support.shops import shop_service


def decision(decision_id: str, **fields: Any) -> Decision:
    values = {
        "decision_id": decision_id,
        "time": datetime(2026, 3, 1, tzinfo=UTC),
        "user_id": "u",
        "candidates": ("a", "b"),
        "slate": ("a",),
        "propensities": (0.5,),
        "scores": (0.25,),
        "policy": "random",
        "policy_version": "1",
    }
    return Decision.model_validate(values | fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{path}")) as store:
        yield store


def away(path: Path) -> Path:
    """Move a log away, with what belongs to it."""
    moved = path.parent.parent / "moved"
    moved.mkdir()
    for file in path.parent.glob("store.db*"):
        file.rename(moved / file.name)
    return moved


def back(path: Path, moved: Path) -> None:
    for file in moved.iterdir():
        file.rename(path.parent / file.name)


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


def without_wal(path: Path) -> None:
    path.with_name("store.db-wal").unlink()


@pytest.mark.parametrize("vanish", [deleted, replaced, without_wal, away])
def test_nothing_is_acknowledged_by_a_file_that_is_gone(
    store: Store, path: Path, vanish: Callable[[Path], object]
) -> None:
    store.insert([decision("before")])
    store.check()
    vanish(path)
    for use in (
        lambda: store.insert([decision("after")]),
        lambda: store.decision("before"),
        store.checkpoint,
        store.check,
    ):
        with pytest.raises(StoreLost, match=r"was (deleted|replaced) while it was open.* put the same file back"):
            use()
    assert store.replaced is (vanish is replaced)


def test_a_file_that_vanishes_before_the_commit_is_acknowledged_to_nobody(store: Store, path: Path) -> None:
    def write() -> None:
        with store.writing() as connection:
            connection.execute(sa.text("DELETE FROM users"))
            deleted(path)

    with pytest.raises(StoreLost):
        write()


def test_the_same_file_put_back_is_gone_on_with(store: Store, path: Path) -> None:
    store.insert([decision("before")])
    moved = away(path)
    with pytest.raises(StoreLost):
        store.insert([decision("meanwhile")])
    assert not path.exists()  # no empty one in its place
    back(path, moved)
    assert store.insert([decision("after")])[0].seq == 2
    assert store.decision("meanwhile") is None


def test_who_must_have_a_certain_file_opens_no_other(store: Store, path: Path) -> None:
    url, file = f"sqlite:///{path}", store.identity
    Store.open(url, expected=file).close()
    replaced(path)
    with pytest.raises(StoreLost):
        Store.open(url, expected=file)
    deleted(path)
    with pytest.raises(StoreLost):
        Store.open(url, expected=file)
    assert not path.exists()


@pytest.mark.heavy
def test_the_writing_process_notices_and_its_successor_makes_no_new_file(path: Path) -> None:
    async def commit() -> None:
        writer = WriterProcess(f"sqlite:///{path}")
        assert (await writer.commit([decision("before")]))[0].inserted
        moved = away(path)
        with pytest.raises(StoreLost, match="was deleted"):
            await writer.commit([decision("lost")])
        assert writer.pid is not None
        os.kill(writer.pid, 9)
        for _ in range(2):
            with pytest.raises((StoreLost, StoreUnavailable)):
                await writer.commit([decision("lost")])
        assert not path.exists()
        back(path, moved)
        assert (await writer.commit([decision("after")]))[0].seq == 2
        await writer.close()

    asyncio.run(commit())


def test_a_service_says_503_at_once_and_goes_on_when_the_file_is_back(store: Store, path: Path) -> None:
    client = TestClient(create_api(shop_service(store)), raise_server_exceptions=False)
    assert client.post("/v1/recommend", json={"k": 1}).status_code == 200
    moved = away(path)
    for answer in (
        client.post("/v1/recommend", json={"k": 1}),
        client.post("/v1/feedback", json={"decision_id": "d", "kind": "click"}),
        client.get("/v1/users/u"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], answer.headers["Retry-After"]) == (503, "store_unavailable", "1")
        assert "log was deleted or replaced" in error["message"]
        assert str(path.parent) not in answer.text
    back(path, moved)
    assert client.post("/v1/recommend", json={"k": 1}).status_code == 200
    assert count_rows(store)["decisions"] == 2


@pytest.mark.heavy
def test_a_damaged_log_is_read_and_not_written_to(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Store.open(f"sqlite:///{path}")) as store:
        store.insert([decision(f"d{n}", context={"text": "x" * 500}) for n in range(2_000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 8 * 4096)
    with closing(Store.open(f"sqlite:///{path}")) as store:
        assert "is damaged and only read" in caplog.text
        assert "put a copy from before the damage in its place" in caplog.text
        with pytest.raises(StoreDamaged, match="put a copy from before the damage in its place"):
            store.insert([decision("new")])
        assert [d.decision_id for _, d in store.decisions(limit=10)] == [f"d{n}" for n in range(10)]
        with pytest.raises(StoreDamaged):
            store.decisions()
    assert path.stat().st_size == size

    async def commit() -> None:
        writer = WriterProcess(f"sqlite:///{path}")
        await writer.start()
        with pytest.raises(StoreDamaged, match="is damaged"):
            await writer.commit([decision("new")])
        await writer.close()

    asyncio.run(commit())


def test_damage_that_is_met_later_ends_the_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store.open(f"sqlite:///{path}")) as store:
        store.insert([decision(f"d{n}", context={"text": "x" * 500}) for n in range(2_000)])
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 8 * 4096)
    monkeypatch.setattr("data.log.sqlite.backend._CHECK_S", 0.0)  # no time to look for it
    with closing(Store.open(f"sqlite:///{path}")) as store:
        with pytest.raises(StoreDamaged):
            store.decisions()
        with pytest.raises(StoreDamaged):
            store.insert([Event(node_id="n", event_id="e")])


def test_a_column_that_is_gone_while_it_runs_is_no_reason_to_try_again(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE decisions DROP COLUMN request")
    with pytest.raises(StoreError, match="request") as refused:
        store.insert([decision("d")])
    assert not isinstance(refused.value, StoreUnavailable)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0o022)
    try:
        with closing(Store.open(f"sqlite:///{path}")) as store:
            store.insert([decision("d")])
            files = sorted(path.parent.iterdir())
            assert [file.name for file in files] == ["store.db", "store.db-shm", "store.db-wal"]
            assert {mode(file) for file in files} == {0o600}
            assert mode(path.parent) == 0o700
        path.chmod(0o644)
        with closing(Store.open(f"sqlite:///{path}")):
            assert mode(path) == 0o600
    finally:
        os.umask(before)


def test_a_home_that_was_open_to_others_is_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, home = os.umask(0o022), tmp_path / "var"
    try:
        (home / "archive" / "events").mkdir(parents=True)
        (home / "archive" / "events" / "a.parquet").write_text("x")
        (home / "run.sh").write_text("x")
        (home / "run.sh").chmod(0o755)
        outside = tmp_path / "outside"
        outside.write_text("x")
        (home / "link").symlink_to(outside)
        keep_private(home)
        assert {mode(home), mode(home / "archive"), mode(home / "archive" / "events")} == {0o700}
        assert mode(home / "archive" / "events" / "a.parquet") == 0o600
        assert mode(home / "run.sh") == 0o700
        assert mode(outside) == 0o644
        assert "5 files and folders in" in caplog.text
        (home / "new").write_text("x")
        assert mode(home / "new") == 0o600
        caplog.clear()
        keep_private(home)
        assert not caplog.records
        keep_private(tmp_path / "another")
        (tmp_path / "another").mkdir()
        assert mode(tmp_path / "another") == 0o700
    finally:
        os.umask(before)


@pytest.mark.heavy
def test_forgetting_waits_for_who_reads(store: Store, path: Path) -> None:
    store.insert([decision("d")])
    with closing(sqlite3.connect(path, check_same_thread=False)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM decisions").fetchall()
        end = threading.Timer(3.0, reader.rollback)
        end.start()
        assert erase_from_store(store, "u")["decisions"] == 1
        end.join()


@pytest.mark.heavy
def test_forgetting_succeeds_while_others_write_and_move_pages(store: Store, path: Path) -> None:
    """The learner moves pages of the write-ahead log all the time: an attempt meanwhile is turned away at once."""
    store.insert([decision(f"d{n}", user_id=f"u{n % 3}", context={"t": "x" * 2_000}) for n in range(3_000)])
    ended = threading.Event()

    def learn() -> None:
        with closing(Store.open(f"sqlite:///{path}")) as other:
            number = 0
            while not ended.is_set():
                number += 1
                other.insert([decision(f"n{number}", user_id="another", context={"t": "x" * 2_000})])
                other.checkpoint()

    threads = [threading.Thread(target=learn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for user in ("u0", "u1", "u2"):
            assert erase_from_store(store, user)["decisions"] == 1_000
    finally:
        ended.set()
        for thread in threads:
            thread.join()


CLOSE = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM users').fetchall(); c.close()"


@pytest.mark.heavy
def test_forgetting_gives_up_no_locks(store: Store, path: Path) -> None:
    """Where it did, the next process to close the log would delete the write-ahead log that this one writes to."""
    store.insert([decision("d")])
    erase_from_store(store, "u")
    subprocess.run([sys.executable, "-c", CLOSE, str(path)], check=True)
    assert store.insert([decision("e")])[0].inserted
    with closing(Store.open(f"sqlite:///{path}")) as other:
        assert other.decision("e") is not None


def test_a_check_takes_no_time_that_matters(store: Store) -> None:
    began = time.perf_counter()
    for _ in range(1_000):
        store.check()
    assert time.perf_counter() - began < 0.5  # two looks at the file system
