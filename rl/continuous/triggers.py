"""When a run is due: by new data, by time, or because something has changed."""

from datetime import UTC, datetime, timedelta

import numpy as np

from data.attribution.join import GRACE
from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import load
from rl.continuous.reading import Closed, read_closed
from rl.continuous.runs import Run
from rl.continuous.specification import ContinuousSpec
from rl.downloads import fetch
from rl.drift import DriftSpec, find_drift
from rl.experience.events import logged_outcomes
from rl.policy.arrays import FloatArray
from rl.registry import CHAMPION, resolve

_LEAST = 500
"""Decisions on either side of a change that can be seen."""
_MOST = 20_000
_Z = 5.0
"""Standard errors by which means must differ: looks are many."""


def find_reason(spec: ContinuousSpec, settings: Settings, store: Store, last: Run | None) -> str | None:
    """Return why a run is due; None: it is not.

    Args:
        spec: its triggers.
        settings: where the registry is.
        store: the log.
        last: the last run that has ended; None: there was none.

    Raises:
        RegistryError: there is no champion, or the registry does not answer.
        StoreError: the log does not answer.
    """
    trigger = spec.trigger
    if trigger.every_s is not None:
        began = None if last is None else datetime.fromisoformat(last.began)
        if began is None or datetime.now(UTC) >= began + timedelta(seconds=trigger.every_s):
            return f"time: {trigger.every_s:g} s since the last run" if began else "time: the first run"
    reward, since = _known(spec, settings, last)
    new = read_closed(store, spec.gate.loop, reward, _after(last), None if last else since)
    if trigger.decisions is not None and len(new.seqs) >= trigger.decisions:
        return f"data: {len(new.seqs):,} new decisions have closed"
    if trigger.drift and last is not None:
        return _find_drift(store, spec, reward, last, new)
    return None


def _known(spec: ContinuousSpec, settings: Settings, last: Run | None) -> tuple[RewardSpec, datetime | None]:
    """Return what feedback is worth, and until when the champion has learned where there was no run."""
    if last is not None:
        return RewardSpec.model_validate(last.steps["ingest"]["reward"]), None
    artefact = load(fetch(settings, resolve(settings, CHAMPION, spec.model)))
    return spec.reward or artefact.reward, artefact.learned_until


def _after(last: Run | None) -> int:
    return 0 if last is None else int(last.steps["ingest"]["last"])


def _find_drift(store: Store, spec: ContinuousSpec, reward: RewardSpec, last: Run, new: Closed) -> str | None:
    """Return what has changed since the decisions that the last run saw: what they earn, or what `rl.drift` watches.

    That asks whether rewards are predicted worse: of a shop in which nothing sells any more they are predicted well.
    """
    if not len(new.seqs):
        return None
    seen = last.steps["ingest"]
    before = _rewards(store, spec, reward, int(seen["first"]) - 1, int(seen["last"]))
    if (
        why := describe_change(before, _rewards(store, spec, reward, int(new.seqs[0]) - 1, int(new.seqs[-1])))
    ) is not None:
        return why
    watched = DriftSpec(loop=spec.gate.loop, reward=reward)
    found = find_drift(store, watched, since=datetime.fromisoformat(seen["until"]))
    return f"drift: {found.verdict}" if found.drifted else None


def describe_change(before: FloatArray, after: FloatArray) -> str | None:
    """Return in words that the means of rewards differ; None: they may be the same.

    Source: Welch, "The generalization of Student's problem when several different population variances are involved"
    (1947).
    """
    if min(len(before), len(after)) < _LEAST:
        return None
    error = float(np.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after)))
    difference = float(after.mean() - before.mean())
    if abs(difference) <= _Z * error:
        return None
    return f"drift: a decision earns {after.mean():.4g} in the mean, in the last run's data it was {before.mean():.4g}"


def _rewards(store: Store, spec: ContinuousSpec, reward: RewardSpec, after: int, until: int) -> FloatArray:
    """Return what the newest decisions between two positions have earned, [n]."""
    first = max(after, until - _MOST)
    closed = store.now() - timedelta(seconds=reward.wait_s) - GRACE
    rewards = list[float]()
    for some in logged_outcomes(store, reward, closed, rows=_MOST, after=first, loop=spec.gate.loop):
        rewards += [outcome.reward for outcome in some if outcome.due]
        if len(rewards) >= until - first:
            break
    return np.array(rewards[: max(until - first, 0)])
