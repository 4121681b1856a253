"""Numbers of one process: added up in plain Python where they arise, handed to Ray's metrics now and then.

A call of Ray's metrics takes some 2.5 us with its locks and copies, an addition to a dictionary a tenth of it. Ray
takes the values of a histogram one by one only, and its agent records each again, for some 15 us more. So of more
than `SAMPLE` values between two flushes so many are handed on, drawn at random: quantiles are right, counters say
how many there were.
"""

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from ray.util import metrics as ray_metrics

from serve.metrics.definitions import PREFIX, REPLICA, Metric

Labels = tuple[str, ...]

OTHER: Final = "other"
_SERIES: Final = 500
"""Label sets of one metric, at most: beyond, all labels are `other`."""
SAMPLE: Final = 20
"""Values of one series of a histogram that are handed on in one flush, at most."""
_AT_ONCE: Final = 100
"""Calls of Ray between which requests get their turn."""
_LEAST: Final = math.ulp(0.0)
"""Makes a counter appear as 0: Ray takes only what is more than 0, and this is lost in the first count."""


class Sink(Protocol):
    """Where the numbers go: a metric of Ray, or of a test."""

    def __call__(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        """Add to a counter, set a gauge, or observe in a histogram."""
        ...


class RayMetrics:
    """Ray's metrics, each made when it is first used."""

    def __init__(self) -> None:
        self._made: dict[Metric, Callable[[float, dict[str, str]], None]] = {}

    def __call__(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        """Hand a number to Ray."""
        record = self._made.get(metric)
        if record is None:
            record = self._made[metric] = _make(metric)
        record(value, tags)


def _make(metric: Metric) -> Callable[[float, dict[str, str]], None]:
    name, labels = PREFIX + metric.name, (*metric.labels, REPLICA)
    match metric.kind:
        case "counter":
            return ray_metrics.Counter(name, metric.says, labels).inc
        case "gauge":
            return ray_metrics.Gauge(name, metric.says, labels).set
        case "histogram":
            return ray_metrics.Histogram(name, metric.says, list(metric.buckets), labels).observe


class _Sample:
    """Values of a histogram since the last flush, all of them or as many drawn at random."""

    __slots__ = ("seen", "values")

    def __init__(self) -> None:
        self.seen, self.values = 0, list[float]()


class Meter:
    """What one process has counted since the last flush. A count during a flush in another thread may be lost."""

    def __init__(self, replica: str, sink: Sink | None = None) -> None:
        """Take the process's name, which is a label of all; default sink: Ray."""
        self._replica, self._sink = replica, sink or RayMetrics()
        self._counts = defaultdict[Metric, dict[Labels, float]](dict)
        self._values = defaultdict[Metric, dict[Labels, _Sample]](dict)
        self._random = random.Random(replica)  # noqa: S311 - no secret
        self._gauges = dict[Metric, dict[Labels, float]]()
        self._known = defaultdict[Metric, dict[Labels, dict[str, str]]](dict)

    def begin(self, metric: Metric, *labels: str) -> None:
        """Let a counter appear as 0, so that its first count is seen as a rise."""
        self.count(metric, labels, _LEAST)

    def count(self, metric: Metric, labels: Labels = (), number: float = 1.0) -> None:
        """Add to a counter; labels in the order of the definition."""
        counts = self._counts[metric]
        counts[labels] = counts.get(labels, 0.0) + number

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """Observe a value for a histogram."""
        samples = self._values[metric]
        sample = samples.get(labels)
        if sample is None:
            sample = samples[labels] = _Sample()
        sample.seen += 1
        if sample.seen <= SAMPLE:
            sample.values.append(value)
        elif (place := int(self._random.random() * sample.seen)) < SAMPLE:  # Vitter's algorithm R (1985)
            sample.values[place] = value

    def set(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """Set a gauge for all its labels; what was set before for others is forgotten."""
        self._gauges[metric] = dict(values)

    def drain(self) -> Iterator[tuple[Metric, float, dict[str, str]]]:
        """Yield what is to be handed on: counts and values since the last time, and all gauges as they are."""
        counts, self._counts = self._counts, defaultdict(dict)
        values, self._values = self._values, defaultdict(dict)
        # Copies: another thread may still add to what it has looked up before.
        for metric, by_labels in list(counts.items()):
            for labels, number in list(by_labels.items()):
                yield metric, number, self._tags(metric, labels)
        for metric, observed in list(values.items()):
            for labels, sample in list(observed.items()):
                tags = self._tags(metric, labels)
                for value in list(sample.values):
                    yield metric, value, tags
        for metric, gauges in list(self._gauges.items()):
            for labels, value in gauges.items():
                if math.isfinite(value):
                    yield metric, value, self._tags(metric, labels)

    def flush(self) -> None:
        """Hand everything on, at once."""
        for metric, value, tags in self.drain():
            self._sink(metric, value, tags)

    async def flush_between(self) -> None:
        """Hand everything on, a little at a time, so that no request waits for it."""
        for number, (metric, value, tags) in enumerate(self.drain()):
            self._sink(metric, value, tags)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)

    def _tags(self, metric: Metric, labels: Labels) -> dict[str, str]:
        known = self._known[metric]
        if tags := known.get(labels):
            return tags
        if len(known) >= _SERIES:
            labels = (OTHER,) * len(metric.labels)
        tags = known[labels] = dict(zip((*metric.labels, REPLICA), (*labels, self._replica), strict=True))
        return tags
