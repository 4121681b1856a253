"""Attribution: decisions with their feedback become rewards. Pure functions, no storage.

What says how feedback turns into reward, for the online learner, batch training and evaluation. For whole tables
`data.attribution.columns` computes the same faster; a test holds it to this, bit by bit.

Clocks jump, and this is what holds then. What a decision earns follows from the stamps in the log alone: feedback
counts if its `received_at` is within the wait of its decision's `time`, before or after, however late it is read and
whatever a clock says by then. So all who read one log come to the same rewards. What was stamped during a jump of less
than the wait counts like any other; of a longer one, what was decided on one side of it and reported on the other is
late: it is kept, and earns nothing. When a window closes is another matter: it says from when on silence is learned,
and feedback that counts corrects it even then. It closes at its deadline (`deadlines`), which the log's own order
bounds, so that no window stays open for the length of a jump. A clock that is ahead closes windows early, and those
who look at the log afterwards close the same ones when their deadlines have passed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data.reward import RewardSpec
from data.schema import ACTIVATE, Decision, Feedback

AGGREGATE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "first": lambda values: values[0],
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "median": median,
    "min": min,
    "max": max,
}
"""How several values of one slot become one, by the name in the reward specification."""

GRACE = timedelta(seconds=10)
"""How long after a wait window closes feedback of its last moment may still be on its way into the log."""


Case: TypeAlias = Literal[
    "counted",
    "reordered",
    "clock_skew",
    "activation",
    "late",
    "duplicate",
    "contradictory",
    "unknown_kind",
    "not_in_slate",
    "not_a_number",
]
"""What a report is. The first three count, by when they were received: one as it should be; one that was received
before its decision was made; one that by the reporter's clock happened before its decision, or after it was received.
An activation says that a deferred decision was shown. The others have no effect: received after the wait window, or
longer than that before the decision; known already by its id, and says the same or does not; of a kind without a
weight, or of another loop; about an item that was not shown; of a value that is no finite number.

Two more are no report about a decision: an orphan is a report whose decision the log does not have, and missing is a
decision of which nothing that counts was reported within the wait: it earns the default.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known at one time about what a decision earned."""

    decision: Decision
    rewards: tuple[float, ...]
    """One a slot, from the first to the last that the user saw: of those below nothing is known."""
    reward: float
    """The sum over the slots."""
    observed: bool
    """Some feedback counts."""
    closed: bool
    """The wait window is over: nothing that is received from now on can change the rewards."""
    cases: tuple[Case, ...] = ()
    """What each report was, in log order."""
    active: bool = True
    """It was shown, as far as is known: a deferred decision is not before it was activated in the wait window."""
    position: int | None = None
    """Of the decision in the log; None: it is not known, or in none."""

    @property
    def due(self) -> bool:
        """Whether to learn from it now. Before it is closed, further feedback may still change the rewards.

        Of a slate on which the rules left nothing there is nothing to learn.
        """
        return self.active and bool(self.rewards) and (self.observed or self.closed)

    @property
    def missing(self) -> bool:
        """Whether it is learned because nothing that counts was reported."""
        return self.due and not self.observed


def attribute(decision: Decision, feedback: Sequence[Feedback], spec: RewardSpec, now: datetime) -> Outcome:
    """Give each slot of the decision its reward from the decision's feedback, which is in log order.

    A feedback counts if it was received at most `spec.wait_s` seconds after the decision was made (or before: a
    decision may reach the log after its feedback), its kind has a
    weight and its item (none named: the first slot's) was shown; where the decision has slots of its own, it names the
    slot in place of the item. It is worth weight times value, less by `spec.half_life_s`. A slot with several
    gets their aggregate in log order, a slot with none gets `spec.default`; see `RewardSpec` for what else it says.

    A weight of 0 counts too: the slot was observed and earned 0 instead of the default. So with a default of 0 a view
    changes no reward and only makes the outcome due at once; with a default of -1 a view lifts its own slot to 0.

    Feedback of another loop than the decision's is not that loop's to learn from, and counts as one of an unknown kind.

    A deferred decision is due only if feedback of kind `ACTIVATE` was received in the same window. Feedback whose value
    is no finite number has no effect.

    Raises ValueError for feedback of another decision, or without `received_at` (it did not come from the log).
    """
    counted: dict[int, list[float]] = {}
    cases, known = list[Case](), dict[str, Feedback]()
    active, named, lowest, slots = not decision.deferred, False, -1, len(decision.slate)
    for item in feedback:
        age_s = _age_s(decision, item)
        if (first := known.setdefault(item.feedback_id, item)) is not item:  # read both from the store and its archive
            cases.append("duplicate" if _say_the_same(first, item) else "contradictory")
        elif not isinstance(item.value, int | float) or not math.isfinite(item.value):
            cases.append("not_a_number")  # of another hand: what is written here is finite
        elif abs(age_s) > spec.wait_s:
            cases.append("late")
        elif item.loop != decision.loop:
            cases.append("unknown_kind")
        elif item.kind == ACTIVATE:
            active = True
            cases.append("activation")
        elif item.kind not in spec.weights:
            cases.append("unknown_kind")
        elif (slot := _slot(decision, item.item_id)) is None:
            cases.append("not_in_slate")
        else:
            worth = spec.weights[item.kind] * item.value
            if spec.half_life_s is not None:
                worth *= decay(age_s, spec.half_life_s)
            counted.setdefault(slot if spec.credit == "item" else 0, []).append(worth)
            tells = item.kind == spec.seen_by
            named, lowest = named or tells, max(lowest, slots - 1 if tells and item.item_id is None else slot)
            cases.append("reordered" if age_s < 0 else "clock_skew" if _is_skewed(decision, item) else "counted")
    seen, aggregate = lowest + 1 if named else slots, AGGREGATE[spec.aggregation]
    if spec.credit == "item":
        rewards = tuple(
            _clip(aggregate(counted[slot]), spec) if slot in counted else spec.default for slot in range(seen)
        )
    else:
        rewards = ((_clip(aggregate(counted[0]), spec) if counted else spec.default) / max(seen, 1),) * seen
    closed = (now - decision.time).total_seconds() > spec.wait_s
    return Outcome(decision, rewards, sum(rewards), bool(counted), closed, tuple(cases), active)


def decay(age_s: float, half_life_s: float) -> float:
    """Return what feedback is worth that was received so long after its decision, over what it is worth at once."""
    return math.pow(0.5, max(age_s, 0.0) / half_life_s)


def deadlines(times_us: Sequence[int], wait_us: int) -> NDArray[np.int64]:
    """Return when the windows of decisions close that follow each other in the log, in microseconds since 1970 UTC.

    That is the wait after the decision's time. But a decision that was followed by one made at t was made no later than
    that, but for what rows overtake each other: so it is at most two waits after t.

    Args:
        times_us: when the decisions were made.
        wait_us: at most 2 ** 60.
    """
    farthest = 1 << 60  # so that no sum overflows
    times = np.array(times_us, dtype=np.int64).clip(-farthest, farthest)
    following = np.append(np.minimum.accumulate(times[::-1])[::-1][1:], farthest)
    ends: NDArray[np.int64] = np.minimum(times + wait_us, following + 2 * wait_us)
    return ends


def _clip(reward: float, spec: RewardSpec) -> float:
    return max(-spec.limit, min(spec.limit, reward))


def _age_s(decision: Decision, feedback: Feedback) -> float:
    """Return when the feedback was received after the decision, by the server's clock whatever the client's says."""
    if feedback.decision_id != decision.decision_id:
        raise ValueError(f"expected feedback of decision {decision.decision_id}, got of {feedback.decision_id}")
    if feedback.received_at is None:
        raise ValueError(f"feedback {feedback.feedback_id} has no received_at: read it from the log")
    return (feedback.received_at - decision.time).total_seconds()


def _say_the_same(one: Feedback, other: Feedback) -> bool:
    return (one.kind, one.item_id, one.value, one.loop) == (other.kind, other.item_id, other.value, other.loop)


def _is_skewed(decision: Decision, feedback: Feedback) -> bool:
    """Say whether it cannot have happened when it did by the reporter's clock, which may be wrong by the grace."""
    happened, received = feedback.time, feedback.received_at
    if happened is None or received is None:
        return False
    return decision.time - happened > GRACE or happened - received > GRACE


def slot_names(decision: Decision) -> Sequence[str]:
    """Return what feedback calls the slots of a decision: by their own names, or else by their items."""
    return [slot.slot_id for slot in decision.slots][: len(decision.slate)] or decision.slate


def _slot(decision: Decision, item_id: str | None) -> int | None:
    if item_id is None:
        return 0 if decision.slate else None
    names = slot_names(decision)
    return names.index(item_id) if item_id in names else None


def join(
    decisions: Iterable[Decision], feedback_of: Mapping[str, Sequence[Feedback]], spec: RewardSpec, now: datetime
) -> Iterator[Outcome]:
    """Attribute each decision, in the order given; feedback of a decision that is not given has no effect.

    `feedback_of` holds each decision's feedback in log order; `now` is the time at which windows are open or closed.
    """
    for decision in decisions:
        yield attribute(decision, feedback_of.get(decision.decision_id, ()), spec, now)
