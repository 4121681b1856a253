"""Requests that are sent until they are answered, as a careful client sends them: over kept connections, again by the
same ids, when the service says.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import aiohttp

from data.errors import RecommenderError

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which the same may be sent again."""
TIMEOUT_S = 30.0
_PAUSE_S, _LONGEST_S = 0.2, 10.0


class TrafficError(RecommenderError):
    """The service did not answer as it should; says with what."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One attempt that was not answered with 200."""

    at: float
    """By `perf_counter`."""
    path: str
    status: int
    """0: there was no answer."""
    what: str
    retry_after_s: float | None
    """What the answer says of when to come again."""
    body: Any
    """What was sent."""


class UnansweredError(TrafficError):
    """A request was given up."""

    def __init__(self, last: Refusal, attempts: int) -> None:
        super().__init__(f"{last.path} {last.what}" + (f", after {attempts} attempts" if attempts > 1 else ""))
        self.last = last


def heed(attempts: int, last: Refusal) -> float:
    """Return as many seconds as the answer says, or twice as many each time, up to 10."""
    if last.retry_after_s is not None:
        return last.retry_after_s
    return min(_PAUSE_S * 2.0 ** (attempts - 1), _LONGEST_S)


@dataclass
class Client:
    """Posts JSON to one service, by any of its entries.

    Args:
        session: keeps the connections; see `connect`.
        entries: gives URLs that may be asked now, of which each attempt takes the next one; none: there is no answer.
        attempts: of one request; None: until `is_enough`.
        pause: gives the seconds before the next attempt, from how many there were and the last one.
        is_enough: whether to give up what is not answered.
        on_attempt: is called before each attempt.
        on_refusal: is given each attempt that fails.
    """

    session: aiohttp.ClientSession
    entries: Callable[[], Sequence[str]]
    attempts: int | None = 5
    pause: Callable[[int, Refusal], float] = heed
    is_enough: Callable[[], bool] = lambda: False
    on_attempt: Callable[[], object] = lambda: None
    on_refusal: Callable[[Refusal], object] = lambda refusal: None
    latencies: dict[str, list[float]] = field(default_factory=dict)
    """By path, seconds from the first attempt to the answer with 200."""
    requests: Counter[str] = field(default_factory=Counter)
    """Attempts, by path."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by path and status."""

    async def post(self, path: str, body: Any, start: int = 0) -> Any:
        """Send until it is answered with 200; returns the answer's JSON.

        Args:
            path: of the service.
            body: JSON, with ids, so that it counts once however often it is sent.
            start: which of the entries is tried first.

        Raises:
            UnansweredError: it was given up, or the answer says that it is wrong.
        """
        return await self._insist("POST", path, body, start)

    async def get(self, path: str) -> Any:
        """Likewise, of what is only read."""
        return await self._insist("GET", path, None, 0)

    async def _insist(self, method: str, path: str, body: Any, start: int) -> Any:
        begun = perf_counter()
        for attempt in count(1):
            answer = await self._try(method, path, body, start + attempt - 1)
            if not isinstance(answer, Refusal):
                self.latencies.setdefault(path, []).append(perf_counter() - begun)
                return answer[0]
            self.refusals[f"{path} {answer.status or 'no answer'}"] += 1
            self.on_refusal(answer)
            if (answer.status and answer.status not in BUSY) or attempt == self.attempts or self.is_enough():
                raise UnansweredError(answer, attempt)
            await asyncio.sleep(self.pause(attempt, answer))
        raise AssertionError("it is answered or given up")

    async def _try(self, method: str, path: str, body: Any, turn: int) -> tuple[Any] | Refusal:
        self.requests[path] += 1
        self.on_attempt()
        if not (entries := self.entries()):
            return Refusal(perf_counter(), path, 0, "no entry of the service is ready", None, body)
        try:
            url = entries[turn % len(entries)] + path
            async with self.session.request(method, url, json=body) as response:
                if response.status == 200:
                    return (await response.json(),)
                what = f"answered {response.status}: {(await response.text())[:300]}"
                return Refusal(perf_counter(), path, response.status, what, _retry_after(response.headers), body)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            what = f"did not answer: {type(error).__name__} {error}"
            return Refusal(perf_counter(), path, 0, what, None, body)


def connect(headers: Mapping[str, str], timeout_s: float = TIMEOUT_S, most: int = 1_000) -> aiohttp.ClientSession:
    """Open a session that keeps its connections, at most so many."""
    return aiohttp.ClientSession(
        headers=headers, timeout=aiohttp.ClientTimeout(timeout_s), connector=aiohttp.TCPConnector(limit=most)
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` says; None where it says none, or a date."""
    given = headers.get("Retry-After", "")
    return float(given) if given.isdecimal() else None
