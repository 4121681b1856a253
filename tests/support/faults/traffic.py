"""Clients that ask, report what they bought, and try again as a client would; what came of it, by the clock."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from time import perf_counter, sleep

import aiohttp
import numpy as np

from serve.traffic.client import Client, Refusal, UnansweredError, connect
from tests.support.ledger import Ledger

_TIMEOUT_S = 5.0
_PAUSE_S = 0.2
_WATCHED_S = 1.0
"""How often a load balancer looks whether an ingress is ready."""
_CHECK_S, _FALL = 2.0, 2
"""How long it waits for the answer, and how often in a row that has to fail."""
_STEADY_S = 3.0
"""How long nothing may fail until it is said that nothing fails any more."""
_STUCK_S = 2.0
"""A request that has waited so long may be about to fail."""
_BUSY = {429, 503}


@dataclass
class Traffic:
    """Each client visits again and again: it asks for a slate, and reports a click on it.

    What is not answered with 2xx is sent again with its id until it is. Where there are several ingresses, requests go
    to those that are ready, as a load balancer would send them.
    """

    entries: Sequence[str]
    """URLs of the ingresses."""
    headers: Mapping[str, str]
    per_second: float = 40.0
    """Requests, as long as all are answered."""
    clients: int = 8
    k: int = 2
    users: Sequence[str] = tuple(f"u-{number}" for number in range(10))
    ledger: Ledger = field(default_factory=Ledger)
    refusals: list[tuple[float, str]] = field(default_factory=list)
    """When, by `perf_counter`, and what: an answer that says to try again, no connection, no answer in time."""
    wrong: list[str] = field(default_factory=list)
    """Answers that nobody should get, whatever has died."""
    answers: list[tuple[float, int]] = field(default_factory=list)
    """Of slates: when, and up to which log position of feedback the policy had learned."""
    reports: list[tuple[float, int]] = field(default_factory=list)
    """When feedback was acknowledged, and its position."""
    _open: dict[int, float] = field(default_factory=dict)
    """When the request of each client has begun."""
    _down: set[str] = field(default_factory=set)
    """Ingresses that are not ready."""
    _enough: Event = field(default_factory=Event)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Let the clients visit meanwhile; at the end each completes what it has begun, if it is answered."""
        failed = list[BaseException]()

        def flow() -> None:
            try:
                asyncio.run(self._flow())
            except BaseException as error:
                failed.append(error)

        self._enough.clear()
        thread = Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()
        if failed:
            raise failed[0]

    def wait_until_back(self, since: float, is_whole: Callable[[], bool], timeout_s: float) -> float:
        """Wait until the service is back, and return how many seconds after `since` it was.

        It is when it is whole, nothing fails any more, and what was reported after `since` is learned.

        Raises:
            AssertionError: it was not in time.
        """
        whole_at = None
        while True:
            whole_at = (whole_at or perf_counter()) if is_whole() else None
            now = perf_counter()
            refused_at = max((at for at, _ in self.refusals[-1:]), default=since)
            stuck = any(now - begun > _STUCK_S for begun in list(self._open.values()))
            learned_at = self._learned_at(max(since, refused_at))
            if whole_at and learned_at and not stuck and now - max(since, refused_at) > _STEADY_S:
                return max(whole_at, refused_at, self._learned_at(since) or learned_at) - since
            assert now - since < timeout_s, (
                f"not back in {timeout_s:g} s: whole {whole_at is not None}, learns {learned_at is not None}, "
                f"stuck {stuck}, the last of {len(self.refusals)} refusals {now - refused_at:.1f} s ago: "
                f"{self.refusals[-3:]}"
            )
            sleep(0.1)

    def freshness_s(self, since: float, until: float) -> list[float]:
        """Return, of each report acknowledged in a time, the seconds until an answer had learned it."""
        slates = np.array(sorted(self.answers)).reshape(-1, 2)
        waits = list[float]()
        for at, position in self.reports:
            if since <= at < until:
                learned = slates[(slates[:, 0] > at) & (slates[:, 1] >= position)]
                waits += [float(learned[0, 0]) - at] if len(learned) else []
        return waits

    def _learned_at(self, since: float) -> float | None:
        """Return when an answer had learned the first report that was acknowledged after a time; None: none has."""
        first = next((position for at, position in list(self.reports) if at > since), None)
        if first is None:
            return None
        return next((at for at, through in list(self.answers) if at > since and through >= first), None)

    async def _flow(self) -> None:
        begin = len(self.ledger.decisions)
        clients = [self._client(number, f"{begin}-{number}") for number in range(self.clients)]
        self._down = set(self.entries) if len(self.entries) > 1 else set()
        balancers = [self._watch(entry) for entry in self._down]
        await asyncio.gather(*clients, *balancers)

    async def _watch(self, entry: str) -> None:
        """Look again and again whether an ingress is ready."""
        timeout, failed = aiohttp.ClientTimeout(_CHECK_S), 0
        async with aiohttp.ClientSession(headers=self.headers, timeout=timeout) as session:
            while not self._enough.is_set():
                try:
                    async with session.get(f"{entry}/readyz") as answer:
                        failed = 0 if answer.status == 200 else failed + 1
                except (aiohttp.ClientError, TimeoutError):
                    failed += 1
                if failed == 0:
                    self._down.discard(entry)
                elif failed >= _FALL:
                    self._down.add(entry)
                await asyncio.sleep(_WATCHED_S)

    async def _client(self, number: int, name: str) -> None:
        every_s = 2 * self.clients / self.per_second

        def begin() -> None:
            self._open[number] = perf_counter()

        def note(refusal: Refusal) -> None:
            self._open.pop(number, None)
            what = f"{refusal.path} {refusal.what}"
            self.refusals.append((refusal.at, what))
            if refusal.status and (refusal.status not in _BUSY or refusal.retry_after_s is None):
                self.wrong.append(f"{refusal.body}: {what}")

        async with connect(self.headers, _TIMEOUT_S) as session:
            client = Client(
                session,
                lambda: [one for one in self.entries if one not in self._down],
                attempts=None,
                pause=lambda attempts, last: _PAUSE_S,
                is_enough=self._enough.is_set,
                on_attempt=begin,
                on_refusal=note,
            )
            await asyncio.sleep(every_s * number / self.clients)
            for turn in count():
                if self._enough.is_set():
                    return
                begun = perf_counter()
                with suppress(UnansweredError):
                    await self._visit(client, number, f"{name}-{turn}", self.users[turn % len(self.users)])
                self._open.pop(number, None)
                await asyncio.sleep(max(0.0, begun + every_s - perf_counter()))

    async def _visit(self, client: Client, number: int, name: str, user: str) -> None:
        slate = await client.post("/v1/recommend", {"decision_id": name, "user_id": user, "k": self.k}, number)
        self._open.pop(number, None)
        self.ledger.decisions.add(name)
        self.answers.append((perf_counter(), slate["learned_through"]))
        report = {"decision_id": name, "kind": "click", "feedback_id": name}
        done = await client.post("/v1/feedback", report, number)
        position = int(done["results"][0]["position"])
        self.ledger.reports[name] = position
        self.reports.append((perf_counter(), position))
