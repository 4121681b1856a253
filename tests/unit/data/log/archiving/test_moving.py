"""Closed days move to the archive, and whoever reads the log sees the same as before."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data.errors import DataError
from data.log.archived.columns import schema
from data.log.archiving.closing import STALLED, closed_until
from data.log.archiving.moving import Mover
from data.log.erasures import erase_from_store
from data.log.following import (
    lag,
    last_feedback,
    new_feedback,
)
from data.log.store import Store
from data.log.tables import ARCHIVED_KEYS, LOGS, PARTS
from data.schema import AnyRecord, Decision, Event, Feedback, Version
from tests.support.archives import DAY, DECISIONS, archive, everything, some_decision
from tests.support.clocks import NOON, Clock
from tests.support.rows import count_rows

pytestmark = pytest.mark.heavy


def test_whoever_reads_the_log_sees_the_same_before_and_after(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    before = everything(store)
    moved = archive(store, tmp_path / "archive")
    assert everything(store) == before
    left = count_rows(store)
    # Day by day: NOON is at noon, so half of a day and two more are closed, and half a day and a bit is open.
    assert moved.rows["decisions"] == DECISIONS - left["decisions"] == 119
    assert left["versions"] == 1 + DECISIONS - 119
    assert moved.left == {"feedback": 12, "versions": 1}  # orphans, and the fold's first step
    assert sorted(map(str, moved.days)) == ["2026-01-05", "2026-01-06", "2026-01-07"]


def test_again_moves_nothing_and_the_next_day_moves_the_rest(
    store: Store, clock: Clock, written: list[AnyRecord], tmp_path: Path
) -> None:
    before = everything(store)
    archive(store, tmp_path / "archive")
    assert archive(store, tmp_path / "archive").rows == {}
    clock.now += DAY
    assert archive(store, tmp_path / "archive").rows["decisions"] == DECISIONS - 119
    assert everything(store) == before
    rows = count_rows(store)
    assert (rows["decisions"], rows["events"], rows["feedback"]) == (0, 0, 15)  # orphans stay
    seqs = store.insert([some_decision(1_000, clock())])[0].seq
    assert seqs == DECISIONS + 1, "positions are not used again"


def test_what_is_archived_is_known_when_it_is_sent_again(
    store: Store, clock: Clock, written: list[AnyRecord], tmp_path: Path
) -> None:
    written = [record for record in written if not isinstance(record, Version)]  # nobody sends these again
    held = {(type(row.record), str(row.seq)): row for row in store.insert(written)}
    archive(store, tmp_path / "archive")
    clock.now += DAY
    again = store.insert(written)
    assert {(type(row.record), str(row.seq)): row for row in again} == held
    assert not any(row.inserted for row in again)
    first = next(record for record in written if isinstance(record, Decision))
    [other, late, orphan] = store.insert(
        [
            first.model_copy(update={"slate": ("item-1", "item-3")}),
            Feedback(feedback_id="late", decision_id=first.decision_id, kind="click"),
            Feedback(feedback_id="lost", decision_id="nobody at all", kind="click"),
        ]
    )
    assert (other.inserted, other.record) == (False, first)
    assert (late.inserted, late.orphan) == (True, False)
    assert (orphan.inserted, orphan.orphan) == (True, True)
    assert [report.feedback_id for report in store.feedback_of([first.decision_id])[first.decision_id]] == [
        "f3",
        "late",
    ]
    position = held[Decision, "1"].seq
    [told] = new_feedback(store, "v1", last_feedback(store, "v1") - 2, 1, until=None, with_content=True)
    assert (told.decision_id, told.decision_seq) == (first.decision_id, position)


@pytest.mark.slow
def test_positions_read_in_both_count_once_while_rows_are_deleted(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    before, looks = everything(store), 0
    named = [record for record in written if not isinstance(record, Version)]

    def look(what: str, rows: int) -> None:
        nonlocal looks
        if what in ("written", "entered", "deleted"):
            looks += 1
            if looks % 5:
                return
            assert everything(store) == before, what
            assert not any(row.inserted for row in store.insert(named[:60:7]))

    archive(store, tmp_path / "archive", look)
    assert looks > 25


def test_an_archive_may_be_moved_with_its_home(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    if store.shared:
        pytest.skip("it is in no home")
    before = everything(store)
    archive(store, tmp_path / "archive")
    store.close()
    home = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    tmp_path.rename(home)
    with closing(Store.open(f"sqlite:///{home}/store.db", lambda: NOON)) as moved:
        assert everything(moved) == before


def test_a_file_that_is_gone_is_said(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    archive(store, tmp_path / "archive")
    for path in (tmp_path / "archive").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DataError, match=r"the archive lacks a file that the log names: log/decisions/day=2026-01-05/"):
        store.decisions()


@pytest.mark.slow
def test_only_the_first_of_two_that_archive_at_once_goes_on(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    other = Mover(store, str(tmp_path / "archive"))
    began = False

    def too(what: str, rows: int) -> None:
        nonlocal began
        if what == "written" and not began:
            began = True
            other.move(closed_until(store).until)

    with pytest.raises(DataError, match="run it again"):
        Mover(store, str(tmp_path / "archive"), too).move(closed_until(store).until)
    before = everything(store)
    archive(store, tmp_path / "archive")
    assert everything(store) == before
    assert len([decision for _, decision in store.decisions()]) == DECISIONS


def test_rows_that_do_not_fit_their_columns_stay(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    if store.shared:
        pytest.skip("PostgreSQL takes no such rows")
    damage = {
        7: "UPDATE decisions SET candidates = '[' WHERE seq = 7",
        40: "UPDATE decisions SET scores = '[\"a\"]' WHERE seq = 40",
    }
    if not store.shared:  # PostgreSQL keeps neither
        damage[11] = "UPDATE decisions SET slate = CAST(x'ff' AS TEXT) WHERE seq = 11"
        damage[12] = "UPDATE decisions SET time = 'noon' WHERE seq = 12"
    with store.writing() as connection:
        for statement in damage.values():
            connection.exec_driver_sql(statement)
    before = store.decisions()
    assert archive(store, tmp_path / "archive").left["decisions"] == len(damage)
    assert store.decisions() == before
    with store.reading() as connection:
        kept = list(connection.exec_driver_sql("SELECT seq FROM decisions WHERE seq < 100").scalars())
    assert kept == sorted(damage)


def test_files_have_the_columns_of_the_log_and_say_which(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    archive(store, tmp_path / "archive")
    for log in LOGS:
        paths = sorted((tmp_path / "archive" / "log" / log.table.name).rglob("*.parquet"))
        assert len(paths) == 3
        for path in paths:
            found = pq.read_schema(path)
            assert found.equals(schema(log), check_metadata=False)
            assert found.metadata[b"raycommend.columns"] == f"{log.table.name} 1".encode()


def change_files(archive: Path, kind: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the files of a table as another version of this program would have."""
    for path in sorted((archive / "log" / kind).rglob("*.parquet")):
        file = pq.ParquetFile(path)
        groups = [change(file.read_row_group(group)) for group in range(file.num_row_groups)]
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)


def test_files_older_than_a_column_have_what_a_migration_gives_to_older_rows(
    url: str, clock: Clock, store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    """Decisions once had neither `weight` (1 by default) nor `probabilities` ([]) nor `rules` (null)."""
    younger = ["weight", "deferred", "probabilities", "objective", "rules", "request"]
    defaults = {"weight": 1.0, "deferred": False, "probabilities": (), "objective": "default", "rules": None}
    moved = archive(store, tmp_path / "archive").rows["decisions"]
    before = store.decisions()
    change_files(tmp_path / "archive", "decisions", lambda table: table.drop_columns(younger))
    with closing(Store.open(url, clock)) as again:
        after = again.decisions()
        old = [(seq, decision.model_copy(update={**defaults, "request": None})) for seq, decision in before[:moved]]
        assert after == old + before[moved:]
        erase_from_store(again, "u5")  # the files are written anew
        assert again.decisions() == [(seq, decision) for seq, decision in after if decision.user_id != "u5"]


def test_files_that_lack_what_all_rows_have_or_are_of_another_version_are_refused(
    url: str, clock: Clock, store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    archive(store, tmp_path / "archive")
    change_files(tmp_path / "archive", "decisions", lambda table: table.drop_columns(["policy"]))
    with closing(Store.open(url, clock)) as again, pytest.raises(DataError, match="lacks the column policy"):
        again.decisions()
    newer = {"raycommend.columns": "decisions 2"}
    change_files(tmp_path / "archive", "decisions", lambda table: table.replace_schema_metadata(newer))
    with closing(Store.open(url, clock)) as again, pytest.raises(DataError, match=r"of version 2.*reads version 1"):
        again.decisions()


@pytest.mark.parametrize(("wait_s", "closed"), [(60.0, 7), (13 * 3600.0, 7), (16 * 3600.0, 6), (5 * 86_400.0, 2)])
def test_a_day_is_closed_when_its_last_window_is(
    store: Store, clock: Clock, written: list[AnyRecord], wait_s: float, closed: int
) -> None:
    assert clock() == NOON + DECISIONS * timedelta(minutes=30) == NOON + 3 * DAY + timedelta(hours=3)
    # The last decision of the seventh was made at 23:30, 15.5 hours ago.
    assert closed_until(store, wait_s).until.day == closed + 1
    assert closed_until(store, wait_s, keep_days=1).until.day == closed


def test_a_fold_that_has_not_read_a_day_is_waited_for_while_it_runs(
    store: Store, clock: Clock, written: list[AnyRecord]
) -> None:
    assert closed_until(store).wait_s == 60.0
    with store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM versions WHERE number > 60")  # it has read decisions up to the sixth
    found = closed_until(store)
    assert (found.until.day, found.waits_for, found.not_waited_for) == (6, ("v1/default (f0)",), ())
    clock.now += STALLED
    found = closed_until(store)
    assert (found.waits_for, found.not_waited_for) == ((), ("v1/default (f0)",))
    assert found.until.day == 15


def test_a_decision_of_the_future_keeps_no_day_open(store: Store, clock: Clock, tmp_path: Path) -> None:
    store.insert([some_decision(1, NOON + 400 * DAY), some_decision(2, NOON)])
    clock.now += DAY
    assert archive(store, tmp_path / "archive").rows == {"decisions": 2}
    assert [decision.time for _, decision in store.decisions()] == [NOON + 400 * DAY, NOON]


def test_the_file_of_a_log_shrinks(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "one.db"
    with closing(Store.open(f"sqlite:///{path}", clock)) as store:
        store.insert([some_decision(number, NOON) for number in range(2_000)])
        clock.now += DAY
        archive(store, tmp_path / "archive")
        store.checkpoint()
        size = path.stat().st_size
        given_back = store.give_back()
        assert given_back is not None
        assert given_back > 500_000
        store.checkpoint()
        assert path.stat().st_size <= size - given_back


def test_events_and_their_order_are_kept_by_node(store: Store, clock: Clock, tmp_path: Path) -> None:
    for node in "ab":
        store.insert([Event(node_id=node, event_id=f"{number}") for number in range(30)])
    clock.now += 2 * DAY
    archive(store, tmp_path / "archive")
    store.insert(
        [Event(node_id="a", event_id="30"), Event(node_id="a", event_id="3"), Event(node_id="b", event_id="30")]
    )
    assert [event.event_id for _, event in store.events("a")] == [str(number) for number in range(31)]
    assert [event.event_id for _, event in store.events("b")] == [str(number) for number in range(31)]


def test_the_index_of_names_has_no_more_than_what_can_be_asked_for(
    store: Store, written: list[AnyRecord], tmp_path: Path
) -> None:
    moved = archive(store, tmp_path / "archive")
    with store.reading() as connection:
        entries = connection.execute(sa.select(sa.func.count()).select_from(ARCHIVED_KEYS)).scalar_one()
        assert all(connection.execute(sa.select(PARTS.c.cleared)).scalars())
    named = sum(moved.rows[name] for name in ("decisions", "feedback", "events", "rejects"))
    assert named + moved.rows["events"] < entries <= named + moved.rows["decisions"] + moved.rows["events"]


def test_lag_counts_what_is_archived(store: Store, written: list[AnyRecord], tmp_path: Path) -> None:
    before = lag(store, "v1", 0, 0)
    archive(store, tmp_path / "archive")
    assert lag(store, "v1", 0, 0) == before
    assert lag(store, "v1", 150, 10_000).decisions == 0
