"""Logs with closed days, and how they are archived in tests."""

import random
from datetime import datetime, timedelta
from pathlib import Path

from data.log.archiving.closing import closed_until
from data.log.archiving.moving import Moved, Mover, Watch
from data.log.store import Store
from data.schema import AnyRecord, Decision, Event, Feedback, Reject, Version
from serve.decisions.ids import new_id
from tests.support.clocks import Clock

DAY = timedelta(days=1)


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
