"""What a test says so far: its columns, given to `rl.evaluation`."""

from typing import Any

import pyarrow.compute as pc

from data.log.store import Store
from data.reward import RewardSpec
from serve.abtests.exposures import read_exposures, read_shadows
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState


def describe_results(store: Store, state: ABTestState, spec: RewardSpec) -> dict[str, Any] | None:
    """Return the results of a test as JSON has them; None: nothing was logged for it yet. Blocks.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    if state.test.kind in UNSEEN:
        shadows = read_shadows(store, state)
        if not shadows.num_rows:
            return None
        matches = {
            variant: float(pc.mean(shadows.filter(pc.field("variant") == variant)["match"].cast("int8")).as_py())
            for variant in shadows["variant"].unique().to_pylist()
        }
        return {"decisions": shadows.num_rows, "match": matches}
    exposures = read_exposures(store, state, spec)
    if not exposures.num_rows:
        return None
    counted = exposures.filter(pc.field("closed"))
    grouped = counted.group_by("variant").aggregate([("reward", "mean"), ("reward", "count")]).to_pylist()
    return {
        "exposures": dict(zip(*_counts(exposures), strict=True)),
        "closed": {row["variant"]: {"exposures": row["reward_count"], "reward": row["reward_mean"]} for row in grouped},
    }


def _counts(exposures: Any) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(exposures["variant"])
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()
