"""Evidence: three actions stand for all, and what is stored says the same again."""

import re
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from data.reward import RewardSpec
from rl.evaluation.offpolicy.difference import difference
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.gate.comparison import compare
from rl.gate.conformance import Conformance
from rl.gate.evidence import Evidence, Metric
from rl.gate.page import render
from rl.gate.report import Candidate, Data, Level, Report, find_verdict
from rl.gate.rows import Columns
from rl.gate.specification import GateSpec
from rl.policy.arrays import FloatArray

N, ACTIONS = 400, 6


def whole() -> tuple[BanditLog, BanditLog, FloatArray]:
    """Return a log with the distributions of a challenger and of a champion, and predictions of all actions."""
    rng = np.random.default_rng(3)
    behaviour, one, other = (rng.dirichlet(np.ones(ACTIONS), N) * 0.9 + 0.1 / ACTIONS for _ in range(3))
    chosen = np.array([rng.choice(ACTIONS, p=row) for row in behaviour])
    rewards = (rng.random(N) < 0.3 + 0.1 * (chosen == 2)).astype(float)
    propensities = behaviour[np.arange(N), chosen]
    challenger, champion = (BanditLog(chosen, rewards, propensities, target) for target in (one, other))
    return challenger, champion, rng.uniform(0, 0.8, (N, ACTIONS))


def condense(challenger: BanditLog, champion: BanditLog, predicted: FloatArray, own: bool = False) -> Evidence:
    """Return the evidence that the log comes to."""
    logs = (challenger, champion)
    weights = np.column_stack([challenger.weights, np.ones(N) if own else champion.weights])
    metric = Metric(
        rewards=challenger.rewards,
        lowest=challenger.rewards,
        weighted=weights * challenger.rewards[:, None],
        predicted=challenger.of_chosen(predicted),
        expected=np.column_stack([Predictions(log, predicted).expected for log in logs]),
        best=predicted.max(axis=1),
        cap=0.8,
    )
    return Evidence(
        seq=np.arange(1, N + 1),
        time_us=np.arange(N),
        slots=np.ones(N, np.int64),
        propensity=challenger.propensities,
        least=challenger.propensities,
        probability=np.column_stack([log.of_chosen(log.target) for log in logs]),
        weights=weights,
        mass=weights,
        own=np.full(N, own),
        greedy=predicted.argmax(axis=1) == challenger.chosen,
        segments={"page": np.array([f"p{at % 3}" for at in range(N)], dtype=np.object_)},
        metrics={"default": metric},
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_three_actions_stand_for_all(estimator: str) -> None:
    challenger, champion, predicted = whole()
    evidence = condense(challenger, champion, predicted)
    for policy, log in enumerate((challenger, champion)):
        found = ESTIMATORS[estimator](evidence.log(policy, "default"))
        assert found.terms == pytest.approx(ESTIMATORS[estimator](Predictions(log, predicted)).terms, abs=1e-12)


def test_their_difference_is_that_of_all() -> None:
    challenger, champion, predicted = whole()
    evidence, bounds, most = condense(challenger, champion, predicted), (0.0, 1.0), (60.0, 60.0)
    one, other = evidence.log(0, "default"), evidence.log(1, "default")
    found = difference(one.log, other.log, one.values, bounds, most, 0.8)
    wanted = difference(challenger, champion, predicted, bounds, most, 0.8)
    assert found.terms == pytest.approx(wanted.terms, abs=1e-12)
    assert found.floor == wanted.floor


def test_beside_a_champion_that_made_the_log_its_own_rewards_count() -> None:
    challenger, champion, predicted = whole()
    evidence = condense(challenger, champion, predicted, own=True)
    one, other = evidence.log(0, "default"), evidence.log(1, "default")
    found = difference(one.log, other.log, one.values, (0.0, 1.0), (60.0, 1.0), 0.8)
    wanted = ESTIMATORS["dr"](Predictions(challenger, predicted)).terms - challenger.rewards
    assert found.terms == pytest.approx(wanted, abs=1e-12)


def test_what_could_be_learned_is_that_of_all() -> None:
    challenger, champion, predicted = whole()
    found = measure_improvement(*condense(challenger, champion, predicted).improvement_log())
    wanted = measure_improvement(challenger, predicted)
    assert found.estimate.terms == pytest.approx(wanted.estimate.terms, abs=1e-12)


def test_it_is_read_as_it_was_saved(tmp_path: Path) -> None:
    evidence = condense(*whole())
    evidence.save(tmp_path / "evidence.parquet")
    again = Evidence.read(tmp_path / "evidence.parquet")
    assert again.sha256 == evidence.sha256
    for policy in (0, 1):
        one, other = evidence.log(policy, "default"), again.log(policy, "default")
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.log.weights, other.log.weights)
    assert again.segments["page"].tolist() == evidence.segments["page"].tolist()
    assert again.metrics["default"].cap == 0.8
    assert again.own.dtype == np.bool_


def condense_sure(shown_by_challenger: float) -> Evidence:
    """Return the evidence of a log of which nothing was drawn: its policy showed what earns .5, always.

    The challenger shows it less often, and what it shows else is predicted to earn .9; nobody has seen it.
    """
    rng = np.random.default_rng(5)
    rewards = (rng.random(N) < 0.5).astype(float)
    chosen, propensities = np.zeros(N, np.int64), np.ones(N)
    one, other = (np.tile([p, 1 - p, *[0.0] * (ACTIONS - 2)], (N, 1)) for p in (shown_by_challenger, 1.0))
    challenger, champion = (BanditLog(chosen, rewards, propensities, target) for target in (one, other))
    predicted = np.tile([0.5, *[0.9] * (ACTIONS - 1)], (N, 1))
    return replace(condense(challenger, champion, predicted, own=True), segments={})


def test_what_nobody_could_have_seen_earns_the_least() -> None:
    spec = GateSpec(rewards=(0.0, 1.0), least_propensity=0.5)
    found = compare(condense_sure(0.9), spec, 0.025)
    assert found.all.difference is not None
    assert found.all.difference.value == pytest.approx(-0.05, abs=0.01)  # of .5 a tenth, by what was not shown
    assert not found.all.holds
    same = compare(condense_sure(1.0), spec, 0.025)
    assert same.all.difference is not None
    assert same.all.difference.value == pytest.approx(0.0, abs=1e-12)


def test_what_only_the_log_says_of_limits_is_said() -> None:
    evidence = replace(condense(*whole(), own=True), segments={})
    found = compare(evidence, GateSpec(), 0.025)
    assert found.assumed[0] == "no decision earns less than 0 or more than 1"
    assert found.assumed[1].startswith("nothing is ever shown with a probability of less than 0.0")
    assert compare(evidence, GateSpec(rewards=(0.0, 1.0), least_propensity=0.01), 0.025).assumed == ()
    guardrail = {"guardrails": {"calls": RewardSpec()}}
    metrics = {**evidence.metrics, "calls": evidence.metrics["default"]}
    given = GateSpec.model_validate({"rewards": (0.0, 1.0), "least_propensity": 0.01, **guardrail})
    found = compare(replace(evidence, metrics=metrics), given, 0.025)
    assert found.assumed == ("no decision earns less than 0 or more than 1 for calls",)
    bounded = GateSpec(reward=RewardSpec(limit=0.5), least_propensity=0.01)
    metric = replace(evidence.metrics["default"], rewards=evidence.metrics["default"].rewards - 0.5)
    metric = replace(metric, lowest=metric.rewards)
    assert compare(replace(evidence, metrics={"default": metric}), bounded, 0.025).assumed == ()
    rounded = replace(evidence.metrics["default"], lowest=evidence.metrics["default"].lowest - 4e-14)
    found = compare(replace(evidence, metrics={"default": rounded}), GateSpec(), 0.025)
    assert found.assumed[0] == "no decision earns less than 0 or more than 1"  # not -4e-14: sums of floats say that


@pytest.mark.parametrize(("least", "most"), [(-0.5, 1.0), (0.0, 0.5)])
def test_of_slates_what_is_beyond_the_limits_is_refused(least: float, most: float) -> None:
    evidence = replace(condense(*whole(), own=True), segments={}, slots=np.full(N, 2))
    of = evidence.metrics["default"]
    metric = replace(of, lowest=np.minimum(of.lowest, least))
    with pytest.raises(EvaluationError, match="rewards must be in"):
        compare(replace(evidence, metrics={"default": metric}), GateSpec(rewards=(0.0, most)), 0.025)


@pytest.mark.heavy
def test_a_decision_takes_a_few_hundred_bytes() -> None:
    """Ten numbers of eight bytes each, as arrays; as lists of Python's numbers they were several times as much."""
    n, columns = 20_000, Columns()
    tracemalloc.start()
    for at in range(n):
        columns.add({"seq": at, "pair": [at + 0.5] * 4, "own": at % 2 == 0, **{f"x{k}": at + 0.25 for k in range(5)}})
    taken = tracemalloc.get_traced_memory()[0] / n
    tracemalloc.stop()
    assert taken < 150
    found = columns.arrays()
    assert {name: (array.shape, array.dtype.kind) for name, array in found.items()} == {
        "seq": ((n,), "i"),
        "pair": ((n, 4), "f"),
        "own": ((n,), "b"),
        **{f"x{k}": ((n,), "f") for k in range(5)},
    }
    assert found["seq"].tolist() == [*range(n)]
    assert found["pair"][-1].tolist() == [n - 0.5] * 4
    assert Columns().arrays() == {}


def test_names_of_others_are_texts_in_a_page() -> None:
    evil = '"><script>alert(1)</script>'
    evidence = replace(condense(*whole()), segments={evil: np.full(N, evil * 40, dtype=np.object_)})
    spec = GateSpec(guards=(evil,))
    comparison, verdict = find_verdict(evidence, spec, 0.025, None, {evil: 3})
    now, who = datetime(2026, 1, 5, tzinfo=UTC), Candidate(name=evil, digest=evil, version=None)
    data = Data(
        decisions=N,
        first=1,
        last=N,
        sha256="",
        decision_seq=N,
        feedback_seq=0,
        since=None,
        until=now,
        left_out={evil: 3},
    )
    report = Report(
        created=now,
        challenger=who,
        champion=who,
        data=data,
        spec=GateSpec(),
        level=Level.of(0.05, 1, 1),
        comparison=comparison,
        conformance=Conformance(promises={evil: evil}, p99_s=(1.0, 1.0)),
        verdict=verdict,
        forced=evil,
        evidence_sha256="",
    )
    page = render(report)
    assert comparison is not None
    assert page.count("&lt;script&gt;") > 5
    assert "<script" not in page
    assert not re.search(r'="[^"]*"[^ />][^>]*script', page)  # out of no attribute
    assert len(page) < 100_000


def test_beside_a_champion_of_which_the_log_says_too_little_nobody_is_better() -> None:
    """It would show what the log never does: that counts as the least, and any challenger would be above it."""
    challenger, champion, predicted = whole()
    evidence = replace(condense(challenger, champion, predicted), segments={})
    weights = np.column_stack([evidence.weights[:, 0], np.zeros(N)])
    probability = np.column_stack([evidence.probability[:, 0], np.zeros(N)])
    evidence = replace(evidence, weights=weights, probability=probability)
    comparison, verdict = find_verdict(evidence, GateSpec(), 0.025, None, {})
    assert comparison is not None
    assert comparison.champion.abstains is not None
    assert any(one.startswith("the log cannot tell what the champion would earn: ") for one in verdict.against)
    own = replace(condense(challenger, champion, predicted, own=True), segments={})
    _, verdict = find_verdict(own, GateSpec(), 0.025, None, {})
    assert not any("what the champion would earn" in one for one in verdict.against)
