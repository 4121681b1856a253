"""What a replica counts: decisions, reports, rows of input nodes, commits and errors."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import perf_counter
from typing import Final, TypeVar

from data.errors import RecommenderError
from data.log.insertion.appender import Stored
from data.schema import LOOP_V1, SHADOW, AnyRecord, Decision, Event, Feedback, Reject, Version
from rl.policy.arrays import FloatArray
from serve.metrics import definitions as of
from serve.metrics.meter import OTHER, Meter

T = TypeVar("T")

NO_NODE: Final = "none"
_ROUTES: Final = ("/v1/recommend", "/v1/feedback", "/v1/events")
_PERSONALIZER: Final = "/personalizer"
_KINDS: Final[Mapping[type[AnyRecord], str]] = {
    Decision: "decisions",
    Feedback: "feedback",
    Event: "events",
    Reject: "rejects",
    Version: "versions",
}
_REMEMBERED = 10_000
"""Reports whose freshness is measured at once, at most."""
_ASKED = 100
"""Contradictory reports between two looks whose node is looked up."""


class Names:
    """What output nodes and kinds of feedback are called in labels: those that are configured, and `other`."""

    def __init__(self, nodes: Collection[str] = (), kinds: Collection[str] = ()) -> None:
        """Take what is configured."""
        self.nodes, self._kinds = frozenset(nodes) | {NO_NODE, OTHER}, frozenset(kinds)

    def node(self, node: str | None) -> str:
        """Return the label of an output node."""
        name = node or NO_NODE
        return name if name in self.nodes else OTHER

    def kind(self, kind: str) -> str:
        """Return the label of a kind of feedback."""
        return kind if kind in self._kinds else OTHER


class ReplicaMetrics:
    """Cheap enough for every request. `Service`, the edge and the replica call it."""

    def __init__(
        self,
        meter: Meter,
        names: Names | None = None,
        input_nodes: Collection[str] = (),
        codes: Collection[str] = (),
    ) -> None:
        """Take what is configured.

        Args:
            meter: counts.
            names: for labels.
            input_nodes: whose rows are taken, which are counted from 0.
            codes: of errors, which are counted from 0 for the routes of reports.
        """
        self.meter, self._names = meter, names or Names()
        self._fresh = dict[str, deque[tuple[int, float]]]()
        self._contradicted = deque[str](maxlen=_ASKED)
        for route in ("/v1/feedback", "/v1/events"):
            for code in codes:
                meter.begin(of.ERRORS, route, code)
        for status in ("stored", "known", "contradictory", "orphan"):
            meter.begin(of.FEEDBACK, LOOP_V1, OTHER, status)
        for node in input_nodes:
            meter.begin(of.EVENTS, node, "stored")
        for kind in ("decisions", "feedback", "events"):
            meter.begin(of.LOGGED, kind)
        for node in self._names.nodes:
            meter.begin(of.NODE_REFUSED, node)

    def decided(self, decision: Decision, first: FloatArray, seconds: float) -> None:
        """Count a decision that was made; `first` is the distribution [A] of the first slot, zeros if unknown."""
        self.meter.observe(of.DECIDE, (decision.loop,), seconds)
        if decision.mode != "explore" or not decision.propensities:
            return
        likeliest = float(first.max())
        if likeliest > 0:
            place = (decision.loop, decision.objective)
            self.meter.count(of.DRAWN, place)
            if decision.propensities[0] < likeliest:
                self.meter.count(of.EXPLORED, place)

    async def commit(self, records: Sequence[AnyRecord], committing: Awaitable[list[Stored]]) -> list[Stored]:
        """Wait for a commit, and count what it was and how long it took."""
        kind, began = _KINDS[type(records[0])] if records else "", perf_counter()
        try:
            stored = await committing
        except RecommenderError as error:
            self.meter.count(of.LOG_ERRORS, (type(error).__name__,))
            raise
        if kind:
            self.meter.observe(of.COMMIT, (kind,), perf_counter() - began)
        for row in stored:
            if row.inserted:
                self._count_row(row.record)
        return stored

    def _count_row(self, record: AnyRecord) -> None:
        self.meter.count(of.LOGGED, (_KINDS[type(record)],))
        if isinstance(record, Decision) and record.loop != SHADOW:
            labels = (record.loop, self._names.node(record.node_id), record.policy, record.mode)
            self.meter.count(of.DECISIONS, labels)

    def reported(self, records: Sequence[Feedback], stored: Sequence[Stored], contradicted: Sequence[bool]) -> None:
        """Count what became of reports."""
        now = perf_counter()
        for record, row, against in zip(records, stored, contradicted, strict=True):
            status = (
                "contradictory" if against else "known" if not row.inserted else "orphan" if row.orphan else "stored"
            )
            self.meter.count(of.FEEDBACK, (record.loop, self._names.kind(record.kind), status))
            if against:
                self._contradicted.append(record.decision_id)
            elif row.inserted and not row.orphan:
                waiting = self._fresh.get(record.loop)
                if waiting is None:
                    waiting = self._fresh[record.loop] = deque(maxlen=_REMEMBERED)
                waiting.append((row.seq, now))

    def learned(self, loop: str, through: int) -> None:
        """Note up to which position this replica's answers have learned the log of feedback."""
        waiting, now = self._fresh.get(loop), perf_counter()
        while waiting and waiting[0][0] <= through:
            self.meter.observe(of.FRESHNESS, (loop,), now - waiting.popleft()[1])

    def ingested(self, node: str, statuses: Sequence[str], rules: Sequence[str], seconds: float) -> None:
        """Count rows of an input node: what became of each, and the rules that some broke."""
        self.meter.observe(of.PREPROCESSING, (node,), seconds)
        for status in statuses:
            self.meter.count(of.EVENTS, (node, status))
        for rule in rules:
            self.meter.count(of.REJECTS, (node, rule))

    def refused(self, path: str, code: str) -> None:
        """Count a request that was answered with an error."""
        route = path if path in _ROUTES else _PERSONALIZER if path.startswith(_PERSONALIZER) else OTHER
        self.meter.count(of.ERRORS, (route, code))

    def count_contradicted(self, read_nodes: Callable[[Collection[str]], Mapping[str, str | None]]) -> None:
        """Look up the output nodes of the decisions that contradictory reports were about. Blocks."""
        asked = [self._contradicted.popleft() for _ in range(len(self._contradicted))]
        found = read_nodes(set(asked)) if asked else {}
        for decision_id in asked:
            self.meter.count(of.NODE_REFUSED, (self._names.node(found.get(decision_id)),))
