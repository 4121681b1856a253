"""Visits without a service: what uniform draws would have logged, as a file for `python -m data.dsjson import`."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np

from data.attribution.join import attribute
from data.formats.dsjson.lines import to_line
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from serve.traffic.disorder import Names
from serve.traffic.driver import Arrival, Plan, Stream, arrivals
from serve.traffic.visits import People

POLICY = "generator"
"""What decides here: uniform draws."""


def record(people: People, plan: Plan, path: Path) -> dict[str, float]:
    """Write the visits of a plan as DSJSON, each with all of its reports; returns how many, and their mean reward.

    They are of yesterday: from its midnight (UTC) on, so that no window is open any more.
    """
    midnight = datetime.combine(datetime.now(UTC).date() - timedelta(days=1), time(), UTC)
    rewards, reports = list[float](), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for decision, feedback, reward in _visits(people, plan, midnight):
            outcome = attribute(decision, feedback, RewardSpec(), midnight + timedelta(days=1))
            file.write(to_line(outcome, feedback) + "\n")
            rewards.append(reward)
            reports += len(feedback)
    return {"visits": len(rewards), "reports": reports, "reward": round(float(np.mean(rewards)), 6)}


def _visits(people: People, plan: Plan, since: datetime) -> Iterator[tuple[Decision, list[Feedback], float]]:
    names = Names(people.items, plan.shifts, np.random.default_rng([plan.seed, Stream.NAMES]))
    for arrival in arrivals(plan, people):
        yield _visit(people, plan, arrival, names, since + timedelta(seconds=arrival.due_s))


def _visit(
    people: People, plan: Plan, arrival: Arrival, names: Names, at: datetime
) -> tuple[Decision, list[Feedback], float]:
    visit = people.visit(arrival.user, (plan.seed, Stream.VISIT, arrival.number))
    naming, k = names.at(arrival.number), min(visit.k, len(visit.candidates))
    drawn = np.random.default_rng([plan.seed, Stream.SLATE, arrival.number]).permutation(len(visit.candidates))[:k]
    shown = [visit.candidates[place] for place in drawn.tolist()]
    decision_id = f"{plan.name}-{plan.seed}-{arrival.number}"
    decision = Decision(
        decision_id=decision_id,
        time=at,
        user_id=visit.user_id,
        context=dict(visit.context),
        candidates=tuple(naming.names[item] for item in visit.candidates),
        slate=tuple(naming.names[item] for item in shown),
        propensities=tuple(1.0 / (len(visit.candidates) - slot) for slot in range(k)),
        scores=(0.0,) * k,
        policy=POLICY,
        policy_version=POLICY,
    )
    response = visit.respond(shown)
    reports = [
        Feedback(
            feedback_id=f"{decision_id}-{place}",
            decision_id=decision_id,
            item_id=naming.names[report["item"]] if "item" in report else None,
            kind=report["kind"],
            value=report.get("value", 1.0),
            received_at=at,
        )
        for place, report in enumerate(response.reports)
    ]
    return decision, reports, response.reward
