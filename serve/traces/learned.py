"""Steps of folds as spans, each linked to the requests whose decisions it has learned from."""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import time_ns
from typing import Final

from opentelemetry.trace import Link, SpanContext, Tracer

from data.json_lines import Redact
from rl.online.fold import Place
from serve.traces.contexts import read_parent, under
from serve.traces.provider import MAX_LINKS

REMEMBERED: Final = 20_000
"""Decisions whose requests are known, at most; of more, who was told of first is forgotten."""
_PER_DECISION = 8
"""Requests about one decision that are known, the last ones."""
_PATIENCE_NS = 2_000_000_000
"""How long a step waits to be a span: replicas tell of requests a little after these were committed."""
_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class _Learned:
    place: Place
    version: str
    began_ns: int
    ended_ns: int
    decision_ids: Sequence[str]


class LearnedSpans:
    """Makes a span of each step that has learned from a request that is traced. Its methods may run in any thread."""

    def __init__(self, tracer: Tracer, redact: Redact) -> None:
        self._tracer, self._redact = tracer, redact
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, deque[SpanContext]] = OrderedDict()
        self._steps = deque[_Learned](maxlen=_STEPS)

    def hear(self, told: Iterable[tuple[str, str]]) -> None:
        """Note which requests were for which decisions, as an `Outbox` has it."""
        with self._lock:
            for decision_id, text in told:
                if parent := read_parent(text):
                    self._requests.setdefault(decision_id, deque(maxlen=_PER_DECISION)).append(parent)
                    self._requests.move_to_end(decision_id)
            while len(self._requests) > REMEMBERED:
                self._requests.popitem(last=False)

    def __call__(self, place: Place, version: str, began_ns: int, decision_ids: Sequence[str]) -> None:
        """See `serve.learning.loops.Watch`."""
        if decision_ids:
            with self._lock:
                self._steps.append(_Learned(place, version, began_ns, time_ns(), decision_ids))

    def send(self, patience_ns: int = _PATIENCE_NS) -> None:
        """Make spans of the steps that have waited for so long; of those that have no request, none."""
        due = time_ns() - patience_ns
        while True:
            with self._lock:
                if not self._steps or self._steps[0].ended_ns > due:
                    return
                step = self._steps.popleft()
                links = list(islice(self._links(step.decision_ids), MAX_LINKS))
            if links:
                self._make(step, links)

    def _links(self, decision_ids: Sequence[str]) -> Iterable[Link]:
        for one in decision_ids:
            for parent in self._requests.get(one, ()):
                name = self._redact.text(one) if self._redact.hides(one) else one
                yield Link(parent, {"raycommend.decision_id": name})

    def _make(self, step: _Learned, links: Sequence[Link]) -> None:
        # Below no span, as requests of many traces are in one step; kept as they are, whatever share of requests is.
        span = self._tracer.start_span(
            "learn",
            context=under(None),
            links=links,
            start_time=step.began_ns,
            attributes={
                "raycommend.loop": step.place[0],
                "raycommend.objective": step.place[1],
                "raycommend.step": step.version,
                "raycommend.decisions": len(step.decision_ids),
            },
        )
        span.end(step.ended_ns)
