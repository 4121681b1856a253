"""The writer in a process of its own: as the one in a thread, and what happens when one of the processes dies."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data.database import StoreUnavailable
from data.schema import Decision, Event, Feedback, Reject
from data.store import Store, Stored
from data.tables import AnyRecord
from data.writer import StoreBusy
from data.writer_process import WriterProcess

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def decision(decision_id: str, user: str = "u") -> Decision:
    return Decision(
        decision_id=decision_id,
        time=T0,
        user_id=user,
        candidates=("a", "b"),
        slate=("a",),
        propensities=(0.5,),
        scores=(0.25,),
        policy="random",
        policy_version="1",
    )


def event(number: int) -> Event:
    return Event(node_id="n", event_id=str(number))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[WriterProcess]:
    writer = WriterProcess(url)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.close()


def run(url: str, test: Callable[[WriterProcess], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with writing(url) as writer:
            await test(writer)

    asyncio.run(all_of_it())


def child_of(writer: WriterProcess) -> int:
    assert writer.pid is not None
    return writer.pid


def test_it_answers_as_the_store_does(url: str, tmp_path: Path) -> None:
    sent: list[AnyRecord] = [decision("d"), Feedback(feedback_id="f", decision_id="d", kind="click"), event(1)]
    again: list[AnyRecord] = [decision("d", "another"), Feedback(feedback_id="g", decision_id="unknown", kind="click")]
    with closing(Store.open(f"sqlite:///{tmp_path}/other.db")) as other:
        expected = [other.insert(sent), other.insert(again)]

    async def commit(writer: WriterProcess) -> None:
        for records, answer in zip((sent, again), expected, strict=True):
            assert [_timeless(row) for row in await writer.commit(records)] == [_timeless(row) for row in answer]
        assert (await writer.commit(again))[0].record == decision("d")  # what was stored first, not what is sent now

    run(url, commit)


def _timeless(row: Stored) -> tuple[object, ...]:
    stamped = getattr(row.record, "received_at", None)
    assert isinstance(row.record, Decision) or isinstance(stamped, datetime)
    record = row.record.model_copy(update={"received_at": None}) if stamped else row.record
    return record, row.inserted, row.seq, row.orphan


def test_many_at_once_are_answered_each_with_its_own(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        answers = await asyncio.gather(*(writer.commit([event(n), decision(f"d{n}")]) for n in range(500)))
        assert [[row.record.model_dump(exclude={"received_at"}) for row in answer] for answer in answers] == [
            [event(n).model_dump(exclude={"received_at"}), decision(f"d{n}").model_dump()] for n in range(500)
        ]

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert len(store.decisions()) == 500


def test_one_bad_submission_fails_alone(url: str) -> None:
    bad = Reject(node_id="n", reject_id="r", source="http", row=2**70, rule="is no row")

    async def commit(writer: WriterProcess) -> None:
        outcomes = await asyncio.gather(
            writer.commit([decision("a")]),
            writer.commit([decision("half"), bad]),
            writer.commit([decision("b")]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], OverflowError)

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert {d.decision_id for _, d in store.decisions()} == {"a", "b"}


def test_too_many_waiting_records_are_refused(url: str, tmp_path: Path) -> None:
    async def commit(writer: WriterProcess) -> None:
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        taken = asyncio.ensure_future(writer.commit([event(n) for n in range(6_000)]))
        await asyncio.sleep(0)  # it is sent
        with pytest.raises(StoreBusy, match="6000 records wait for their commit"):
            await writer.commit([event(n) for n in range(6_000, 12_000)])
        other.execute("ROLLBACK")
        other.close()
        assert len(await taken) == 6_000

    run(url, commit)


def test_a_commit_that_nobody_waits_for_any_more_goes_on(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.commit([event(n) for n in range(9_000)]), 0.001)
        assert (await writer.commit([decision("after")]))[0].inserted

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert len(store.events("n")) == 9_000


def test_a_killed_child_is_told_to_those_who_wait_and_replaced(url: str, tmp_path: Path) -> None:
    async def commit(writer: WriterProcess) -> None:
        assert (await writer.commit([decision("before")]))[0].inserted
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.ensure_future(writer.commit([decision(f"w{n}")])) for n in range(3)]
        await asyncio.sleep(0.1)
        first = child_of(writer)
        os.kill(first, signal.SIGKILL)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, StoreUnavailable)
        other.execute("ROLLBACK")
        other.close()
        # Many at once start one child, not one each.
        again = await asyncio.gather(*(writer.commit([decision(f"w{n}")]) for n in range(3)))
        assert [rows[0].inserted for rows in again] == [True, True, True]
        assert child_of(writer) != first

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert {d.decision_id for _, d in store.decisions()} == {"before", "w0", "w1", "w2"}


def test_a_log_that_cannot_be_opened_is_an_error_not_a_wait(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_text("no database " * 100)

    async def start() -> None:
        with pytest.raises(StoreUnavailable, match="has ended"):
            await WriterProcess(f"sqlite:///{tmp_path}/log.db").start()

    asyncio.run(start())


def test_closing_commits_what_was_taken(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        waiting = [asyncio.ensure_future(writer.commit([event(n)])) for n in range(200)]
        await asyncio.sleep(0)
        await writer.close()
        assert all(rows[0].inserted for rows in await asyncio.gather(*waiting))

    run(url, commit)


def test_signals_to_the_whole_group_do_not_end_the_child(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        for number, asked in enumerate((signal.SIGINT, signal.SIGTERM)):
            os.kill(child_of(writer), asked)
            assert (await writer.commit([event(number)]))[0].inserted

    run(url, commit)


PARENT = """
import asyncio, sys
from data.schema import Event
from data.writer_process import WriterProcess

async def main():
    writer = WriterProcess(sys.argv[1])
    await writer.start()
    print(writer.pid, flush=True)
    await asyncio.gather(*(writer.commit([Event(node_id="n", event_id=str(n))]) for n in range(1_000)))
    print("committed", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_child_whose_parent_is_killed_ends(url: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, url], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "committed\n"
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while _lives(child):
        assert time.monotonic() < deadline, "the child lives without its parent"
        time.sleep(0.05)
    with closing(Store.open(url)) as store:
        assert len(store.events("n")) == 1_000


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet taken note of by whoever adopted it
