"""The writer in a process of its own: it answers as the store does, and what happens when one of the two dies."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import JsonValue

from data.json_lines import SUBJECT, Subject
from data.log.errors import StoreError, StoreUnavailable, StoreUnconfirmed
from data.log.insertion.appender import Stored
from data.log.insertion.rows import to_row
from data.log.store import Store
from data.log.writer.commit import StoreBusy
from data.log.writer.link import encode_line
from data.log.writer.process import WriterProcess
from data.schema import (
    AnyRecord,
    Decision,
    Event,
    Features,
    Feedback,
    Reject,
    Rules,
    Slot,
)
from tests.support.archives import archive, write_days
from tests.support.clocks import Clock
from tests.support.records import decision, version

pytestmark = pytest.mark.heavy


def event(number: int) -> Event:
    return Event(node_id="n", event_id=str(number))


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


def hold_lock(url: str) -> Callable[[], None]:
    """Take the lock that who writes must have, as another process would; returns what gives it back."""
    stack = ExitStack()
    store = stack.enter_context(closing(Store.open(url)))
    stack.enter_context(store.writing())
    return stack.close


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


SCALARS = {
    "text": '\u2028\n"\\',
    "whole": 2**53 + 1,
    "float": 1.0,
    "tiny": 5e-324,
    "sum": 0.1 + 0.2,
    "no": False,
    "none": None,
}
LATE = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-3)))
FULL: list[AnyRecord] = [
    Decision(
        decision_id="full",
        time=LATE,
        loop="personalizer",
        user_id="u",
        node_id="n",
        context={"time": "2026-01-01T00:00:00+01:00", **SCALARS},
        candidates=("a", "b"),
        slate=("b", "a"),
        propensities=(1 / 3, 1.0),
        scores=(-0.0, 1e300),
        policy="p",
        policy_version="d.f.1",
        mode="apprentice",
        objective="o",
        deferred=True,
        probabilities=(2 / 3, 1 / 3),
        features=Features(context=({"deep": [{"a": [1, 1.0, None, True]}]},), items=(({"x": 1},), ({"x": "1"},))),
        rules=Rules(pins={"a": 0}, boosts={"b": 0.1}, caps={"c": 1}, categories={"a": ("c",)}),
        slots=(Slot(slot_id="s", features=({"top": True},), exclude=("b",), baseline="a"), Slot(slot_id="t")),
    ),
    Feedback(feedback_id="f", decision_id="full", loop="personalizer", item_id="b", kind="click", value=0.1, time=LATE),
    Event(node_id="n", event_id="e", user_id="u", item_id="a", time=LATE, outcome=1e-7, record=SCALARS),
    Reject(node_id="n", reject_id="r", source="http", row=3, rule="is", column="c", value="\0", record=SCALARS),
    version(LATE, begins={"policies": {"p": "d"}, "spec": [1.0, 1]}),
]


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True], ids=["at the start", "while it runs"])
def test_what_is_archived_is_known(url: str, tmp_path: Path, running: bool) -> None:
    clock = Clock()
    with closing(Store.open(url, clock)) as store:
        first, *_ = written = write_days(store, clock, 60)
        assert isinstance(first, Decision)
        about = Feedback(feedback_id="late", decision_id=first.decision_id, kind="click")

        async def commit(writer: WriterProcess) -> None:
            if running:
                archive(store, tmp_path / "archive")
            again, late = await writer.commit([first, about])
            assert (again.record, again.inserted, again.seq) == (first, False, 1)
            assert (late.inserted, late.orphan) == (True, False)
            assert not (await writer.commit([written[1]]))[0].inserted

        if not running:
            archive(store, tmp_path / "archive")
        run(url, commit)


def test_every_field_of_every_record_comes_through(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        for turn in range(2):  # the second time what is stored comes back, and not what was sent
            rows = await writer.commit(FULL)
            assert [row.inserted for row in rows] == [turn == 0] * len(FULL)
            for sent, row in zip(FULL, rows, strict=True):
                got = row.record.model_copy(update={"received_at": None}) if type(sent) is not Decision else row.record
                assert repr(got) == repr(sent)  # which tells 1 from 1.0, and -0.0 from 0.0

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert repr(store.decision("full")) == repr(FULL[0])
        assert repr(store.events("n")[0][1].record) == repr(SCALARS)


def test_features_as_deep_as_a_request_may_have_them_come_through(url: str) -> None:
    deep: JsonValue = "bottom"
    for _ in range(197):  # with what is around them, 200 levels of a request
        deep = [deep]
    sent = decision("deep").model_copy(update={"features": Features(context=({"deep": deep},))})

    async def commit(writer: WriterProcess) -> None:
        for _ in range(2):
            assert (await writer.commit([sent]))[0].record == sent

    run(url, commit)


def test_what_cannot_be_written_fails_alone(url: str) -> None:
    too_large = Reject(node_id="n", reject_id="r", source="http", row=2**70, rule="is")
    unwritable = decision("unwritable").model_copy(update={"user_id": "\ud800"})

    async def commit(writer: WriterProcess) -> None:
        outcomes = await asyncio.gather(
            writer.commit([too_large]),
            writer.commit([unwritable]),
            writer.commit([decision("good")]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], OverflowError | StoreError)
        assert isinstance(outcomes[1], ValueError)
        assert "surrogates not allowed" in str(outcomes[1])

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert [d.decision_id for _, d in store.decisions()] == ["good"]


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
        assert isinstance(outcomes[1], OverflowError | StoreError)

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert {d.decision_id for _, d in store.decisions()} == {"a", "b"}


@pytest.mark.slow
def test_too_many_waiting_records_are_refused(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        release = hold_lock(url)
        taken = asyncio.ensure_future(writer.commit([event(n) for n in range(6_000)]))
        await asyncio.sleep(0)  # it is sent
        with pytest.raises(StoreBusy, match="6000 records wait for their commit"):
            await writer.commit([event(n) for n in range(6_000, 12_000)])
        release()
        assert len(await taken) == 6_000
        assert len(await writer.commit([event(n) for n in range(12_000)])) == 12_000  # nothing waits: it is taken whole

    run(url, commit)


@pytest.mark.slow
def test_what_is_answered_waits_no_longer(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        for start in (0, 6_000, 12_000):  # more than may wait at a time
            answer, after = await asyncio.gather(
                writer.commit([event(n) for n in range(start, start + 6_000)]), writer.commit([event(start)])
            )
            assert len(answer) == 6_000
            assert not after[0].inserted

    run(url, commit)


def test_what_is_not_committed_is_a_line_of_the_request_it_was_for(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    bad = Reject(node_id="n", reject_id="r", source="http", row=2**70, rule="is no row")

    async def commit(writer: WriterProcess) -> None:
        token = SUBJECT.set(Subject("r1"))
        with pytest.raises((OverflowError, StoreError)):
            await writer.commit([decision("half"), bad])
        SUBJECT.reset(token)
        await writer.commit([decision("good")])

    run(url, commit)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "not committed" in line]
    assert len(lines) == 1
    assert (lines[0]["logger"], lines[0]["level"]) == ("raycommend.writer", "warning")
    assert (lines[0]["request_id"], lines[0]["decision_id"]) == ("r1", "half")
    assert lines[0]["policy_version"] == decision("half").policy_version
    assert lines[0]["records"] == 2


def test_a_commit_that_nobody_waits_for_any_more_goes_on(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.commit([event(n) for n in range(9_000)]), 0.001)
        assert (await writer.commit([decision("after")]))[0].inserted

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert len(store.events("n")) == 9_000


def test_a_killed_child_is_told_to_those_who_wait_and_replaced(url: str) -> None:
    async def commit(writer: WriterProcess) -> None:
        assert (await writer.commit([decision("before")]))[0].inserted
        release = hold_lock(url)
        waiting = [asyncio.ensure_future(writer.commit([decision(f"w{n}")])) for n in range(3)]
        await asyncio.sleep(0.1)
        first = child_of(writer)
        os.kill(first, signal.SIGKILL)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, StoreUnconfirmed)  # a server that has the message yet commits it
        release()
        # Many at once start one child, not one each.
        again = await asyncio.gather(*(writer.commit([decision(f"w{n}")]) for n in range(3)))
        assert [rows[0].record for rows in again] == [decision(f"w{n}") for n in range(3)]
        assert child_of(writer) != first

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert {d.decision_id for _, d in store.decisions()} == {"before", "w0", "w1", "w2"}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [False, True])
def test_a_hung_child_is_noticed_killed_and_replaced(url: str, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    """Whether anybody waits for it or not: who does is told, and what was acknowledged is there."""
    monkeypatch.setattr("data.log.writer.link.SILENT_BEATS", 2)

    async def commit(writer: WriterProcess) -> None:
        assert (await writer.commit([decision("before")]))[0].inserted
        first = child_of(writer)
        os.kill(first, signal.SIGSTOP)
        began = time.monotonic()
        if asked:
            waiting = [writer.commit([decision(f"w{n}")]) for n in range(3)]
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(outcome, StoreUnconfirmed)
                assert "was silent for 3 s and was killed" in str(outcome)
        else:
            while _lives(first):
                await asyncio.sleep(0.1)
        assert time.monotonic() - began < 10
        again = await asyncio.gather(*(writer.commit([decision(f"w{n}")]) for n in range(3)))
        assert [rows[0].inserted for rows in again] == [True, True, True]
        assert child_of(writer) != first

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert {d.decision_id for _, d in store.decisions()} == {"before", "w0", "w1", "w2"}


@pytest.mark.slow
def test_a_child_that_is_alive_and_does_not_answer_is_replaced_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.log.writer.link.UNANSWERED_BEATS", 2)

    async def commit(writer: WriterProcess) -> None:
        release = hold_lock(url)
        with pytest.raises(StoreUnconfirmed, match="did not answer for 3 s and was killed"):
            await writer.commit([decision("d")])
        release()
        assert (await writer.commit([decision("d")]))[0].record == decision("d")

    run(url, commit)
    with closing(Store.open(url)) as store:
        assert [found for _, found in store.decisions()] == [decision("d")]


@pytest.mark.slow
def test_a_parent_that_was_stopped_itself_kills_nobody(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.log.writer.link.SILENT_BEATS", 2)

    async def commit(writer: WriterProcess) -> None:
        first = child_of(writer)
        await asyncio.sleep(0.5)
        time.sleep(5)  # as long as both are stopped, say by a machine that sleeps
        assert (await writer.commit([decision("d")]))[0].inserted
        await asyncio.sleep(1.5)
        assert child_of(writer) == first

    run(url, commit)


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
from data.log.writer.link import encode_line
from data.log.writer.process import WriterProcess

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


def test_a_child_whose_parent_dies_in_the_middle_of_a_line_commits_what_is_before(url: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "data.log.writer.process"]
        child = subprocess.Popen(command, stdin=theirs.fileno(), env=os.environ | {"RAYCOMMEND_WRITER_STORE": url})
        lines = [encode_line(n, [("events", to_row(event(n)).values)], "") for n in range(2)]
        ours.sendall(b"".join(lines).removesuffix(b"\n"))
        ours.shutdown(socket.SHUT_WR)
        assert child.wait(timeout=30) == 0
    with closing(Store.open(url)) as store:
        assert [event.event_id for _, event in store.events("n")] == ["0"]


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet taken note of by whoever adopted it
