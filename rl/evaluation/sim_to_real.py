"""Sim to real: what a simulator that was fitted to a log says of later decisions, beside what came of them."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from rl.evaluation.calibration import measure_reliability
from rl.evaluation.offpolicy.intervals import hall
from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.responses import ResponseModel, Slots


class Bin(BaseModel):
    """Slots of like predictions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slots: int
    predicted: float
    observed: float


class SimToReal(BaseModel):
    """How far a simulator is to be believed: of decisions that it was not fitted to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    classes: int
    """Of users, as many as predict best."""
    fitted_decisions: int
    decisions: int
    slots: int
    rmse: float
    """Of the rewards of single slots."""
    rmse_of_item_means: float
    """The same if all users were alike: without it nothing would say whether the error is large."""
    calibration_error: float
    """Expected calibration error of the probability that a slot earns something."""
    bins: tuple[Bin, ...]
    predicted_value: float
    """Mean reward of a decision as the logging policy made them, as the simulator says."""
    realised_value: float
    """The same, as it came."""
    realised_low: float
    realised_high: float
    """Ends of its 95 % interval."""
    simulated_value: float | None = None
    """Mean reward of a decision that the champion made in the simulator; None: none was simulated."""

    @property
    def holds(self) -> bool:
        """Whether what was predicted lies in the interval of what came."""
        return self.realised_low <= self.predicted_value <= self.realised_high


def measure_sim_to_real(
    model: ResponseModel, known: FloatArray, slots: Slots, decisions: IntArray, fitted_decisions: int
) -> SimToReal:
    """Compare a simulator's predictions with what happened.

    Args:
        model: the simulator.
        known: [users, M] what it knows of the users' classes.
        slots: what was shown later, and earned; one at least.
        decisions: [n] to which decision each belongs, numbers from 0.
        fitted_decisions: how many it was fitted to.
    """
    p, _ = model.follow(slots, known)
    predicted, alike = model.rewards(p, slots.items), model.rewards(model.shares @ model.p[:, slots.items], slots.items)
    table = measure_reliability(p, slots.earned.astype(np.float64))
    n = int(decisions.max()) + 1
    came: FloatArray = np.bincount(decisions, slots.rewards, minlength=n).astype(np.float64)
    interval = hall(came)
    return SimToReal(
        classes=len(model.shares),
        fitted_decisions=fitted_decisions,
        decisions=n,
        slots=len(slots),
        rmse=_rms(predicted - slots.rewards),
        rmse_of_item_means=_rms(alike - slots.rewards),
        calibration_error=table.expected_error,
        bins=tuple(
            Bin(slots=int(count), predicted=float(said), observed=float(seen))
            for count, said, seen in zip(table.counts, table.predicted, table.observed, strict=True)
        ),
        predicted_value=float(predicted.sum() / n),
        realised_value=float(came.mean()),
        realised_low=interval.low,
        realised_high=interval.high,
    )


def draw_sim_to_real(path: Path, report: SimToReal) -> None:
    """Write a PNG: what came by what was predicted, and the value of a decision. Imports matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    most = max(max(one.predicted, one.observed) for one in report.bins)
    left.plot([0, most], [0, most], color="tab:grey", linestyle="--", linewidth=1, label="as predicted")
    left.plot([one.predicted for one in report.bins], [one.observed for one in report.bins], "o-", label="as it came")
    left.set(xlabel="predicted probability that a slot earns something", ylabel="share that did")
    left.set_title(f"calibration: off by {report.calibration_error:.3f} in {report.slots:,} slots")
    left.legend()
    low, high = report.realised_value - report.realised_low, report.realised_high - report.realised_value
    right.errorbar([0], [report.realised_value], [[low], [high]], fmt="o", capsize=4)
    others = {"predicted": report.predicted_value, "simulated\nchampion": report.simulated_value}
    for at, value in enumerate(others.values(), start=1):
        if value is not None:
            right.plot([at], [value], "s")
    right.set(xticks=range(3), xticklabels=["came\n(95 %)", *others], xlim=(-0.5, 2.5), title="reward of a decision")
    figure.savefig(path)


def _rms(errors: FloatArray) -> float:
    return float(np.sqrt(np.mean(errors**2)))
