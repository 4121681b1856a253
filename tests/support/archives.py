"""Logs with closed days, and how they are archived in tests."""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from data.log.archiving.closing import closed_until
from data.log.archiving.moving import Moved, Mover, Watch
from data.log.current.users import history, past
from data.log.following import (
    decision_ids,
    last_feedback,
    new_decisions,
    new_feedback,
    policy_versions,
    routed_decisions,
    whole_decisions,
    whole_feedback,
)
from data.log.loops import date_range, fold_steps, last_received
from data.log.store import Store
from data.schema import AnyRecord, Decision, Event, Feedback, Reject, Version
from serve.contracts.ids import new_id
from tests.support.clocks import NOON, Clock

DAY = timedelta(days=1)
DECISIONS = 150
"""Of `write_days`, in three days and a bit."""


def archive(store: Store, folder: Path | str, watch: Watch | None = None) -> Moved:
    """Archive all closed days of a log."""
    with store.exclusively("archive"):
        mover = Mover(store, str(folder), watch or (lambda what, rows: None))
        mover.tidy()
        return mover.move(closed_until(store).until)


def some_decision(number: int, time: datetime, **fields: object) -> Decision:
    """Return a decision that has something in most fields."""
    rng = random.Random(number)
    shown = {
        "decision_id": new_id(time) if number % 2 else f"order {number}",
        "time": time,
        "user_id": f"u{number % 17}" if number % 11 else None,
        "node_id": "shelf" if number % 5 == 0 else None,
        "context": {"page": "home", "n": number, "x": rng.random()},
        "candidates": tuple(f"item-{n}" for n in range(8)),
        "slate": ("item-3", "item-1"),
        "propensities": (rng.uniform(1e-6, 1), 0.5),
        "scores": (rng.gauss(0, 1), 0.1),
        "policy": "random",
        "policy_version": "0a1b.f0.3",
        "mode": "exploit" if number % 3 == 0 else "explore",
        "request": f"k:{number % 4:012x}",
    }
    return Decision.model_validate(shown | fields)


def write_days(store: Store, clock: Clock, decisions: int, every: timedelta = timedelta(minutes=30)) -> list[AnyRecord]:
    """Write decisions at equal distances with all that may follow them; returns what was written."""
    written, made = list[AnyRecord](), list[Decision]()
    for number in range(decisions):
        clock.now += every
        made.append(some_decision(number, clock()))
        records: list[AnyRecord] = [made[-1]]
        if number >= 3:  # late, if the window is shorter than three of these
            about = made[number - 3]
            records.append(Feedback(feedback_id=f"f{number}", decision_id=about.decision_id, kind="click", value=0.5))
        if number % 2:
            records.append(Feedback(feedback_id=f"s{number}", decision_id=made[-1].decision_id, kind="purchase"))
        if number % 10 == 0:
            records.append(Feedback(feedback_id=f"o{number}", decision_id=f"nobody {number}", kind="click"))
        if number % 4 == 0:
            records.append(Event(node_id="n", event_id=f"e{number}", user_id="u1", item_id="item-2", record={"a": "ß"}))
        if number % 6 == 0:
            about_row = {"node_id": "n", "reject_id": f"r{number}", "source": "http", "row": number, "rule": "x > 0"}
            records.append(Reject(**about_row, record={"user": f"u{number % 17}"}))
        records.append(
            Version(
                version_id=f"f0.{number}",
                loop="v1",
                objective="default",
                fold_id="f0",
                number=number,
                decision_seq=number + 1,
                feedback_seq=2 * number,
                as_of=clock(),
                caught_up=True,
                begins={"policies": {}, "spec": {"reward": {"wait_s": 60.0}}} if number == 0 else None,
            )
        )
        store.insert(records)
        written += records
    return written


def everything(store: Store) -> dict[str, Any]:
    """Return what each reader of the log says."""
    ids = [decision.decision_id for _, decision in store.decisions()]
    positions = {decision.decision_id: seq for seq, decision in store.decisions()}
    seen = [
        (after, with_slate, new_decisions(store, "v1", after, 40, until=None, heard_until=heard, with_slate=with_slate))
        for after in (0, 30, 95, 140)
        for heard in (20, 10_000)
        for with_slate in (False, True)
    ]
    reports = [
        new_feedback(store, "v1", after, limit, until=until, with_content=told)
        for after in (0, 50, 200)
        for limit in (None, 25)
        for until in (None, 120)
        for told in (False, True)
    ]
    return {
        "decisions": store.decisions(),
        "some": [store.decisions(after, 20, loop="v1", without=("scores",)) for after in (0, 33, 90, 149)],
        "other loop": store.decisions(loop="other"),
        "by id": store.decisions_by_id(ids),
        "feedback": store.feedback_of([*ids, "nobody 0"]),
        "events": [store.events("n"), store.events("m")],
        "last": store.last_decision(),
        "seen": seen,
        "reports": reports,
        "last feedback": (last_feedback(store, "v1"), last_feedback(store, "other")),
        "routed": [routed_decisions(store, after, node, 9) for after in (0, 60) for node in (None, "shelf", "x")],
        "versions": policy_versions(store, NOON + DAY / 2, NOON + 2 * DAY),
        "ids": decision_ids(store, range(1, 200, 3)),
        "whole": whole_decisions(store, range(1, 200, 7), ("features", "scores")),
        "heard": [whole_feedback(store, "v1", positions, until) for until in (60, 10_000)],
        "range": (date_range(store, "v1"), date_range(store, "other")),
        "received": [last_received(store, "v1", until) for until in (1, 77, 10_000)],
        "steps": fold_steps(store, "f0"),
        "histories": [
            history(store, user, limit, before)
            for user in ("u1", "u5")
            for limit in (3, 100)
            for before in (None, (80, 20))
        ],
        "past": [past(store, user, since, NOON) for user in ("u1", "u5") for since in (NOON, NOON + 2 * DAY)],
    }
