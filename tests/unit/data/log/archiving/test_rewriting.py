"""A user's rows, and those of a loop, leave the archive: no others, at once, and no byte of them stays."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data.log.current.users import history
from data.log.erasures import count_erasures, erase_from_store
from data.log.errors import StoreUnavailable
from data.log.loops import delete
from data.log.store import Store
from data.log.tables import ARCHIVED_KEYS, PARTS
from data.schema import AnyRecord, Decision, Event, Feedback, Reject
from tests.support.archives import DAY, archive, everything
from tests.support.clocks import NOON, Clock

pytestmark = pytest.mark.heavy

USER = "u5"


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.parquet")))


def texts_of(folder: Path) -> set[str]:
    """Return all texts of the archive's files."""
    found = set[str]()
    for path in folder.rglob("*.parquet"):
        found.update(str(value) for row in pq.read_table(path).to_pylist() for value in row.values())
    return found


def test_a_user_is_gone_from_log_and_archive_and_all_others_are_as_they_were(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    theirs = {r.decision_id for r in written if isinstance(r, Decision) and r.user_id == USER}
    reports = {r.feedback_id for r in written if isinstance(r, Feedback) and r.decision_id in theirs}
    named = {r.reject_id for r in written if isinstance(r, Reject) and r.record.get("user") == USER}
    archive(store, tmp_path / "archive")
    late = Feedback(feedback_id="late", decision_id=min(theirs), kind="click")
    store.insert([late])
    before = store.decisions()
    others = [d.decision_id for _, d in before if d.decision_id not in theirs]
    feedback = store.feedback_of(others)
    positions = {seq for seq, d in before if d.decision_id not in theirs}
    counts = erase_from_store(store, USER)
    assert counts == {
        "decisions": len(theirs),
        "feedback": len(reports) + 1,
        "rejects": len(named),
        "events": 0,
        "users": 0,
    }
    assert len(theirs) > 5
    assert named
    assert store.decisions() == [row for row in before if row[0] in positions]
    assert store.feedback_of(others) == feedback
    assert history(store, USER, 10) == ([], None)
    assert not any(str(name) in texts_of(tmp_path / "archive") for name in (USER, *theirs, *reports, *named))
    assert count_erasures(store) == 1
    again = store.insert([next(r for r in written if isinstance(r, Decision) and r.user_id == USER), late])
    assert [(row.inserted, row.orphan) for row in again] == [(True, False), (True, False)]
    assert sum(erase_from_store(store, "nobody").values()) == 0
    assert count_erasures(store) == 1


def test_a_user_with_events_only_is_found(store: Store, clock: Clock, tmp_path: Path) -> None:
    store.insert([Event(node_id="n", event_id=f"e{n}", user_id=f"u{n % 2}") for n in range(10)])
    clock.now += DAY
    archive(store, tmp_path / "archive")
    assert erase_from_store(store, "u1")["events"] == 5
    assert [event.event_id for _, event in store.events("n")] == ["e0", "e2", "e4", "e6", "e8"]


def test_what_only_they_had_leaves_no_file(store: Store, clock: Clock, tmp_path: Path) -> None:
    store.insert([Event(node_id="n", event_id="e", user_id="u")])
    clock.now += DAY
    archive(store, tmp_path / "archive")
    erase_from_store(store, "u")
    assert list((tmp_path / "archive").rglob("*.parquet")) == []
    with store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(PARTS)).scalar_one() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(ARCHIVED_KEYS)).scalar_one() == 0


def test_nobody_is_forgotten_while_days_are_archived(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    archive(store, tmp_path / "archive")
    before = everything(store)
    with store.exclusively("archive"), pytest.raises(StoreUnavailable, match="wait until it has ended"):
        erase_from_store(store, USER)
    assert everything(store) == before


def test_the_days_of_a_loop_are_deleted(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    archive(store, tmp_path / "archive")
    until = NOON + DAY
    rest = [row for row in store.decisions() if row[1].time > until]
    delete(store, "other", until)
    assert len(store.decisions()) == 150
    delete(store, "v1", until)
    assert store.decisions() == rest
    reports = store.feedback_of([r.decision_id for r in written if isinstance(r, Decision)])
    assert all((report.received_at or NOON) > until for some in reports.values() for report in some)
