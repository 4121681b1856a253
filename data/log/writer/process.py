"""Group commit in a process of its own, so that writing takes nothing from who decides.

To commit a decision takes a quarter as long as to make it, and Python gives a process one core. Parent and child talk
through a socket pair in lines of JSON: rows go one way, what the log then holds for them the other.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from pydantic_core import from_json

from data import json_lines
from data.json_lines import SUBJECT, Subject
from data.log.backend import Identity
from data.log.errors import StoreError, StoreLost, StoreUnavailable, StoreUnconfirmed
from data.log.insertion.appender import Appender, Stored
from data.log.insertion.insert import LoggedRow
from data.log.insertion.rows import Row, layouts
from data.log.tables import DECISIONS
from data.log.writer.commit import StoreBusy, commit_together
from data.log.writer.link import (
    BEAT_S,
    ENOUGH,
    ERRORS,
    Link,
    encode_line,
)
from data.schema import AnyRecord

_GATHER_S = 0.0005
"""How long what arrives after a transaction of a few submissions waits for company."""
_RECEIVED_BYTES = 1 << 20
_URL = "RAYCOMMEND_WRITER_STORE"
_MAX_PENDING = 10_000  # records
_ENDING_S = 1.0
log = logging.getLogger("raycommend.writer")


class WriterProcess:
    """Commits what is submitted together in one transaction, in a child process. Belongs to one event loop.

    The child is started by `start`, or by the first commit; one that has died, or has hung and was killed, is started
    anew by the next, on the same database. A child whose parent has died commits what it has taken, and ends.
    """

    def __init__(self, url: str) -> None:
        """Build it; `url` is the log's, as `Store.open` takes it."""
        self._url = url
        self._identity: Identity | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The child's, None before there is one."""
        return self._child.pid if self._child else None

    @property
    def pending(self) -> int:
        """Records that wait for their commit."""
        return self._link.pending if self._link else 0

    async def start(self) -> None:
        """Start the child if it does not run, and wait until it has opened the log.

        Raises:
            StoreUnavailable: it could not; its standard error says why.
        """
        await self._linked()

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Commit the records in one transaction and return what the log then holds for each.

        Raises:
            StoreUnconfirmed: the child has died or hung: the records are committed or not, and may be sent again.
            StoreUnavailable: as `Appender.insert` does, or no child could be started; none was committed.
            StoreBusy: too many records wait for their commit.
            StoreError, ValueError, OverflowError: as `Appender.insert` does; none was committed.
        """
        link = self._link if self._link and self._link.open else await self._linked()
        if link.pending and link.pending + len(records) > _MAX_PENDING:
            raise StoreBusy(f"{link.pending} records wait for their commit, at most {_MAX_PENDING} may")
        return await link.send(records)

    async def close(self) -> None:
        """Let the child commit what it has taken, and end it."""
        async with self._starting:
            if self._link:
                await self._link.end()
            if self._child:
                await asyncio.to_thread(self._child.wait)

    async def _linked(self) -> Link:
        async with self._starting:
            if self._link is None or not self._link.open:
                await self._replace()
            assert self._link is not None, "just made"
            return self._link

    async def _replace(self) -> None:
        if self._child:
            with suppress(subprocess.TimeoutExpired):  # a killed one that waits for its disk must not hold up all
                await asyncio.to_thread(self._child.wait, _ENDING_S)
        ours, theirs = socket.socketpair()
        with theirs:
            child = self._child = await asyncio.to_thread(_start, self._url, self._identity, theirs)
        _, link = await asyncio.get_running_loop().create_connection(lambda: Link(child.kill), sock=ours)
        self._link = link
        try:
            await link.send(())
        except StoreUnconfirmed as error:
            raise StoreUnavailable(f"{error}; its standard error says why") from error
        self._identity = self._identity or link.identity


def _start(url: str, identity: Identity | None, link: socket.socket) -> "subprocess.Popen[bytes]":
    importable = os.pathsep.join(filter(None, sys.path))  # what the parent imports from, whoever put it there
    command = [sys.executable, "-m", "data.log.writer.process", *map(str, identity or ())]
    environment = {**os.environ, "PYTHONPATH": importable, _URL: url}  # others see arguments: it may have a password
    return subprocess.Popen(command, stdin=link.fileno(), env=environment)


def main() -> None:
    """Be the child: the log's URL is in the environment, the other end of the socket pair is standard input.

    The arguments say which database it must be (`Identity`); none: any.
    """
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)  # they may be meant for the whole group: the parent says when to end
    json_lines.setup(others=())
    expected = tuple(map(int, sys.argv[1:])) or None
    with socket.socket(fileno=0) as link, _beating(link) as send:
        try:
            store = Appender.open(os.environ[_URL], expected=expected)
            store.prepare()
        except StoreLost as error:
            send(_failure(None, error))
            return
        send(encode_line(None, "", store.identity))
        with closing(store):
            for lines in _groups(link):
                send(b"".join(_commit(store, lines)))


@contextmanager
def _beating(link: socket.socket) -> Iterator[Callable[[bytes], None]]:
    """Say now and then that this process lives, and yield what sends to the parent. One that has died asks no more."""
    sending, ended = threading.Lock(), threading.Event()

    def send(data: bytes) -> None:
        with sending, suppress(ConnectionError):
            link.sendall(data)

    def beat() -> None:
        send(b"\n")
        while not ended.wait(BEAT_S):
            send(b"\n")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield send
    finally:
        ended.set()
        thread.join()


def _groups(link: socket.socket) -> Iterator[list[bytearray]]:
    """Yield the lines that have arrived together, until the parent ends or dies, if in the middle of one.

    Where they were a few, the next wait for company: most of a transaction's cost is the same for one or many.
    """
    began = bytearray()
    while data := link.recv(_RECEIVED_BYTES):
        began += data
        if b"\n" in data:
            *lines, began = began.split(b"\n")
            yield lines
            if 1 < len(lines) < ENOUGH:
                time.sleep(_GATHER_S)


def _commit(store: Appender, lines: Sequence[bytearray]) -> list[bytes]:
    """Commit the rows of some lines in one transaction, and return the lines to answer with."""
    known = layouts()
    asked = [from_json(line) for line in lines]
    rows = [[Row(known[name], values) for name, values in submission] for _, submission, _ in asked]
    answers = []
    outcomes = commit_together(store.insert_rows, rows)
    for (number, _, request), of_one, outcome in zip(asked, rows, outcomes, strict=True):
        if isinstance(outcome, Exception):
            _log_failure(request, of_one, outcome)
            answers.append(_failure(number, outcome))
        else:
            answers.append(encode_line(number, "", [_values(logged) for logged in outcome]))
    return answers


def _log_failure(request: str, rows: Sequence[Row], error: Exception) -> None:
    """Say whose records were not committed. The parent is told why, and logs it: without that, no text of theirs."""
    decisions = dict[str, str]()
    for row in rows:
        if row.about is not None:
            decisions.setdefault(row.about, "")
        elif row.layout.log is DECISIONS:
            values = dict(zip((column.name for column in row.layout.columns), row.values, strict=True))
            decisions[values["decision_id"]] = values["policy_version"]
    token = SUBJECT.set(Subject(request, decisions=decisions))
    log.warning("not committed: %s", type(error).__name__, extra={"fields": {"records": len(rows)}})
    SUBJECT.reset(token)


def _failure(number: int | None, error: Exception) -> bytes:
    """Return the line that says that a submission was not committed, by the name of an error that the parent knows."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS]
    return encode_line(number, *((names[0], str(error)) if names else (StoreError.__name__, repr(error))))


def _values(logged: LoggedRow) -> tuple[Any, ...]:
    record = logged.record and logged.record.__dict__
    return record, logged.seq, logged.inserted, logged.orphan, logged.received_at


if __name__ == "__main__":
    main()
