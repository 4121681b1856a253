"""Visits over HTTP: each asks, is answered, responds, and reports later, if at all.

The same seed gives the same visits at the same times, and the same answers the same reports. So that this is so however
requests overtake each other, each visit draws from a generator of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from time import perf_counter
from typing import Any

import numpy as np

from data.schema import ORACLE
from serve.traffic.client import Client, UnansweredError
from serve.traffic.disorder import Disorder, Names, Shift
from serve.traffic.visits import People, Report, Response

RECOMMEND, FEEDBACK = "/v1/recommend", "/v1/feedback"


class Stream(IntEnum):
    """What is drawn, each by a generator of its own."""

    PLAN = 0
    NAMES = 1
    VISIT = 2
    FATES = 3
    SLATE = 4


@dataclass(frozen=True)
class Plan:
    """Who comes when, and what becomes of their reports."""

    visits: int
    rate: float | None = None
    """Visits a second, which come independently of each other, whether or not those before are answered; None: as
    `clients` have time."""
    clients: int = 1
    """How many visit at once where there is no rate, each again as soon as all is answered."""
    seed: int = 0
    name: str = "traffic"
    """What the ids of decisions and reports begin with."""
    policies: Sequence[str] = ()
    """Each visit asks one of them, drawn at random; none: the service chooses."""
    disorder: Disorder = field(default_factory=Disorder)
    shifts: Sequence[Shift] = ()
    oracle: bool = False
    """Report of each visit also what the best slate would have earned, as kind `ORACLE`, where the simulator knows."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One visit of the plan."""

    number: int
    due_s: float
    """After the beginning."""
    user: int
    policy: str | None


@dataclass(frozen=True, slots=True)
class Done:
    """A visit that was answered."""

    number: int
    at: float
    """When it was answered, by `perf_counter`."""
    policy: str
    """Which answered."""
    response: Response
    learned_through: int
    """Up to which log position of feedback the policy had learned."""


@dataclass
class Traffic:
    """What was sent and what came of it."""

    visits: list[Done] = field(default_factory=list)
    """In the order of their answers."""
    decisions: set[str] = field(default_factory=set)
    """Ids that were acknowledged."""
    feedback: dict[str, int] = field(default_factory=dict)
    """Log positions that were acknowledged, by id."""
    newest: tuple[int, float] = (0, 0.0)
    """The last of these positions, and when it was acknowledged."""
    reports: Counter[str] = field(default_factory=Counter)
    """What became of them: made, lost, late, sent, sent twice; and by the status that the service gave."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that were given up, by path and status."""
    examples: list[str] = field(default_factory=list)
    """What the first of them were answered."""
    begun: float = 0.0
    """By `perf_counter`."""


def arrivals(plan: Plan, people: People) -> Iterator[Arrival]:
    """Yield all visits; those of a rate come at the times of a Poisson process."""
    rng, due = np.random.default_rng([plan.seed, Stream.PLAN]), 0.0
    for number in range(plan.visits):
        due += rng.exponential(1.0 / plan.rate) if plan.rate else 0.0
        policy = str(rng.choice(list(plan.policies))) if plan.policies else None
        yield Arrival(number, due, people.choose(rng), policy)


class Driver:
    """Sends the visits of some people.

    Args:
        people: who visit.
        client: how requests are sent.
        plan: which, when.
        strict: whether a request that is given up ends all; else it is counted, and its user goes away.
        on_visit: is called after each visit.
        on_report: is given each report that a user makes, whether it is late, and after how many seconds it is sent.
    """

    def __init__(
        self,
        people: People,
        client: Client,
        plan: Plan,
        *,
        strict: bool = False,
        on_visit: Callable[[], object] = lambda: None,
        on_report: Callable[[Report, bool, Sequence[float]], object] = lambda report, late, times: None,
    ) -> None:
        self._people, self._client, self.plan, self._strict = people, client, plan, strict
        self._on_visit, self._on_report = on_visit, on_report
        self._names = Names(people.items, plan.shifts, np.random.default_rng([plan.seed, Stream.NAMES]))
        self._turns: dict[int, asyncio.Lock] = {}
        self.traffic = Traffic()

    async def drive(self) -> None:
        """Send all visits, and all that is reported of them; returns when that is done.

        Raises:
            UnansweredError: a request was given up, where that ends all.
            DataError: what the simulator shows does not fit a request.
        """
        self.traffic.begun = perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                if self.plan.rate:
                    for arrival in arrivals(self.plan, self._people):
                        await asyncio.sleep(max(0.0, self.traffic.begun + arrival.due_s - perf_counter()))
                        group.create_task(self._come(arrival, group))
                else:
                    shared = arrivals(self.plan, self._people)
                    for _ in range(self.plan.clients):
                        group.create_task(self._come_again(shared, group))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _come_again(self, shared: Iterator[Arrival], group: asyncio.TaskGroup) -> None:
        for arrival in shared:  # one iterator: the clients share the visits out among them
            for report in await self._come(arrival, group):
                await report

    async def _come(self, arrival: Arrival, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Make a visit; returns the tasks that report of it."""
        if not self._people.remembers:
            return await self._visit(arrival, group)
        async with self._turns.setdefault(arrival.user, asyncio.Lock()):
            return await self._visit(arrival, group)

    async def _visit(self, arrival: Arrival, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        plan, number = self.plan, arrival.number
        visit = self._people.visit(arrival.user, (plan.seed, Stream.VISIT, number))
        naming, decision_id = self._names.at(number), f"{plan.name}-{plan.seed}-{number}"
        body = {
            "decision_id": decision_id,
            "user_id": visit.user_id,
            "context": visit.context,
            "candidates": [naming.names[item] for item in visit.candidates],
            "k": visit.k,
            **({"policy": arrival.policy} if arrival.policy else {}),
        }
        answer = await self._send(RECOMMEND, body)
        self._on_visit()
        if answer is None:
            return []
        self.traffic.decisions.add(decision_id)
        response = visit.respond([naming.numbers[item["item_id"]] for item in answer["items"]])
        policy, through = answer["policy"]["name"], answer["learned_through"]
        self.traffic.visits.append(Done(number, perf_counter(), policy, response, through))
        reports = list(response.reports)
        if plan.oracle and response.best is not None:
            reports.append({"kind": ORACLE, "value": response.best})
        return [
            group.create_task(self._report(due, reports))
            for due, reports in self._letters(decision_id, number, reports, naming.names)
        ]

    def _letters(
        self, decision_id: str, number: int, reports: Sequence[Report], names: Sequence[str]
    ) -> list[tuple[float, list[Report]]]:
        """Return what is sent of a visit's reports, by the seconds after it; what is due together goes together."""
        rng, letters = np.random.default_rng([self.plan.seed, Stream.FATES, number]), dict[float, list[Report]]()
        for place, report in enumerate(reports):
            late, times = self.plan.disorder.fate(rng)
            self.traffic.reports.update(
                {"made": 1, "lost": int(not times), "late": int(late), "twice": len(times) // 2}
            )
            about = {name: value for name, value in report.items() if name != "item"}
            item = {"item_id": names[report["item"]]} if "item" in report else {}
            row = {"decision_id": decision_id, "feedback_id": f"{decision_id}-{place}", **about, **item}
            self._on_report(row, late, times)
            for due in times:
                letters.setdefault(due, []).append(row)
        return sorted(letters.items(), key=lambda letter: letter[0])

    async def _report(self, due_s: float, reports: list[Report]) -> None:
        if due_s:
            await asyncio.sleep(due_s)
        self.traffic.reports["sent"] += len(reports)
        answer = await self._send(FEEDBACK, reports)
        for row in answer["results"] if answer is not None else ():
            self.traffic.reports[row["status"]] += 1
            if row["position"] is not None:
                self.traffic.feedback[row["feedback_id"]] = row["position"]
                self.traffic.newest = max(self.traffic.newest, (row["position"], perf_counter()))

    async def _send(self, path: str, body: Any) -> Any:
        """Return the answer; None if the request was given up."""
        try:
            return await self._client.post(path, body)
        except UnansweredError as error:
            if self._strict:
                raise
            self.traffic.failures[f"{path} {error.last.status or 'no answer'}"] += 1
            if len(self.traffic.examples) < 5:
                self.traffic.examples.append(str(error))
            return None
