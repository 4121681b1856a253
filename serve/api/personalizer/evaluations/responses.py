"""Evaluations and feature importances as each dialect answers them."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from serve.api.personalizer.configuration.durations import iso, time_span
from serve.api.personalizer.evaluations.contracts import Bucket, Evaluation, Importance

Window: TypeAlias = Literal["Expanding", "Rolling"]

_Z = 1.959963984540054  # of a 95 % interval
_OLD = {
    "Running": "pending",
    "Succeeded": "completed",
    "Failed": "failed",
    "Timeout": "timeout",
    "OptimalPolicyApplied": "optimalPolicyApplied",
    "OnlinePolicyRetained": "onlinePolicyRetained",
}
"""Statuses of the two older dialects."""


def summary_of(one: Evaluation | Importance) -> dict[str, Any]:
    """Return what the newest dialect lists of an evaluation or of feature importances."""
    asked = one.asked
    shown = {
        "id": one.id,
        "name": asked.name,
        "startTime": _time(asked.start_time),
        "endTime": _time(asked.end_time),
        "creationTime": _time(one.created),
        "status": one.status,
    }
    return {**shown, "evaluationType": one.kind} if isinstance(one, Evaluation) else shown


def evaluation(one: Evaluation, start: datetime, end: datetime, minutes: int, window: Window) -> dict[str, Any]:
    """Return an evaluation as the newest dialect has it.

    Args:
        one: the evaluation.
        start: of the time series.
        end: of the time series.
        minutes: between its points; those that were kept, where these are further apart.
        window: each point is of all since the start, or of its own stretch of time.
    """
    minutes = max(minutes, one.minutes)
    values = []
    for result in one.results:
        buckets = [bucket for bucket in result.buckets if start <= bucket.start < end]
        points = [
            {"timeStamp": _time(time), **_estimate(so_far)} for time, so_far in _windows(buckets, minutes, window)
        ]
        summary: dict[str, Any] = {}
        if result.value is not None:
            summary = {"expectedReward": result.value, "confidenceInterval": [result.low, result.high]}
        values.append(
            {
                "name": result.name,
                "arguments": result.arguments,
                "policySource": result.source,
                "slotId": "",
                "summary": summary,
                "timeseries": {"data": points},
                "gate": {"promote": result.promote, "verdict": result.verdict},
            }
        )
    content = {"startTime": _time(start), "endTime": _time(end), "intervalInMinutes": minutes, "value": values}
    optional = {"optimalPolicy": one.optimal, "description": one.why}
    return {**summary_of(one), "content": content, **{name: value for name, value in optional.items() if value}}


def old_evaluation(one: Evaluation, time_spans: bool) -> dict[str, Any]:
    """Return an evaluation as the older dialects have it."""
    window = (time_span if time_spans else iso)(timedelta(minutes=one.minutes))
    results = []
    for result in one.results:
        summary = [_old_summary(_sum([bucket]), bucket.start, window) for bucket in result.buckets]
        total = _old_summary(_sum(result.buckets), one.asked.start_time, window) if result.buckets else None
        results.append(
            {
                "name": result.name,
                "arguments": result.arguments,
                "policySource": result.source,
                "summary": summary,
                **({"totalSummary": total} if total else {}),
            }
        )
    asked = one.asked
    return {
        "id": one.id,
        "name": asked.name,
        "startTime": _time(asked.start_time),
        "endTime": _time(asked.end_time),
        "creationTime": _time(one.created),
        "jobId": one.id,
        "status": _OLD[one.status],
        "policyResults": results,
        "featureImportance": [[name] for name in one.importances],
        "evaluationType": one.kind,
        **({"optimalPolicy": one.optimal} if one.optimal else {}),
    }


def importance(one: Importance) -> dict[str, Any]:
    """Return feature importances."""
    scores = [{"namespace": s.namespace, "featureName": s.name, "score": s.score} for s in one.scores]
    return {**summary_of(one), "featureScores": scores, **({"description": one.why} if one.why else {})}


def _windows(buckets: Sequence[Bucket], minutes: int, window: Window) -> Iterator[tuple[datetime, Bucket]]:
    """Yield the ends of stretches of time, each with the sums that its point is made of."""
    step, at, own = timedelta(minutes=minutes), 0, list[Bucket]()
    while at < len(buckets):
        first = buckets[at].start
        start = first - (first - first.replace(hour=0, minute=0, second=0, microsecond=0)) % step
        if window == "Rolling":
            own = []
        while at < len(buckets) and buckets[at].start < start + step:
            own.append(buckets[at])
            at += 1
        yield start + step, _sum(own)


def _sum(buckets: Sequence[Bucket]) -> Bucket:
    names = ("decisions", "weights", "rewards", "squares", "nonzero")
    return Bucket(start=buckets[0].start, **{name: sum(getattr(one, name) for one in buckets) for name in names})


def _estimate(of: Bucket) -> dict[str, Any]:
    """Return the IPS estimate of a stretch of time with its normal interval."""
    mean, half = of.rewards / of.decisions, _half_width(of)
    return {"expectedReward": mean, "confidenceInterval": [mean - half, mean + half]}


def _half_width(of: Bucket) -> float:
    mean = of.rewards / of.decisions
    return _Z * math.sqrt(max(of.squares / of.decisions - mean**2, 0.0) / of.decisions)


def _old_summary(of: Bucket, time: datetime, window: str) -> dict[str, Any]:
    return {
        "timeStamp": _time(time),
        "ipsEstimatorNumerator": of.rewards,
        "ipsEstimatorDenominator": of.decisions,
        "snipsEstimatorDenominator": of.weights,
        "aggregateTimeWindow": window,
        "nonZeroProbability": of.nonzero,
        "sumOfSquares": of.squares,
        "confidenceInterval": _half_width(of),
        "averageReward": of.rewards / of.decisions,
    }


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
