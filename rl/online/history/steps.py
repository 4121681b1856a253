"""What a step of a fold changes in the histories of users, as calls that followers repeat."""

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any

from pydantic_core import from_json

from data.log.following import SeenDecision, SeenFeedback
from data.schema import Feedback
from rl.online.history.histories import Histories, HistoryStep, to_outcome
from rl.online.observe import TRANSIENT
from rl.online.set_aside import SetAsideRows
from rl.online.state import Table
from rl.online.steps import Step


def update_histories(
    histories: Histories,
    step: Step,
    feedback: Mapping[str, Sequence[tuple[int, Feedback]]],
    closed: Mapping[int, str],
    set_aside: SetAsideRows,
) -> tuple[HistoryStep, ...]:
    """Add the slates, outcomes and closed windows of a step to histories; returns the changes, in order.

    Args:
        histories: of the users.
        step: what was read.
        feedback: all that was read about new decisions, with positions, by decision.
        closed: ids of the decisions whose windows have closed, by position.
        set_aside: gets the rows that cannot be read so.
    """
    changes = list[HistoryStep]()

    def apply(table: Table, seq: int, make: Callable[[Any], HistoryStep | None], row: object) -> None:
        try:
            if (change := make(row)) is not None:
                change(histories)
                changes.append(change)
        except TRANSIENT:
            raise
        except Exception as error:  # whatever it is: the row is at fault, and is reported
            set_aside.add(table, seq, error, None)

    for report in step.feedback:
        if report.decision_seq is not None and report.decision_seq <= step.after[0]:
            apply("feedback", report.seq, _add_outcome, report)
    for decision in step.decisions:
        if decision.user_id is not None:
            apply("decisions", decision.seq, _add_slate, decision)
        for seq, early in feedback.get(decision.decision_id, ()):
            apply("feedback", seq, _add_outcome, early)
    for seq in step.closed:
        if seq in closed:
            apply("decisions", seq, _close, closed[seq])
    return tuple(changes)


def _close(decision_id: str) -> HistoryStep:
    return methodcaller("close", decision_id)


def _add_slate(decision: SeenDecision) -> HistoryStep:
    items = from_json(decision.slate)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError(f"a slate is a list of item ids, got {decision.slate:.100}")
    return methodcaller("add_slate", decision.user_id, decision.decision_id, tuple(items))


def _add_outcome(report: SeenFeedback | Feedback) -> HistoryStep | None:
    outcome = to_outcome(report.kind, report.value)
    return None if outcome is None else methodcaller("add_outcome", report.decision_id, report.item_id, outcome)
