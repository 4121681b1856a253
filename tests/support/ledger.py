"""What a service has acknowledged, and whether its log has all of it, once."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from data.log.store import Store


@dataclass
class Ledger:
    """Written by who asks: only what was answered with 2xx."""

    decisions: set[str] = field(default_factory=set)
    reports: dict[str, int] = field(default_factory=dict)
    """The log position that was acknowledged, by the id of the feedback."""

    def compare(self, url: str) -> tuple[list[str], list[str]]:
        """Return what is not in the log, or not where it was acknowledged, and what is there more than once."""
        decisions, reports = set(self.decisions), dict(self.reports)  # others may write them meanwhile
        rows = rows_by_key(url)
        counts, positions = Counter(key for key, _ in rows), dict(rows)
        lost = [f"decision {name}" for name in sorted(decisions) if ("decisions", name) not in positions]
        for name, position in sorted(reports.items()):
            there = positions.get(("feedback", name))
            if there != position:
                lost.append(f"feedback {name}: acknowledged at {position}, the log has it at {there}")
        return lost, [f"{table} {name}: {n} rows" for (table, name), n in counts.items() if n > 1]


def rows_by_key(url: str) -> list[tuple[tuple[str, str], int]]:
    """Return table, key and position of all decisions and feedback, from the tables and not the unique indexes: these
    could hide a second row.
    """
    with closing(Store.open(url)) as store, store.reading() as connection:
        if store.shared:
            through = ""
            for way in ("indexscan", "indexonlyscan", "bitmapscan"):
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        else:
            through = " NOT INDEXED"
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        return [
            ((table, str(row[0])), int(row[1]))
            for table, key in (("decisions", "decision_id"), ("feedback", "feedback_id"))
            for row in connection.exec_driver_sql(f"SELECT {key}, seq FROM {table}{through}")
        ]
