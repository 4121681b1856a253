"""What a fold has set aside: rows of the log that it could not learn, and why."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

from data.log.unreadable import Fault, reason_of
from rl.online.state import SetAside, Table

LISTED = 100
"""Rows that are listed, the last ones; all are counted."""
_REMEMBERED = 10_000  # rows that are known to be counted already

_log = logging.getLogger("ray.serve")


class SetAsideRows:
    """Counts rows once, and lists the last ones."""

    def __init__(self, place: str, clock: Callable[[], datetime]) -> None:
        self._place, self._clock = place, clock
        self._rows: OrderedDict[tuple[str, int, str | None], SetAside] = OrderedDict()
        self.count = 0

    def add(self, table: Table, seq: int, error: BaseException, policy: str | None) -> None:
        """Set a row aside; one that is known to be changes nothing."""
        self._add(table, seq, reason_of(error), policy)

    def has(self, table: Table, seq: int, policy: str) -> bool:
        """Return whether a row was set aside for a policy, lately."""
        return (table, seq, policy) in self._rows

    def add_faults(self, faults: Sequence[Fault]) -> None:
        """Set rows aside that cannot be read back."""
        for fault in faults:
            self._add("decisions" if fault.table == "decisions" else "feedback", fault.seq, fault.reason, None)

    def _add(self, table: Table, seq: int, reason: str, policy: str | None) -> None:
        if (table, seq, policy) in self._rows:
            return
        self.count += 1
        row = SetAside(table=table, position=seq, policy=policy, reason=reason, time=self._clock())
        self._rows[table, seq, policy] = row
        if len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)
        who = f"not learned by {policy}" if policy else "not learned"
        _log.error("%s: row %d of %s is set aside, %s: %s", self._place, seq, table, who, reason)

    def listed(self) -> tuple[SetAside, ...]:
        """Return the last rows, newest first."""
        return tuple(row for row, _ in zip(reversed(list(self._rows.values())), range(LISTED), strict=False))
