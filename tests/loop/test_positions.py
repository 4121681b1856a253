"""Positions become visible in their order: eight processes write, some are killed, and who follows misses no row.

A reader that skips one would never come back to it: it asks for what is after the last position that it has seen.
"""

import multiprocessing
import random
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from data.log.following import new_decisions, new_feedback
from data.log.store import Store
from data.schema import LOOP_V1, Decision, Feedback
from tests.support.databases import new_url as new_url
from tests.support.databases import url as url
from tests.support.rows import feedback_rows

WRITERS, KILLS = 8, 8
ROWS = 250  # seen between one kill and the next
Seen = list[tuple[int, str]]


def _records(name: str, number: int, size: int) -> list[Decision | Feedback]:
    decisions = [
        Decision(
            decision_id=f"{name}.{number}.{place}",
            time=datetime.now(UTC),
            candidates=("a", "b"),
            slate=("a",),
            propensities=(0.5,),
            scores=(0.1,),
            policy="random",
            policy_version="random-1",
        )
        for place in range(size)
    ]
    reports = [Feedback(feedback_id=d.decision_id, decision_id=d.decision_id, kind="click") for d in decisions]
    return [*decisions, *reports]


def _write(url: str, name: str, ended: Path) -> None:
    """Commit transactions of many sizes, some of them with keys that are known already, which use up positions."""
    rng = random.Random(name)
    with closing(Store.open(url)) as store:
        number = 0
        while not ended.exists():
            store.insert(_records(name, number - (number > 0 and rng.random() < 0.2), rng.choice([1, 1, 2, 30])))
            number += 1


def _follow(read: Callable[[int], Seen], seen: Seen) -> int:
    """Take what is new, and return how much that was."""
    new = read(seen[-1][0] if seen else 0)
    seen += new
    return len(new)


@pytest.mark.slow
def test_who_follows_misses_no_row_while_eight_write_and_are_killed(url: str, tmp_path: Path) -> None:
    starting, rng = multiprocessing.get_context("forkserver"), random.Random(0)
    starting.set_forkserver_preload(["data.log.store", "data.log.postgres.backend"])
    ended = tmp_path / "ended"  # a lock of theirs would be held for ever by one that is killed
    with closing(Store.open(url)) as store:

        def decisions(after: int) -> Seen:
            found = new_decisions(
                store, LOOP_V1, after, rng.choice([1, 50, None]), until=None, heard_until=0, with_slate=True
            )
            return [(decision.seq, decision.decision_id) for decision in found]

        def feedback(after: int) -> Seen:
            found = new_feedback(store, LOOP_V1, after, rng.choice([1, 50, None]), until=None, with_content=True)
            assert all(report.decision_seq for report in found), "a report is seen before its decision"
            return [(report.seq, report.decision_id) for report in found]

        processes: list[ForkServerProcess] = []

        def start() -> None:
            process = starting.Process(target=_write, args=(url, f"w{len(processes)}", ended))
            process.start()
            processes.append(process)

        for _ in range(WRITERS):
            start()
        seen: dict[str, Seen] = {"decisions": [], "feedback": []}
        deadline = time.monotonic() + 240
        while any(process.is_alive() for process in processes):
            assert time.monotonic() < deadline, f"only {len(seen['decisions'])} rows were written in time"
            _follow(decisions, seen["decisions"])
            _follow(feedback, seen["feedback"])
            killed = len(processes) - WRITERS
            if len(seen["decisions"]) > ROWS * (killed + 1):
                if killed < KILLS:
                    rng.choice([process for process in processes if process.is_alive()]).kill()
                    start()
                else:
                    ended.touch()
        while _follow(decisions, seen["decisions"]) or _follow(feedback, seen["feedback"]):
            pass
        for process in processes:
            process.join()
        assert sum(process.exitcode == 0 for process in processes) == WRITERS

        written = [(seq, decision.decision_id) for seq, decision in store.decisions()]
        reports = feedback_rows(store)
    assert seen["decisions"] == written
    assert seen["feedback"] == [(seq, report.decision_id) for seq, report in reports]
    received = [report.received_at for _, report in reports if report.received_at]
    assert received == sorted(received)
    assert {decision_id for _, decision_id in written} == {report.decision_id for _, report in reports}
