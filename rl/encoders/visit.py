"""A visit: one request for a decision, from the interface that it came in by until it is encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime

from data.fields import Scalar
from data.schema import CONTEXT_TIME, Features, Mode, Rules, Slot, parse_visit_time
from rl.policy.arrays import IntArray


@dataclass(slots=True)  # one is made for each decision of a fold, and takes twice as long if it is frozen
class Visit:
    """Who chooses among what, and when, which encoders read; and how it is to be decided, which they do not."""

    user_id: str | None
    time: datetime
    """When it is decided; see `visit_time`."""
    candidates: Sequence[str]
    """A item ids, each once."""
    context: Mapping[str, Scalar] = field(default_factory=dict)
    features: Features | None = None
    """Those of the context and of each candidate that the request has, or the service knows."""
    history: IntArray | None = None
    """[T, 3] as in `rl.policy.queries.Query`."""
    _: KW_ONLY
    decision_id: str = ""
    """Of the decision to be made; its draws are seeded by it."""
    k: int = 1
    """Items wanted."""
    policy: str | None = None
    """Which decides; None: the one that the user is routed to."""
    mode: Mode = "explore"
    """apprentice and log: the slate is the first candidates, or the baselines of the slots."""
    rules: Rules | None = None
    slots: tuple[Slot, ...] = ()
    node_id: str | None = None
    """The output node that shows the slate."""
    deferred: bool = False
    log_probabilities: bool = False
    """Log the probabilities of all candidates."""
    request: str | None = None
    """See `data.schema.Decision.request`."""
    abtest: str | None = None
    """The A/B test that it belongs to; this and the next as in `data.schema.Decision`."""
    variant: str | None = None

    @property
    def visit_time(self) -> datetime:
        """When the visit is: as the context says, or when it is decided.

        Raises:
            ValueError: the context's time is not ISO 8601 with an offset.
        """
        return parse_visit_time(self.context[CONTEXT_TIME]) if CONTEXT_TIME in self.context else self.time
