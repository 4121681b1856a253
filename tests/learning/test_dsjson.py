"""Vowpal Wabbit learns from what we export, and we learn from what it logs: the coffee machine as DSJSON."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import vowpalwabbit

from data.attribution.join import join
from data.dsjson import default_spec, export_lines, import_lines
from data.log.store import Store
from data.schema import Decision, Features, Feedback
from rl.encoders.visit import Visit
from rl.online.observe import observe
from rl.policy.queries import Query
from rl.simulators.bandits.coffee import preferences
from tests.support.described import COFFEES, ENCODER, KINDS, TIMES, USERS, WEATHERS, untrained

TIME = datetime(2026, 3, 1, tzinfo=UTC)
N = 3_000
CELLS = [(user, weather, time) for user in range(4) for weather in range(3) for time in range(3)]


def drawn() -> list[tuple[tuple[int, int, int], int, float]]:
    """Return cells, coffees drawn uniformly, and their rewards."""
    rng, right = np.random.default_rng(0), preferences()
    visits = [(CELLS[rng.integers(36)], int(rng.integers(4))) for _ in range(N)]
    return [(cell, item, float(right[cell] == item)) for cell, item in visits]


def features(cell: tuple[int, int, int]) -> Features:
    user, weather, time = cell
    return Features(
        context=(
            {"user": {"name": USERS[user]}},
            {"weather": {"is": WEATHERS[weather]}},
            {"time": {"of": TIMES[time]}},
        ),
        items=tuple(({"type": kind},) for kind in KINDS),
    )


def test_vowpal_wabbit_learns_from_what_is_exported(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'log.db'}", lambda: TIME + timedelta(hours=1))
    records: list[Decision | Feedback] = []
    for number, (cell, item, reward) in enumerate(drawn()):
        key = f"personalizer:{number}"
        made = Decision(
            decision_id=key, time=TIME, loop="personalizer", candidates=COFFEES, slate=(COFFEES[item],),
            propensities=(0.25,), scores=(0.0,), policy="random", policy_version="1", probabilities=(0.25,) * 4,
            features=features(cell),
        )  # fmt: skip
        report = Feedback(
            feedback_id=key, decision_id=key, loop="personalizer", kind="reward", value=reward, received_at=TIME
        )
        records += [made, report]
    store.insert(records, received=True)
    lines = list(export_lines(store, "personalizer", default_spec("personalizer"), Counter()))
    store.close()
    assert len(lines) == N
    path = tmp_path / "log.dsjson"
    path.write_text("\n".join(lines) + "\n")
    # user, weather, time and the item's id together: the whole table, as the right coffee of a cell has no structure
    vw = vowpalwabbit.Workspace(
        f"--dsjson --cb_explore_adf --epsilon 0 --interactions uwti -l 2 --noconstant -d {path} --quiet"
    )
    right = sum(_best(vw, line) == preferences()[cell] for line, cell in zip(_asks(), CELLS, strict=True))
    vw.finish()
    print(f"Vowpal Wabbit finds {right} of 36 right coffees")
    assert right >= 33


def _asks() -> list[str]:
    return [
        json.dumps(
            {
                "FromUrl": list(features(cell).context),
                "_multi": [
                    {"i": {"id": item}, "j": list(described)}
                    for item, described in zip(COFFEES, features(cell).items, strict=True)
                ],
            }
        )
        for cell in CELLS
    ]


def _best(vw: vowpalwabbit.Workspace, context: str) -> int:
    """Return the action that VW gives the highest probability for a context in its JSON."""
    example = vw.parse(json.dumps({"c": json.loads(context), "a": [1, 2, 3, 4], "p": [0.25] * 4}))
    return int(np.argmax(vw.predict(example)))


def test_what_vowpal_wabbit_logs_is_learned(tmp_path: Path) -> None:
    lines = []
    for number, ((user, weather, time), item, reward) in enumerate(drawn()):
        order = [item, *(other for other in range(4) if other != item)]
        shared = {"Gu": {"user": USERS[user]}, "Gw": {"weather": WEATHERS[weather]}, "Gt": {"time": TIMES[time]}}
        row = {
            "_label_cost": -reward,
            "_label_probability": 0.25,
            "_label_Action": item + 1,
            "_labelIndex": item,
            "o": [{"v": reward, "EventId": f"{number}"}] if reward else [],
            "Timestamp": "2026-03-01T00:00:00.0000000Z",
            "Version": "1",
            "EventId": f"{number}",
            "a": [place + 1 for place in order],
            "p": [0.25] * 4,
            "c": shared | {"_multi": [{"TAction": {"coffee": name}} for name in COFFEES]},
            "VWState": {"m": "N/A"},
        }
        lines.append(json.dumps(row).encode())
    store = Store.open(f"sqlite:///{tmp_path / 'log.db'}", lambda: TIME + timedelta(hours=1))
    counts, rejected = import_lines(store, lines, "personalizer")
    assert counts["decisions"] == N
    assert not rejected
    decisions = [found for _, found in store.decisions()]
    feedback = store.feedback_of([found.decision_id for found in decisions])
    outcomes = list(join(decisions, feedback, default_spec("personalizer"), store.now()))
    store.close()
    policy = untrained()
    policy.update(observe(outcomes, ENCODER))
    asked = {cell: outcome.decision for outcome, (cell, _, _) in zip(outcomes, drawn(), strict=True)}
    right = sum(int(policy.expected(_query(asked[cell])).argmax()) == preferences()[cell] for cell in CELLS)
    print(f"we find {right} of 36 right coffees")
    assert right == 36


def _query(decision: Decision) -> Query:
    return ENCODER.query([Visit(None, decision.time, decision.candidates, {}, decision.features)])
