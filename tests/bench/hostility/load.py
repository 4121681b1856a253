"""Closed-loop load: a few clients send probes as fast as they are answered, and everything answered is counted."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
import numpy as np
from yarl import URL

from tests.bench.hostility.asks import Ask, Promise
from tests.bench.hostility.kinds import draw

TIMEOUT_S = 30.0
GRACE_S = 30.0
"""How long after a restart a 503 is no fault."""
_FAULTS = {500, 502, 504}


@dataclass
class Tally:
    """What came of the probes."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    """Answered 503 or 429 with Retry-After."""
    faults: list[str] = field(default_factory=list)
    """500, 502, 504, a 503 without Retry-After or too long after a restart, and no answer at all."""
    promised: set[Promise] = field(default_factory=set)
    up_since: float = 0.0
    """By `monotonic`; infinite while the service is restarted on purpose."""

    @property
    def probes(self) -> int:
        """How many were sent."""
        return sum(map(Counter.total, (self.accepted, self.refused, self.busy))) + len(self.faults)

    def count(self, kind: str, ask: Ask, status: int, retry_after: bool, text: bytes) -> None:
        """Count an answer, and keep what it promises."""
        late = monotonic() > self.up_since + GRACE_S
        if status in _FAULTS or (status == 503 and (not retry_after or late)):
            self.fault(kind, ask, f"{status} {text[:200]!r}")
        elif status in (429, 503):
            self.busy[kind] += 1
        elif status >= 400:
            self.refused[kind] += 1
        else:
            self.accepted[kind] += 1
            if status in (200, 201) and ask.method in ("POST", "PUT"):
                self.promised.update(ask.promises(json.loads(text)))

    def fault(self, kind: str, ask: Ask, what: str) -> None:
        """Keep what went wrong with a probe."""
        self.faults.append(f"{kind}: {ask.method} {ask.path[:100]} {(ask.body or b'')[:300]!r}: {what}")


async def probe(url: str, seed: int, numbers: Iterator[int], tally: Tally, clients: int) -> None:
    """Send the probes of these numbers; each is drawn from the seed and its number alone."""

    async def client() -> None:
        connector, timeout = aiohttp.TCPConnector(limit=1), aiohttp.ClientTimeout(TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            for number in numbers:
                kind, ask = draw(np.random.default_rng((seed, number)))
                try:
                    await _send(session, url, kind, ask, tally)
                except (aiohttp.ClientError, TimeoutError) as error:
                    tally.fault(kind, ask, f"no answer: {type(error).__name__} {error}")

    await asyncio.gather(*(client() for _ in range(clients)))


async def _send(session: aiohttp.ClientSession, url: str, kind: str, ask: Ask, tally: Tally) -> None:
    headers = {name: value for name, value in ask.headers.items() if "\n" not in value}
    where = URL(url + ask.path, encoded=True)
    async with session.request(ask.method, where, data=ask.body, headers=headers, allow_redirects=False) as response:
        if "text/event-stream" in response.headers.get("content-type", ""):
            text = b""
        else:
            text = await response.read()
        tally.count(kind, ask, response.status, "retry-after" in response.headers, text)
