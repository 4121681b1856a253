"""Group commit in a process of its own, so that writing takes nothing from who decides.

To commit a decision takes a quarter as long as to make it, and Python gives a process one core. Parent and child talk
through a socket pair in lines of JSON: records go one way, what the log then holds for them the other.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Annotated, Any, TypeAlias, cast

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from data.database import StoreError, StoreUnavailable
from data.store import Store, Stored
from data.tables import AnyRecord
from data.writer import StoreBusy, commit_together

_GATHER_S = 0.0005
"""How long what arrives after a transaction of several submissions waits for company."""
_RECEIVED_BYTES = 1 << 20
_MAX_PENDING = 10_000  # records
_Record: TypeAlias = Annotated[AnyRecord, Field(union_mode="left_to_right")]
"""Every kind needs fields that the others refuse, so that an object is of one kind only; decisions are most of them."""
_RECORD, _RECORDS = TypeAdapter[AnyRecord](_Record), TypeAdapter(list[_Record])
_Brief: TypeAlias = tuple[Any, bool, int, bool]
"""The fields of `Stored`; the record None if it is the one that was sent, as most are, else as JSON."""
_ERRORS = {kind.__name__: kind for kind in (StoreUnavailable, StoreError, OverflowError, ValueError)}


class WriterProcess:
    """Commits what is submitted together in one transaction, in a child process. Belongs to one event loop.

    The child is started by `start`, or by the first commit; one that has died is started anew by the next. A child
    whose parent has died commits what it has taken, and ends.
    """

    def __init__(self, url: str) -> None:
        """Build it; `url` is the log's, as `Store.open` takes it."""
        self._url = url
        self._child: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The child's, None before there is one."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start the child if it does not run, and wait until it has opened the log.

        Raises:
            StoreUnavailable: it could not; its standard error says why.
        """
        await self._linked()

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Commit the records in one transaction and return what the log then holds for each.

        Raises:
            StoreUnavailable: the child has died: the records are committed or not, and may be sent again.
            StoreBusy: too many records wait for their commit.
            StoreError, ValueError, OverflowError: as `Store.insert` does; none was committed.
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

    async def _linked(self) -> "_Link":
        async with self._starting:
            if self._link is None or not self._link.open:
                if self._child:
                    await asyncio.to_thread(self._child.wait)
                ours, theirs = socket.socketpair()
                with theirs:
                    self._child = await asyncio.to_thread(_start, self._url, theirs)
                _, self._link = await asyncio.get_running_loop().create_connection(_Link, sock=ours)
                await self._link.send(())
            return self._link


def _start(url: str, link: socket.socket) -> "subprocess.Popen[bytes]":
    importable = os.pathsep.join(filter(None, sys.path))  # what the parent imports from, whoever put it there
    command = [sys.executable, "-m", "data.writer_process", url]
    return subprocess.Popen(command, stdin=link.fileno(), env={**os.environ, "PYTHONPATH": importable})


class _Link(asyncio.Protocol):
    """The parent's end of the socket pair."""

    def __init__(self) -> None:
        self.open = False
        self.pending = 0
        """Records sent and not yet answered."""
        self._closed = asyncio.Event()
        self._received = bytearray()  # of a line that is not complete
        self._outgoing: list[bytes] = []
        self._sent = 0
        self._waiting: dict[int, tuple[Sequence[AnyRecord], asyncio.Future[list[Stored]]]] = {}

    async def send(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Send records, and wait for what is answered."""
        line = _line(self._sent, [record.__dict__ for record in records])
        future: asyncio.Future[list[Stored]] = asyncio.get_running_loop().create_future()
        self._waiting[self._sent] = records, future
        self._sent += 1
        self.pending += len(records)
        if not self._outgoing:  # together with what others send in this turn of the loop: each write wakes the child
            asyncio.get_running_loop().call_soon(self._write)
        self._outgoing.append(line)
        return await future

    def _write(self) -> None:
        lines, self._outgoing = self._outgoing, []
        if self.open and lines:
            self._transport.write(b"".join(lines))

    async def end(self) -> None:
        """Send no more, and wait until all is answered."""
        if self.open:
            self._write()
            self._transport.write_eof()
        await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who wait for them."""
        self._received += data
        if b"\n" not in data:
            return
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            number, failed, answer = json.loads(line)
            self._settle(number, _ERRORS[failed](answer) if failed else answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell those who still wait."""
        self.open = False
        for number in list(self._waiting):
            self._settle(number, StoreUnavailable("the process that writes the log has ended before it answered"))
        self._closed.set()

    def _settle(self, number: int, answer: list[_Brief] | Exception) -> None:
        records, future = self._waiting.pop(number)
        self.pending -= len(records)
        if future.done():  # cancelled: nobody waits for it any more
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            pairs = zip(records, answer, strict=True)
            future.set_result(
                [Stored(sent if row[0] is None else _RECORD.validate_python(row[0]), *row[1:]) for sent, row in pairs]
            )


def main() -> None:
    """Be the child: the log's URL is the argument, the other end of the socket pair is standard input."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)  # they may be meant for the whole group: the parent says when to end
    with closing(Store.open(sys.argv[1])) as store, socket.socket(fileno=0) as link:
        for lines in _groups(link):
            with suppress(ConnectionError):  # the parent has died: it asks no more
                link.sendall(b"".join(_commit(store, lines)))


def _groups(link: socket.socket) -> Iterator[list[bytearray]]:
    """Yield the lines that have arrived together, until the parent ends or dies, if in the middle of one.

    Where they were several, the next wait for company: most of a transaction's cost is the same for one or many.
    """
    began = bytearray()
    while data := link.recv(_RECEIVED_BYTES):
        began += data
        if b"\n" in data:
            *lines, began = began.split(b"\n")
            yield lines
            if len(lines) > 1:
                time.sleep(_GATHER_S)


def _commit(store: Store, lines: Sequence[bytearray]) -> list[bytes]:
    """Commit the records of some lines in one transaction, and return the lines to answer with."""
    asked: dict[int, Sequence[AnyRecord]] = {}
    answers = []
    for line in lines:
        number, rows = json.loads(line)
        try:
            asked[number] = _RECORDS.validate_python(rows)
        except ValidationError as error:
            answers.append(_failure(number, error))
    for (number, sent), outcome in zip(asked.items(), commit_together(store, list(asked.values())), strict=True):
        if isinstance(outcome, Exception):
            answers.append(_failure(number, outcome))
        else:
            answers.append(_line(number, "", _brief(sent, outcome)))
    return answers


def _failure(number: int, error: Exception) -> bytes:
    """Return the line that says that a submission was not committed, by the name of an error that the parent knows."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS]
    return _line(number, *((names[0], str(error)) if names else (StoreError.__name__, repr(error))))


def _brief(sent: Sequence[AnyRecord], answer: Sequence[Stored]) -> list[_Brief]:
    pairs = zip(sent, answer, strict=True)
    return [
        (None if row.record is record else row.record.__dict__, row.inserted, row.seq, row.orphan)
        for record, row in pairs
    ]


def _line(*content: Any) -> bytes:
    # Read by `json`: pydantic's reader stops at 200 levels, which the features of a request may have already.
    return to_json(content) + b"\n"


if __name__ == "__main__":
    main()
