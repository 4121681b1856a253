"""A load that rises and falls, and what a service that is scaled makes of it."""

import asyncio
import bisect
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from tests.bench.service.steady import Answer, timed
from tests.support.prometheus import Prometheus, prometheus
from tests.support.scaled import Watched

LOOK_BACK_S = 10.0
"""What p99 is of, as the stand-in for Prometheus tells it."""
_LOOK_S = 0.5


@dataclass(frozen=True)
class Profile:
    """Requests a second over time: straight lines between points (seconds, rate)."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def around(cls, one: float, before_s: float, rise_s: float, top_s: float, after_s: float) -> "Profile":
        """Begin with half of what one replica can, rise to five times that, stay, fall as fast, stay."""
        times = np.cumsum([0.0, before_s, rise_s, top_s, rise_s, after_s]).tolist()
        return cls(tuple(zip(times, (one / 2, one / 2, 5 * one, 5 * one, one / 2, one / 2), strict=True)))

    def rate(self, second: float) -> float:
        """Return the requests a second at a time."""
        times, rates = zip(*self.points, strict=True)
        return float(np.interp(second, times, rates))

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.points[-1][0]

    def arrivals(self, rng: np.random.Generator) -> list[float]:
        """Draw when requests leave, as of many clients that know nothing of each other: a Poisson process, thinned."""
        most = max(rate for _, rate in self.points)
        times = np.cumsum(rng.exponential(1 / most, size=int(2 * most * self.seconds) + 100))
        times = times[times < self.seconds]
        kept = rng.random(len(times)) * most < np.array([self.rate(time) for time in times.tolist()])
        found: list[float] = times[kept].tolist()
        return found


@dataclass
class Course:
    """What came of it: the answers as they came, and how many replicas there were; seconds from the beginning."""

    begin: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    replicas: list[tuple[float, int]] = field(default_factory=list)

    def count(self, *statuses: int) -> int:
        """Count the answers of some statuses."""
        return sum(answer.status in statuses for answer in self.answers)

    @property
    def failures(self) -> Counter[str]:
        """What was neither answered nor refused by 429: how often which status, with the body; 0 is no answer."""
        return Counter(f"{one.status} {one.text}" for one in self.answers if one.status not in (200, 429))

    def p99_ms(self, first: float, last: float) -> float | None:
        """Return the 99th percentile of what was answered with 200 between two times; None if nothing was."""
        start = bisect.bisect_left(self.answers, self.begin + first, key=lambda answer: answer.answered)
        end = bisect.bisect_right(self.answers, self.begin + last, key=lambda answer: answer.answered)
        taken = [answer.answered - answer.due for answer in self.answers[start:end] if answer.status == 200]
        return float(np.quantile(taken, 0.99)) * 1e3 if taken else None

    def windows(self, seconds: float, width_s: float = 5.0) -> list[tuple[float, float | None]]:
        """Return the ends of windows of some seconds with their p99."""
        ends = np.arange(width_s, seconds + 0.01, width_s).tolist()
        return [(end, self.p99_ms(end - width_s, end)) for end in ends]

    def back_within(self, bound_ms: float, since: float, until: float) -> float:
        """Return the seconds from a time until p99 of every later window, up to another time, is under its bound."""
        over = [end for end, p99 in self.windows(until) if end > since and p99 is not None and p99 > bound_ms]
        return max(over) - since if over else 0.0

    def last_refusal(self, since: float) -> float:
        """Return the seconds from a time to the last 429; 0 if there was none."""
        refused = [answer.answered - self.begin - since for answer in self.answers if answer.status == 429]
        return max(0.0, *refused, 0.0)


def drive(service: Watched, server: Prometheus, profile: Profile, bodies: Sequence[Any], seed: int) -> Course:
    """Load a service by a profile; meanwhile Prometheus is told p99 of the last seconds as the clients have it."""
    times, course, done = profile.arrivals(np.random.default_rng(seed)), Course(), threading.Event()

    def request(number: int) -> tuple[str, Any]:
        return "/v1/recommend", bodies[number % len(bodies)]

    def look() -> None:
        while not done.wait(_LOOK_S):
            now = perf_counter() - course.begin
            course.replicas.append((now, service.replicas))
            server.value = course.p99_ms(now - LOOK_BACK_S, now)

    watcher = threading.Thread(target=look, daemon=True)
    course.begin = perf_counter()
    watcher.start()
    try:
        asyncio.run(timed(service.url, request, range(len(times)), times, course.answers.append))
    finally:
        done.set()
        watcher.join()
    return course


@contextmanager
def scaling(bound_ms: float, **options: Any) -> Iterator[tuple[Prometheus, dict[str, Any]]]:
    """Yield a stand-in for Prometheus and an `autoscaling_config` by our policy that asks it."""
    with prometheus() as server:
        asked = {"prometheus": server.url, "p99_ms": bound_ms, "every_s": 1.0}
        policy = {"policy_function": "serve.autoscaling:Replicas", "policy_kwargs": asked}
        yield server, {"min_replicas": 1, **options, "policy": policy}
