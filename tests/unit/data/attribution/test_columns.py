"""Whole tables earn what their decisions earn one by one, to the bit."""

from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from data.attribution.columns import attribute_columns
from data.attribution.join import AGGREGATE, join
from data.log.archived.columns import schema
from data.log.tables import DECISIONS, FEEDBACK
from data.reward import RewardSpec
from data.schema import ACTIVATE, Decision, Feedback
from tests.support.archives import some_decision
from tests.support.clocks import NOON

KINDS = ("click", "purchase", "applause", "view", ACTIVATE)


def random_log(rng: np.random.Generator, n: int) -> tuple[list[Decision], list[Feedback]]:
    decisions, feedback = list[Decision](), list[Feedback]()
    for number in range(n):
        slate = tuple(f"item-{one}" for one in rng.integers(0, 6, rng.integers(0, 4)))
        decision = some_decision(
            number,
            NOON + timedelta(seconds=int(rng.integers(0, 900))),
            slate=slate,
            propensities=(0.5,) * len(slate),
            scores=(0.0,) * len(slate),
            deferred=bool(rng.random() < 0.2),
            loop="v1" if rng.random() < 0.9 else "other",
        )
        decisions.append(decision)
    for number in range(3 * n):
        decision = decisions[rng.integers(n)]
        feedback.append(
            Feedback(
                feedback_id=f"f{number}",
                decision_id=decision.decision_id,
                loop="v1" if rng.random() < 0.9 else "other",
                item_id=None if rng.random() < 0.3 else f"item-{rng.integers(0, 7)}",
                kind=str(rng.choice(KINDS)),
                value=float(rng.normal()) * 10 ** float(rng.integers(-3, 4)),
                time=None if rng.random() < 0.5 else decision.time + timedelta(seconds=int(rng.integers(-60, 120))),
                received_at=decision.time + timedelta(microseconds=int(rng.integers(-(10**8), 2 * 10**8))),
            )
        )
    return decisions, feedback


def tables(decisions: list[Decision], feedback: list[Feedback]) -> tuple[pa.Table, pa.Table]:
    names = ["seq", "decision_id", "time", "loop", "slate", "deferred"]
    columns = pa.schema([schema(DECISIONS).field(name) for name in names])
    rows = [{"seq": 2 * at, **{name: getattr(d, name) for name in names[1:]}} for at, d in enumerate(decisions)]
    places = {decision.decision_id: 2 * at for at, decision in enumerate(decisions)}
    named = ["decision_id", "loop", "item_id", "kind", "value", "time", "received_at"]
    of_feedback = pa.schema([schema(FEEDBACK).field(name) for name in ("seq", "decision_seq", *named)])
    reports = [
        {"seq": at, "decision_seq": places[f.decision_id], **{name: getattr(f, name) for name in named}}
        for at, f in enumerate(feedback)
    ]
    return pa.Table.from_pylist(rows, columns), pa.Table.from_pylist(reports, of_feedback)


OTHERS: tuple[dict[str, object], ...] = (
    {},
    {"credit": "slate"},
    {"half_life_s": 17.0},
    {"seen_by": "view"},
    {"credit": "slate", "half_life_s": 200.0, "seen_by": "view"},
)


@pytest.mark.parametrize("others", OTHERS, ids=str)
@pytest.mark.parametrize("aggregation", AGGREGATE)
@pytest.mark.parametrize("n", [1, 200])
def test_each_decision_earns_the_same(aggregation: str, n: int, others: dict[str, object]) -> None:
    rng = np.random.default_rng(n)
    spec = RewardSpec.model_validate(
        {"wait_s": 61.5, "default": -0.25, "limit": 30.0, "aggregation": aggregation} | others
    )
    decisions, feedback = random_log(rng, n)
    now = NOON + timedelta(seconds=500)
    found = attribute_columns(*tables(decisions, feedback), spec, now)
    of: dict[str, list[Feedback]] = {}
    for report in feedback:
        of.setdefault(report.decision_id, []).append(report)
    expected = list(join(decisions, of, spec, now))
    for at, outcome in enumerate(expected):
        rewards = tuple(found.rewards[found.offsets[at] : found.offsets[at + 1]].tolist())
        assert rewards == outcome.rewards
        assert (found.reward[at], bool(found.due[at])) == (outcome.reward, outcome.due)
    assert n == 1 or 20 < sum(outcome.due for outcome in expected) < 180
    counts = Counter[str](case for outcome in expected for case in outcome.cases)
    counts["missing"] = sum(outcome.missing for outcome in expected)
    assert {case: count for case, count in found.count().items() if count} == +counts


def test_a_join_to_another_decision_is_refused() -> None:
    decisions, feedback = tables(*random_log(np.random.default_rng(1), 5))
    assert feedback.num_rows == 15
    with pytest.raises(ValueError, match=r"got \d+ reports of others \(first: of the decision at position 8\)"):
        attribute_columns(decisions[:4], feedback, RewardSpec(), NOON)
    moved = feedback.set_column(1, "decision_seq", pa.array([seq + 1 for seq in feedback["decision_seq"].to_pylist()]))
    with pytest.raises(ValueError, match="got 15 reports of others"):
        attribute_columns(decisions, moved, RewardSpec(), NOON)
    place = feedback.column_names.index("decision_id")
    renamed = feedback.set_column(place, "decision_id", pa.array(["another"] * 15))
    with pytest.raises(ValueError, match=r"expected feedback of decision .*, got of another"):
        attribute_columns(decisions, renamed, RewardSpec(), NOON)


def test_without_feedback_all_earn_the_default() -> None:
    decisions, _ = random_log(np.random.default_rng(3), 20)
    found = attribute_columns(*tables(decisions, []), RewardSpec(default=0.5), NOON + timedelta(days=1))
    assert set(found.rewards.tolist()) == {0.5}
    assert found.due.tolist() == [bool(d.slate) and not d.deferred for d in decisions]
