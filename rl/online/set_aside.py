"""The rows of the log that a fold could not learn, and why."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

from data.log.unreadable import Fault, describe_error
from data.schema import Decision
from rl.online.state import SetAside, Table

MAX_LISTED = 100
"""Rows that are listed, the last ones; all are counted."""
MAX_REMEMBERED = 10_000
"""Rows that are not counted a second time."""

_log = logging.getLogger("ray.serve")


class SetAsideRows:
    """Counts rows once, and lists the last ones."""

    def __init__(self, place: str, clock: Callable[[], datetime]) -> None:
        self._place, self._clock = place, clock
        self._rows: OrderedDict[tuple[str, int, str | None], SetAside] = OrderedDict()
        self.count = 0

    def add(
        self, table: Table, seq: int, error: BaseException, policy: str | None, decision: Decision | None = None
    ) -> None:
        """Set a row aside; one that has been changes nothing. `decision` is it, or what it is about, if known."""
        self._add(table, seq, describe_error(error), policy, decision)

    def has(self, table: Table, seq: int, policy: str) -> bool:
        """Return whether a row was set aside for a policy, among the last 10,000."""
        return (table, seq, policy) in self._rows

    def add_faults(self, faults: Sequence[Fault]) -> None:
        """Set rows aside that cannot be read back."""
        for fault in faults:
            self._add("decisions" if fault.table == "decisions" else "feedback", fault.seq, fault.reason, None)

    def _add(self, table: Table, seq: int, reason: str, policy: str | None, decision: Decision | None = None) -> None:
        if (table, seq, policy) in self._rows:
            return
        self.count += 1
        row = SetAside(table=table, position=seq, policy=policy, reason=reason, time=self._clock())
        self._rows[table, seq, policy] = row
        if len(self._rows) > MAX_REMEMBERED:
            self._rows.popitem(last=False)
        who = f"not learned by {policy}" if policy else "not learned"
        about = decision and {"decision_id": decision.decision_id, "policy_version": decision.policy_version}
        # Members of a line of Serve's in JSON; the access log has the request's id beside the decision's.
        extra = {"ray_serve_extra_fields": about} if about else None
        _log.error("%s: row %d of %s is set aside, %s: %s", self._place, seq, table, who, reason, extra=extra)

    def remembered(self) -> tuple[SetAside, ...]:
        """Return the rows that are known to be counted, oldest first."""
        return tuple(self._rows.values())

    def restore(self, count: int, rows: Sequence[SetAside]) -> None:
        """Go on from how many were counted before, and those of them that were remembered."""
        self.count = count
        self._rows = OrderedDict(((row.table, row.position, row.policy), row) for row in rows)

    def list_last(self) -> tuple[SetAside, ...]:
        """Return the last rows, newest first."""
        return tuple(row for row, _ in zip(reversed(list(self._rows.values())), range(MAX_LISTED), strict=False))
