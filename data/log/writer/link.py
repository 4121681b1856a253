"""Between a process and the one that commits for it: lines of JSON through a socket pair, and whether it lives."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from pydantic_core import to_json

from data.json_lines import SUBJECT
from data.log.backend import Identity
from data.log.errors import StoreDamaged, StoreError, StoreLost, StoreUnavailable, StoreUnconfirmed
from data.log.insertion.appender import Stored
from data.log.insertion.insert import LoggedRow
from data.log.insertion.rows import to_row
from data.log.sqlite.driver import BUSY_TIMEOUT_S
from data.schema import AnyRecord

BEAT_S: Final = 1.0
"""How often the child says that it lives."""
SILENT_BEATS: Final = 5
"""After how many that were missed it hangs."""
STARTING_BEATS: Final = 60
"""The same before the first: Python has to start, on a machine that may have no time for it."""
UNANSWERED_BEATS: Final = int((BUSY_TIMEOUT_S + 15) / BEAT_S)
"""The same without an answer to what waits for one: a database that is locked answers sooner."""
ENOUGH: Final = 8
"""Submissions that wait for no company: the child commits them while the parent makes and reads others."""
ERRORS = {
    kind.__name__: kind
    for kind in (
        StoreLost,
        StoreDamaged,
        StoreUnconfirmed,
        StoreUnavailable,
        StoreError,
        OverflowError,
        ValueError,
    )
}
log = logging.getLogger("raycommend.writer")


class Link(asyncio.Protocol):
    """The parent's end of the socket pair. A child that hangs is killed: who waits for it is told so."""

    def __init__(self, kill: Callable[[], None]) -> None:
        """Build it; `kill` ends the child."""
        self._kill, self._end = kill, "has ended"
        self.open = False
        self.identity: Identity | None = None
        """Of the database that the child has opened."""
        self.pending = 0
        """Records sent and not yet answered."""
        self._closed = asyncio.Event()
        self._received = bytearray()  # of a line that is not complete
        self._outgoing: list[bytes] = []
        self._sent = 0
        self._waiting: dict[int, tuple[Sequence[AnyRecord], asyncio.Future[list[Stored]]]] = {}
        # Counted in ticks of our own loop, not in time: a parent that was stopped itself has not listened meanwhile.
        self._silent = self._unanswered = 0
        self._heard = self._answered = False
        self._refusal: Exception | None = None

    async def send(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Send records, and wait for what is answered."""
        rows = [to_row(record) for record in records]
        subject = SUBJECT.get()  # what the child logs of them has its request's id too
        line = encode_line(
            self._sent, [(row.layout.name, row.values) for row in rows], subject.request_id if subject else ""
        )
        future: asyncio.Future[list[Stored]] = asyncio.get_running_loop().create_future()
        self._waiting[self._sent] = records, future
        self._sent += 1
        self.pending += len(records)
        if not self._outgoing:  # together with what others send in this turn of the loop: each write wakes the child
            asyncio.get_running_loop().call_soon(self._write)
        self._outgoing.append(line)
        if len(self._outgoing) == ENOUGH:
            self._write()
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
        self._ticking = asyncio.get_running_loop().call_later(BEAT_S, self._tick)

    def _tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(BEAT_S, self._tick)
        self._silent += 1
        self._unanswered = self._unanswered + 1 if self._waiting else 0
        if self._silent > (SILENT_BEATS if self._heard else STARTING_BEATS):
            self._give_up(f"was silent for {self._silent * BEAT_S:g} s")
        elif self._answered and self._unanswered > UNANSWERED_BEATS:
            self._give_up(f"did not answer for {self._unanswered * BEAT_S:g} s")

    def _give_up(self, why: str) -> None:
        log.warning("the process that writes the log %s: it is killed, and another one takes its place", why)
        self._end = f"{why} and was killed"
        self._kill()
        self._transport.abort()  # it may not die before the disk answers

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who wait for them."""
        self._received += data
        self._silent, self._heard = 0, True
        if b"\n" not in data:
            return
        *lines, self._received = self._received.split(b"\n")
        for line in filter(None, lines):  # an empty one says only that the child lives
            self._unanswered, self._answered = 0, True
            number, failed, answer = json.loads(line)
            if number is not None:
                self._settle(number, ERRORS[failed](answer) if failed else answer)
            elif failed:
                self._refusal = ERRORS[failed](answer)
            else:
                self.identity = tuple(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell those who still wait."""
        self.open = False
        self._ticking.cancel()
        unanswered = StoreUnconfirmed(f"the process that writes the log {self._end} before it answered")
        for number in list(self._waiting):
            self._settle(number, self._refusal or unanswered)
        self._closed.set()

    def _settle(self, number: int, answer: list[Any] | Exception) -> None:
        records, future = self._waiting.pop(number)
        self.pending -= len(records)
        if future.done():  # cancelled: nobody waits for it any more
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            pairs = zip(records, answer, strict=True)
            future.set_result([Stored.of(record, _logged_row(record, *logged)) for record, logged in pairs])


def _logged_row(
    sent: AnyRecord, record: Any, seq: int, inserted: bool, orphan: bool, received_at: int | None
) -> LoggedRow:
    held = None if record is None else type(sent).model_validate(record)
    return LoggedRow(seq, inserted, orphan, received_at, held)


def encode_line(*content: Any) -> bytes:
    """Return a line with some values as JSON."""
    # Read by `json`: pydantic's reader stops at 200 levels, which the features of a request may have already.
    return to_json(content) + b"\n"
