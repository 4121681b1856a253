"""How a step of a fold changes the histories of users, as calls that followers repeat."""

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any

from pydantic_core import from_json

from data.log.following import SeenDecision, SeenFeedback
from data.schema import Feedback
from rl.online.fold import HistoryStep
from rl.online.histories import Histories, outcome_of
from rl.online.observe import PASSING
from rl.online.set_aside import SetAsideRows
from rl.online.state import Table
from rl.online.steps import Step


def update_histories(
    histories: Histories,
    step: Step,
    heard: Mapping[str, Sequence[tuple[int, Feedback]]],
    closed: Mapping[int, str],
    aside: SetAsideRows,
) -> tuple[HistoryStep, ...]:
    """Bring histories up to date with what was shown, what happened and what closed; returns the changes, in order.

    Args:
        histories: of the users.
        step: what was read.
        heard: all feedback that was read about what is new, by decision.
        closed: ids of the decisions whose windows have closed, by position.
        aside: takes the rows that cannot be read so.
    """
    changes = list[HistoryStep]()

    def one(table: Table, seq: int, what: Callable[[Any], HistoryStep | None], row: object) -> None:
        try:
            if (call := what(row)) is not None:
                call(histories)
                changes.append(call)
        except PASSING:
            raise
        except Exception as error:  # whatever it is, it is this row's, and said
            aside.add(table, seq, error, None)

    for report in step.feedback:
        if report.decision_seq is not None and report.decision_seq <= step.after[0]:
            one("feedback", report.seq, _happened, report)
    for decision in step.decisions:
        if decision.user_id is not None:
            one("decisions", decision.seq, _shown, decision)
        for seq, early in heard.get(decision.decision_id, ()):
            one("feedback", seq, _happened, early)
    for seq in step.closed:
        if seq in closed:
            one("decisions", seq, _closed, closed[seq])
    return tuple(changes)


def _closed(decision_id: str) -> HistoryStep:
    return methodcaller("closed", decision_id)


def _shown(decision: SeenDecision) -> HistoryStep:
    items = from_json(decision.slate)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError(f"a slate is a list of item ids, got {decision.slate:.100}")
    return methodcaller("show", decision.user_id, decision.decision_id, tuple(items))


def _happened(report: SeenFeedback | Feedback) -> HistoryStep | None:
    outcome = outcome_of(report.kind, report.value)
    return None if outcome is None else methodcaller("happened", report.decision_id, report.item_id, outcome)
