"""A file that is opened, locked, moved to, as SQLite's driver has it."""

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data.log.errors import StoreError, StoreUnavailable
from data.log.store import Store
from data.log.writer.commit import commit_together
from data.schema import AnyRecord, Decision, Feedback
from tests.support.rows import count_rows


def decision(decision_id: str, **fields: object) -> Decision:
    values: dict[str, object] = {
        "decision_id": decision_id,
        "time": datetime(2026, 3, 1, tzinfo=UTC),
        "candidates": ("a", "b"),
        "slate": ("b",),
        "propensities": (0.5,),
        "scores": (1.5,),
        "policy": "random",
        "policy_version": "random-1",
    }
    return Decision.model_validate(values | fields)


def test_a_commit_is_synced_to_disk(store: Store, tmp_path: Path) -> None:
    with store._backend.reading.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_open_refuses_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected sqlite:///path or postgresql://, got mysql"):
        Store.open("mysql://host/log")
    with pytest.raises(StoreError, match="got mode memory"):
        Store.open("sqlite://")
    (tmp_path / "text.db").write_text("no database " * 1000)
    with pytest.raises(StoreError, match="file is not a database"):
        Store.open(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(StoreError, match=r"cannot open .*/text\.db/store\.db as a log: .*(exists|Not a directory)"):
        Store.open(f"sqlite:///{tmp_path}/text.db/store.db")
    with pytest.raises(StoreError, match="expected sqlite:///path, got sqlite:store"):
        Store.open("sqlite:store.db")


def test_a_checkpoint_moves_what_is_committed_into_the_file(store: Store, tmp_path: Path) -> None:
    store.insert([decision(f"d{n}", context={"text": "x" * 1_000}) for n in range(100)])
    before = (tmp_path / "store.db").stat().st_size
    store.checkpoint()
    assert (tmp_path / "store.db").stat().st_size > before + 100_000
    assert count_rows(store)["decisions"] == 100


def test_open_waits_for_a_process_that_is_creating_the_log(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    store = Store.open(f"sqlite:///{tmp_path}/new.db")
    assert store.insert([decision("d")])[0].inserted
    store.close()
    release.join()
    other.close()


def test_a_locked_database_is_reported_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.log.sqlite.driver.BUSY_TIMEOUT_S", 0.1)
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    records: list[AnyRecord] = [decision("d"), Feedback(feedback_id="f", decision_id="d", kind="click")]
    [answer] = commit_together(store.insert, [records])
    assert isinstance(answer, StoreUnavailable)
    other.execute("ROLLBACK")
    assert set(count_rows(store).values()) == {0}
    assert store.insert([decision("d")])[0].inserted
    other.close()
    store.close()
