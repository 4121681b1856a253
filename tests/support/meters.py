"""What a meter hands on, kept instead of being given to Ray."""

from collections import defaultdict

from serve.metrics.definitions import Metric


class Numbers:
    """A sink of `serve.metrics.meter.Meter`."""

    def __init__(self) -> None:
        self.calls = list[tuple[Metric, float, dict[str, str]]]()

    def __call__(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        self.calls.append((metric, value, tags))

    def values(self, metric: Metric, **labels: str) -> list[float]:
        """Return what was handed on of a metric, of series with these labels."""
        return [v for m, v, tags in self.calls if m is metric and labels.items() <= tags.items()]

    def of(self, metric: Metric, **labels: str) -> float:
        """Return the sum of counts, or the last value of a gauge."""
        values = self.values(metric, **labels)
        return sum(values) if metric.kind == "counter" else values[-1]

    def by(self, metric: Metric, *names: str) -> dict[tuple[str, ...], float]:
        """Return sums or last values by the values of some labels."""
        found = defaultdict[tuple[str, ...], float](float)
        for one, value, tags in self.calls:
            if one is metric:
                labels = tuple(tags[name] for name in names)
                found[labels] = found[labels] + value if metric.kind == "counter" else value
        return dict(found)
