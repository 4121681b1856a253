"""When a run is due: by new data, by time, or because something has changed."""

from datetime import UTC, datetime, timedelta

from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import load
from rl.continuous.reading import read_closed
from rl.continuous.runs import Run
from rl.continuous.specification import ContinuousSpec
from rl.downloads import fetch
from rl.drift import DriftSpec, find_drift
from rl.registry import CHAMPION, resolve


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
        return _find_drift(store, spec, reward, last)
    return None


def _known(spec: ContinuousSpec, settings: Settings, last: Run | None) -> tuple[RewardSpec, datetime | None]:
    """Return what feedback is worth, and until when the champion has learned where there was no run."""
    if last is not None:
        return RewardSpec.model_validate(last.steps["ingest"]["reward"]), None
    artefact = load(fetch(settings, resolve(settings, CHAMPION, spec.model)))
    return spec.reward or artefact.reward, artefact.learned_until


def _after(last: Run | None) -> int:
    return 0 if last is None else int(last.steps["ingest"]["last"])


def _find_drift(store: Store, spec: ContinuousSpec, reward: RewardSpec, last: Run) -> str | None:
    """Return what has changed since the decisions that the last run saw, if anything has."""
    watched = DriftSpec(loop=spec.gate.loop, reward=reward)
    found = find_drift(store, watched, since=datetime.fromisoformat(last.steps["ingest"]["until"]))
    return f"drift: {found.verdict}" if found.drifted else None
