"""What a test says so far: its columns, given to `rl.evaluation`."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import INTERLEAVED
from serve.abtests.exposures import read_exposures, read_past, read_shadows
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState

_WEIGHED = ["reward", "propensity", "probability"]


def describe_results(
    store: Store, state: ABTestState, spec: RewardSpec, *, with_past: bool = True
) -> dict[str, Any] | None:
    """Return the results of a test as JSON has them; None: nothing was logged for it yet. Blocks.

    Args:
        store: the log.
        state: of the test.
        spec: what feedback is worth.
        with_past: read what users did before the test too, to adjust for it if the test asks for that: weeks of log.

    Raises:
        StoreError, DataError: log or archive cannot be read.
        EvaluationError: what was logged is nothing that can be read out.
    """
    from rl.evaluation.abtests.readout import read_out  # SciPy's statistics would be a second of every replica's start

    test = state.test
    if test.kind in UNSEEN:
        return _describe_unseen(store, state, spec)
    exposures = read_exposures(store, state, spec, kinds=test.read.kinds, segments=test.read.segments)
    if test.kind == "interleaving":  # what the control has filled alone says nothing of the other
        exposures = exposures.filter(pc.field("policy") == INTERLEAVED.join(test.policies.values()))
    if not exposures.num_rows:
        return None
    closed = _count(exposures.filter(pc.field("closed")))
    if closed.keys() != test.variants.keys():
        return {"early": "not every variant has an exposure whose wait window is over", "exposures": _count(exposures)}
    past = read_past(store, state, spec) if with_past and test.read.adjust and test.kind == "split" else None
    found = read_out(
        exposures,
        variants=[*test.variants],
        control=test.control,
        phases=state.phases,
        past=past,
        spec=test.read,
        kind="interleaving" if test.kind == "interleaving" else "split",
        name=test.name,
    )
    return found.model_dump(mode="json")


def _count(exposures: pa.Table) -> dict[str, int]:
    """Return the number of exposures by variant."""
    return dict(Counter(exposures["variant"].to_pylist()))


def _describe_unseen(store: Store, state: ABTestState, spec: RewardSpec) -> dict[str, Any] | None:
    from rl.evaluation.abtests.shadows import read_shadows_out  # as above

    shadows, test = read_shadows(store, state, spec), state.test
    if not shadows.num_rows:
        return None
    closed = shadows.filter(pc.field("closed") & pc.field("probability").is_valid())
    read = closed if closed.num_rows else shadows.drop_columns(_WEIGHED)
    variants = [name for name in test.variants if name != test.control]
    found = read_shadows_out(read, variants, test.read).model_dump(mode="json")
    return {**found, "over_time": match_over_time(shadows)}


def match_over_time(shadows: pa.Table) -> list[dict[str, Any]]:
    """Return how often each variant would have shown first what was shown: by hour, of more than a week by day."""
    times = shadows["time"]
    whole: timedelta = pc.max(times).as_py() - pc.min(times).as_py()
    unit = "hour" if whole <= timedelta(days=7) else "day"
    rows = pa.table(
        {
            "time": pc.floor_temporal(times, unit=unit),
            "variant": shadows["variant"],
            "match": shadows["match"].cast(pa.float64()),
        }
    )
    grouped = rows.group_by(["time", "variant"]).aggregate([("match", "count"), ("match", "mean")])
    found = grouped.sort_by([("time", "ascending"), ("variant", "ascending")]).to_pylist()
    return [
        {
            "time": row["time"].isoformat(),
            "variant": row["variant"],
            "decisions": row["match_count"],
            "match": row["match_mean"],
        }
        for row in found
    ]
