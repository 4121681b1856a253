"""An evaluation done: the log is read once for all policies, as the gate reads it, and the gate's verdict is kept."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from data.fields import from_us
from data.log.store import Store
from data.log.unreadable import describe_error
from data.schema import Decision
from data.settings import Settings
from rl.evaluation.offpolicy.intervals import hall
from rl.gate.collection import CHAMPION, Collected, Collector
from rl.gate.comparison import PolicyValue, Range
from rl.gate.conformance import check_conformance
from rl.gate.evidence import Evidence
from rl.gate.report import Level, find_verdict
from rl.gate.specification import GateSpec
from rl.gate.verdict import judge
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.evaluations.candidates import Candidate, list_candidates, online
from serve.api.personalizer.evaluations.contracts import (
    Bucket,
    Evaluation,
    EvaluationContract,
    Importance,
    ImportanceContract,
    PolicyResult,
)
from serve.api.personalizer.evaluations.importances import measure
from serve.api.personalizer.evaluations.table import Kept, find

MINUTES = (5, 60, 360, 720, 1440)
"""Stretches of time that results may be asked for."""
_MOST_BUCKETS = 500
_LOOK = 500

log = logging.getLogger("raycommend.personalizer")


def work(store: Store, settings: Settings, key: str) -> None:
    """Do an evaluation that was asked for, and keep what came of it, or why nothing did.

    Raises:
        StoreError: the log does not answer.
    """
    kept = Kept(store)
    if (asked := find(kept.evaluations(), key)) is None:
        return
    try:
        kept.change(_evaluate(store, settings, asked, kept.all_evaluations()))
    except Exception as error:  # whatever it is: who has asked is told
        log.exception("an evaluation has failed")
        kept.change(asked.model_copy(update={"status": "Failed", "why": describe_error(error)[:500]}))


def work_on_importances(store: Store, settings: Settings, key: str) -> None:
    """Measure feature importances that were asked for; see `work`."""
    kept = Kept(store)
    if (asked := find(kept.importances(), key)) is None:
        return
    try:
        kept.change(_measure(store, settings, asked))
    except Exception as error:  # whatever it is: who has asked is told
        log.exception("an evaluation has failed")
        kept.change(asked.model_copy(update={"status": "Failed", "why": describe_error(error)[:500]}))


def _evaluate(store: Store, settings: Settings, asked: Evaluation, all_of_them: Sequence[Evaluation]) -> Evaluation:
    champion, now = online(store, settings)
    candidates = list_candidates(asked.asked, now)
    digest = champion.artefact.digest
    # Also those that are under way: they will be beside it. One that was deleted has been seen all the same.
    before = [one for one in all_of_them if one.created < asked.created and one.status != "Failed"]
    family = 1 + sum(one.online in (digest, "") for one in before)
    spec = GateSpec(loop=LOOP, reward=now.service.reward_spec, look=_LOOK)
    challengers = {one.name: one.artefact for one in candidates}
    collector = Collector(store, challengers, champion.artefact, spec, partial(_leave_out, asked.asked))
    collected = collector.collect()
    level, minutes = Level.of(spec.alpha, family, len(candidates)).level, _minutes(collected)
    results, first = list[PolicyResult](), None
    for one in candidates:
        evidence = collected.evidence[one.name]
        comparison, verdict = find_verdict(evidence, spec, level, None, collected.left_out)
        if comparison is not None and verdict.promote:
            found = check_conformance(collected.learned[one.name], collected.learned[CHAMPION], collected.sample)
            verdict = judge(comparison, found, collected.left_out, spec)
        if first is None and evidence is not None and comparison is not None:
            first = _result(champion, comparison.champion, evidence, 1, minutes, False, "it answers")
        value = None if comparison is None else comparison.challenger
        results.append(_result(one, value, evidence, 0, minutes, verdict.promote, verdict.sentence))
    if first is None:
        raise ValueError(f"the log cannot be evaluated on: {results[0].verdict}")
    learned = [one for one in results if one.promote and one.source in ("Custom", "OfflineExperimentation")]
    best = max(learned, key=lambda one: one.value or -np.inf, default=first)
    scores = measure(collected.learned[CHAMPION], collected.sample)
    return asked.model_copy(
        update={
            "status": "Succeeded",
            "online": digest,
            "answering": now.answering,
            "family": family,
            "minutes": minutes,
            "results": (first, *results),
            "optimal": best.name,
            "importances": tuple(f"{score.namespace}.{score.name}" for score in scores),
        }
    )


def _measure(store: Store, settings: Settings, asked: Importance) -> Importance:
    champion, now = online(store, settings)
    spec = GateSpec(loop=LOOP, reward=now.service.reward_spec, look=_LOOK)
    collected = Collector(store, {}, champion.artefact, spec, partial(_leave_out, asked.asked)).collect()
    if not collected.sample:
        raise ValueError(f"the log has nothing to go by: {_say(collected.left_out)}")
    scores = measure(collected.learned[CHAMPION], collected.sample)
    return asked.model_copy(update={"status": "Succeeded", "scores": tuple(scores)})


def _say(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{count} were left out: {why}" for why, count in left_out.items()) or "no rank was logged"


def _leave_out(asked: EvaluationContract | ImportanceContract, decision: Decision) -> str | None:
    if not asked.start_time <= decision.time < asked.end_time:
        return "made at another time"
    if decision.slots:
        return "they have slots"
    return None


def _minutes(collected: Collected) -> int:
    """Return the shortest stretches of which there are not too many."""
    times = [of.time_us for of in collected.evidence.values() if of is not None]
    if not times:
        return MINUTES[0]
    span = (int(times[0].max()) - int(times[0].min())) / 60e6
    return next((minutes for minutes in MINUTES if span / minutes <= _MOST_BUCKETS), MINUTES[-1])


def _result(
    candidate: Candidate,
    found: PolicyValue | None,
    evidence: Evidence | None,
    policy: int,
    minutes: int,
    promote: bool,
    verdict: str,
) -> PolicyResult:
    value = found.value if found is not None and found.abstains is None else None
    if policy == 1 and evidence is not None and evidence.own.all():  # it made the log: what it earned is known
        rewards = evidence.metrics["default"].rewards
        interval = hall(rewards)
        value = Range(value=float(rewards.mean()), low=interval.low, high=interval.high)
    return PolicyResult(
        name=candidate.name,
        arguments=candidate.arguments,
        source=candidate.source,
        value=value and value.value,
        low=value and value.low,
        high=value and value.high,
        buckets=() if evidence is None else _buckets(evidence, policy, minutes),
        promote=promote,
        verdict=verdict,
    )


def _buckets(evidence: Evidence, policy: int, minutes: int) -> tuple[Bucket, ...]:
    """Return sums by stretches of time, which begin where a clock would have them."""
    of = evidence.time_us // (minutes * 60_000_000)
    weights, rewards = evidence.weights[:, policy], evidence.metrics["default"].rewards
    found, starts = list[Bucket](), np.unique(of)
    for start in starts.tolist():
        rows = of == start
        weighted = weights[rows] * rewards[rows]
        found.append(
            Bucket(
                start=_floor(start * minutes),
                decisions=int(rows.sum()),
                weights=float(weights[rows].sum()),
                rewards=float(weighted.sum()),
                squares=float(weighted @ weighted),
                nonzero=int(np.count_nonzero(weights[rows])),
            )
        )
    return tuple(found)


def _floor(minutes: int) -> datetime:
    return from_us(0) + timedelta(minutes=minutes)
