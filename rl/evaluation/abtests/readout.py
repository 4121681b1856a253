"""A test's exposures, all at once, as its result."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rl.evaluation.abtests.preference import Preference, read_preference
from rl.evaluation.abtests.reading import Phases, Reading
from rl.evaluation.abtests.scorecard import Scorecard
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.abtests.tables import to_exposures, to_past
from rl.evaluation.offpolicy.errors import EvaluationError


def read_out(
    exposures: pa.Table,
    *,
    variants: Sequence[str],
    control: str,
    phases: Phases = (),
    past: pa.Table | None = None,
    spec: ReadSpec | None = None,
    kind: Literal["split", "interleaving"] = "split",
    name: str = "",
) -> Scorecard | Preference:
    """Return what a test says.

    Args:
        exposures: a row for each decision, or two of an interleaved one; whose windows are open are left out.
        variants: of the test, the control among them.
        control: what the others are compared with.
        phases: the shares, from the start on; of a test that is split.
        past: what users did before, see `tables.to_past`; None: not known.
        spec: how the test is read.
        kind: of the test.
        name: of the test.

    Raises:
        EvaluationError: an interleaved test has not two variants, or a decision has not both.
    """
    spec = spec or ReadSpec()
    if kind == "split":
        reading = Reading(variants, control, spec, name)
        reading.add(to_exposures(exposures, spec, to_past(past) if past is not None else {}))
        return reading.read(phases)
    others = [one for one in variants if one != control]
    if len(others) != 1 or control not in variants:
        raise EvaluationError(f"an interleaved test has two variants, got {', '.join(variants)}")
    closed = exposures.filter(pc.field("closed")).sort_by([("seq", "ascending"), ("variant", "ascending")])
    of = {one: closed.filter(pc.field("variant") == one) for one in (others[0], control)}
    if of[control]["seq"].to_pylist() != of[others[0]]["seq"].to_pylist():
        raise EvaluationError("an interleaved decision has a row for each of the two variants")
    earned = {one: of[one]["reward"].to_numpy().astype(np.float64) for one in of}
    names = (others[0], control)
    return read_preference(of[control]["unit"].to_pylist(), earned[others[0]], earned[control], names, spec, name)
