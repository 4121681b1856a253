"""A policy in the simulator that was fitted to a log: visits come again as they were logged, answers are drawn.

Sessions of the log are drawn and visited again, with the same candidates at the same times. What the policy shows there
is answered as a user of that user's class would, by `rl.simulators.responses`, with reports drawn from the log's.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.fields import to_us
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.experience.from_log import WEIGHT
from rl.online.history.histories import Histories, to_outcome
from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.responses import ResponseModel, Slots, fit_responses

AS_USER = "as_user"
"""A column of simulated rows: the logged user whose visits and class they have; `user_id` is the session's own."""
_TEMPLATES = 2_000
"""Reports of the log that simulated ones are drawn from, of each kind of slot."""

Row = dict[str, Any]
_Report = tuple[tuple[str, float, float], ...]
"""What was reported of a slot: kind, value, seconds after the decision."""


@dataclass(frozen=True)
class Simulation:
    """A simulator with the users and items that it knows."""

    model: ResponseModel
    known: FloatArray
    """[users, M] what it knows of their classes."""
    users: dict[str, int]
    items: dict[str, int]
    """Positions, from 1."""
    decisions: int
    """That it was fitted to."""

    @classmethod
    def fit(cls, table: pa.Table, rng: np.random.Generator) -> "Simulation":
        """Fit to logged transitions, one at least."""
        names = pc.unique(table["candidates"].combine_chunks().flatten()).to_pylist()
        items = {item: at for at, item in enumerate(sorted(names), start=1)}
        users = {user: at for at, user in enumerate(dict.fromkeys(_users(table)))}
        slots, _ = _slots(table, users, items)
        model, known = fit_responses(slots, len(users), len(items), rng)
        return cls(model, known, users, items, table.num_rows)

    def slots(self, table: pa.Table) -> tuple[Slots, IntArray]:
        """Return the slots of a table as the simulator sees them, with users' numbers in it, and their decisions."""
        users = {user: at for at, user in enumerate(dict.fromkeys(_users(table)))}
        return _slots(table, users, self.items)

    def known_of(self, table: pa.Table) -> FloatArray:
        """Return what is known of the classes of a table's users, [users, M], in the order of `slots`."""
        found = [self.users.get(user) for user in dict.fromkeys(_users(table))]
        return np.stack([self.model.shares if at is None else self.known[at] for at in found])


def simulate(
    simulation: Simulation, artefact: Artefact, table: pa.Table, decisions: int, rng: np.random.Generator
) -> pa.Table | None:
    """Let a policy decide in the simulator, by its own explorer.

    Args:
        simulation: fitted to the table.
        artefact: the policy.
        table: logged transitions with `reports`, whose sessions are visited again.
        decisions: how many at least.
        rng: of all draws.

    Returns:
        A table of the same columns and `as_user`; None: the policy reads features of visits, which tables do not have.
    """
    if isinstance(artefact.encoder, FeaturesEncoder):
        return None
    rows = table.to_pylist()
    sessions, templates = _sessions(rows), _Templates(rows)
    drawn, count = list[list[int]](), 0
    while count < decisions:
        drawn.append(sessions[int(rng.integers(len(sessions)))])
        count += len(drawn[-1])
    of_user = np.array([simulation.users[_user(rows[session[0]])] for session in drawn])
    classes = (simulation.known[of_user].cumsum(axis=1) < rng.random((len(drawn), 1))).sum(axis=1)
    classes = np.minimum(classes, len(simulation.model.shares) - 1)
    histories = Histories(max(artefact.history, 1), max_users=len(drawn) + 1)
    made = list[tuple[int, int, Row]]()
    for step in range(max(map(len, drawn))):
        going = [at for at, session in enumerate(drawn) if step < len(session)]
        for group in _alike(going, [rows[drawn[at][step]] for at in going]):
            logged = [rows[drawn[at][step]] for at in group]
            slates = _decide(artefact, group, logged, histories, rng)
            for at, row, (slate, propensities) in zip(group, logged, slates, strict=True):
                new = _answer(simulation, templates, int(classes[at]), row, slate, rng)
                name = f"simulated/{at}/"
                follows = step + 1 < len(drawn[at])
                new |= {
                    "decision_id": f"{name}{step}",
                    "user_id": f"simulated/{at}",
                    AS_USER: row["user_id"],
                    "propensities": propensities,
                    "propensity": float(np.prod(propensities)),
                    "next_decision_id": f"{name}{step + 1}" if follows else None,
                    "policy_version": f"{artefact.digest}.simulated.0",
                }
                _remember(histories, new)
                made.append((at, step, row | new))
    ordered = [row for _, _, row in sorted(made, key=lambda one: one[:2])]
    return pa.Table.from_pylist(ordered, table.schema.append(pa.field(AS_USER, pa.string())))


def _decide(
    artefact: Artefact, group: Sequence[int], logged: Sequence[Row], histories: Histories, rng: np.random.Generator
) -> Iterator[tuple[list[str], list[float]]]:
    """Yield what a policy shows at visits that have as many candidates and slots, and with which probabilities."""
    visits = []
    for at, row in zip(group, logged, strict=True):
        history = histories.encode(f"simulated/{at}", artefact.encoder) if artefact.history else None
        context = json.loads(row["context"] or "{}")
        visits.append(Visit(row["user_id"], row["time"], tuple(row["candidates"]), context, history=history))
    slates = artefact.policy.decide(artefact.encoder.query(visits), len(logged[0]["slate"]), rng)
    for row, positions, propensities in zip(logged, slates.positions, slates.propensities, strict=True):
        yield [row["candidates"][at] for at in positions.tolist()], propensities.tolist()


def _answer(
    simulation: Simulation, templates: "_Templates", of_class: int, row: Row, slate: list[str], rng: np.random.Generator
) -> Row:
    """Return what a user of a class does with a slate, as the columns of a logged row."""
    rewards, reports = list[float](), list[Row]()
    for item in slate:
        position = simulation.items.get(item, 0)
        earned = bool(rng.random() < simulation.model.p[of_class, position])
        reward, told = templates.draw(item, earned, rng)
        rewards.append(reward)
        for kind, value, after_s in told:
            received = row["time"] + timedelta(seconds=after_s)
            reports.append({"item_id": item, "kind": kind, "value": value, "received_at": received})
    return {"slate": slate, "rewards": rewards, "reward": float(sum(rewards)), "reports": reports}


def _remember(histories: Histories, row: Row) -> None:
    histories.add_slate(row["user_id"], row["decision_id"], row["slate"])
    for report in row["reports"]:
        if (outcome := to_outcome(report["kind"], report["value"])) is not None:
            histories.add_outcome(row["decision_id"], report["item_id"], outcome)


class _Templates:
    """What was reported of slots of the log, with what that earned, by item and whether it earned something."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._of = dict[tuple[str | None, bool], list[tuple[float, _Report]]]()
        for row in reversed(rows):
            told = dict[str, list[tuple[str, float, float]]]()
            for report in row["reports"]:
                after_s = (to_us(report["received_at"]) - to_us(row["time"])) / 1e6
                told.setdefault(report["item_id"] or row["slate"][0], []).append(
                    (report["kind"], report["value"], max(after_s, 0.0))
                )
            for item, reward in zip(row["slate"], row["rewards"], strict=False):
                template = (reward, tuple(told.get(item, ())))
                for key in ((item, reward > 0.0), (None, reward > 0.0)):
                    if len(kept := self._of.setdefault(key, [])) < _TEMPLATES:
                        kept.append(template)

    def draw(self, item: str, earned: bool, rng: np.random.Generator) -> tuple[float, _Report]:
        """Return what an item earns and what is reported of it."""
        found = self._of.get((item, earned)) or self._of.get((None, earned)) or [(0.0, ())]
        return found[int(rng.integers(len(found)))]


def _alike(going: Sequence[int], rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield those whose visits have as many candidates and slots."""
    groups = dict[tuple[int, int], list[int]]()
    for at, row in zip(going, rows, strict=True):
        groups.setdefault((len(row["candidates"]), len(row["slate"])), []).append(at)
    yield from groups.values()


def _sessions(rows: Sequence[Row]) -> list[list[int]]:
    """Return the rows of each session, in its order; one without an end that is here begins another."""
    place = {row["decision_id"]: at for at, row in enumerate(rows)}
    after = [place.get(row["next_decision_id"]) for row in rows]
    sessions = []
    for first in sorted({*range(len(rows))}.difference(at for at in after if at is not None)):
        session, at = list[int](), first
        while at is not None and len(session) <= len(rows):
            if rows[at]["slate"]:
                session.append(at)
            at = after[at]
        if session:
            sessions.append(session)
    return sessions


def _user(row: Row) -> str:
    return f"u{row['user_id']}" if row["user_id"] is not None else f"d{row['decision_id']}"


def _users(table: pa.Table) -> list[str]:
    return [_user(row) for row in table.select(["user_id", "decision_id"]).to_pylist()]


def _slots(table: pa.Table, users: dict[str, int], items: dict[str, int]) -> tuple[Slots, IntArray]:
    """Return the slots that were seen, in the order of the table, and the number of the decision of each."""
    of_row = np.array([users[user] for user in _users(table)], dtype=np.int64)
    counts, step_of = dict[int, int](), np.zeros(len(of_row), dtype=np.int64)
    for at, user in enumerate(of_row.tolist()):
        step_of[at] = counts.get(user, 0)
        counts[user] = int(step_of[at]) + 1
    rewards, slates = table["rewards"].to_pylist(), table["slate"].to_pylist()
    seen = np.array([len(of) for of in rewards], dtype=np.int64)
    of_slot = np.repeat(np.arange(len(rewards)), seen)
    shown = [items.get(item, 0) for slate, n in zip(slates, seen.tolist(), strict=True) for item in slate[:n]]
    slots = Slots(
        users=of_row[of_slot],
        steps=step_of[of_slot],
        items=np.array(shown, dtype=np.int64),
        rewards=np.array([reward for of in rewards for reward in of], dtype=np.float64),
        weights=table[WEIGHT].to_numpy()[of_slot],
    )
    return slots, of_slot
