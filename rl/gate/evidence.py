"""What the verdict rests on: a few numbers for each decision, from which all estimates follow. No policy is needed.

Arrays have a row for each of n decisions. Of a challenger there is an evidence of its own, beside the same champion.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.policy.arrays import BoolArray, FloatArray, IntArray

_PREFIX = "metric."


@dataclass(frozen=True)
class Metric:
    """What the decisions earned under one reward specification, and what was predicted of them from those before."""

    rewards: FloatArray
    """[n] the sum over the slots."""
    lowest: FloatArray
    """[n] the least of them."""
    weighted: FloatArray
    """[n, 2] rewards of the slots by the weights of challenger and champion of all slots up to each."""
    predicted: FloatArray
    """[n] of the first slot's item."""
    expected: FloatArray
    """[n, 2] what challenger and champion were predicted to earn there."""
    best: FloatArray
    """[n] the largest prediction of a candidate."""
    cap: float
    """No prediction is larger."""


@dataclass(frozen=True)
class Evidence:
    """What the log says of a challenger beside the champion."""

    seq: IntArray
    """[n] positions in the log: which decisions these are."""
    time_us: IntArray
    """[n] when they were made, in microseconds since 1970 UTC."""
    slots: IntArray
    """[n] lengths of the slates."""
    propensity: FloatArray
    """[n] of the first slot's item."""
    least: FloatArray
    """[n] the least propensity of a slot."""
    probability: FloatArray
    """[n, 2] of the first slot's item, by challenger and champion; the propensity where the champion decided."""
    weights: FloatArray
    """[n, 2] how much more often challenger and champion show the whole slate."""
    mass: FloatArray
    """[n, 2] the sum of the weights of all slots up to each."""
    own: BoolArray
    """[n] whether the champion itself made the decision: its weights are one."""
    greedy: BoolArray
    """[n] whether the first slot's item is the one that was predicted to earn most."""
    segments: Mapping[str, NDArray[np.object_]]
    """[n] of each guarded field, the segment as a text."""
    metrics: Mapping[str, Metric]

    def __len__(self) -> int:
        """Return how many decisions there are."""
        return len(self.seq)

    @property
    def single(self) -> bool:
        """Whether all slates have one slot."""
        return bool((self.slots == 1).all())

    @property
    def sha256(self) -> str:
        """Hash of the positions: the same decisions have the same."""
        return hashlib.sha256(self.seq.astype("<i8").tobytes()).hexdigest()

    def take(self, rows: BoolArray) -> "Evidence":
        """Return that of some decisions [n]."""
        metrics = {
            name: Metric(**{f.name: _rows(getattr(metric, f.name), rows) for f in fields(Metric)})
            for name, metric in self.metrics.items()
        }
        plain = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("segments", "metrics")}
        return Evidence(**plain, segments={key: of[rows] for key, of in self.segments.items()}, metrics=metrics)

    def log(self, policy: int, metric: str) -> Predictions:
        """Return decisions of one slot as the estimators read them, for the challenger (0) or the champion (1).

        All that they ask of a distribution is the probability of what was shown and what it is predicted to earn as a
        whole. So three actions stand for all: what was shown, the rest by the challenger, the rest by the champion.
        """
        of, n = self.metrics[metric], len(self)
        p = np.where(self.own & (policy == 1), 1.0, self.probability[:, policy])
        target = np.zeros((n, 3))
        target[:, 0], target[:, 1 + policy] = p, 1.0 - p
        propensity = np.where(self.own & (policy == 1), 1.0, self.propensity)
        log = BanditLog(np.zeros(n, np.int64), of.rewards, propensity, target)
        rest = np.empty((n, 2))
        for at in (0, 1):
            share = np.where(self.own & (at == 1), 1.0, self.probability[:, at])
            rest[:, at] = np.where(
                share < 1.0, (of.expected[:, at] - share * of.predicted) / np.maximum(1.0 - share, 1e-12), 0.0
            )
        return Predictions(log, np.column_stack([of.predicted, rest]))

    def improvement_log(self) -> tuple[BanditLog, FloatArray]:
        """Return decisions of one slot, and what was predicted of the item that was shown and of the best other."""
        of, n = self.metrics["default"], len(self)
        target = np.column_stack([np.full(n, 0.5), np.full(n, 0.5)])
        log = BanditLog(np.zeros(n, np.int64), of.rewards, self.propensity, target)
        other = np.where(self.greedy, of.predicted - 1.0, np.nextafter(of.best, np.inf))
        return log, np.column_stack([of.predicted, other])

    def slates_log(self, policy: int) -> BanditLog:
        """Return whole slates as actions, for the challenger (0) or the champion (1): shown or not."""
        weights = np.minimum(self.weights[:, policy], 1e12)
        propensities = np.minimum(1.0, 1.0 / np.maximum(weights, 1.0))
        shown = weights * propensities
        target = np.column_stack([shown, 1.0 - shown])
        return BanditLog(np.zeros(len(self), np.int64), self.metrics["default"].rewards, propensities, target)

    def save(self, path: Path) -> None:
        """Write it as one Parquet file."""
        columns: dict[str, Any] = {}
        for f in fields(self):
            if f.name not in ("segments", "metrics"):
                columns |= _columns(f.name, getattr(self, f.name))
        for key, of in self.segments.items():
            columns[f"segment.{key}"] = pa.array(of.tolist(), pa.string())
        caps = {}
        for name, metric in self.metrics.items():
            caps[name] = metric.cap
            for f in fields(metric):
                if f.name != "cap":
                    columns |= _columns(f"{_PREFIX}{name}.{f.name}", getattr(metric, f.name))
        pa.parquet.write_table(pa.table(columns).replace_schema_metadata({"caps": json.dumps(caps)}), path)

    @classmethod
    def read(cls, path: Path) -> "Evidence":
        """Read what `save` wrote."""
        table = pa.parquet.read_table(path)
        arrays = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        plain = {f.name: _joined(f.name, arrays) for f in fields(cls) if f.name not in ("segments", "metrics")}
        segments = {n.removeprefix("segment."): arrays[n] for n in arrays if n.startswith("segment.")}
        metrics = {}
        for name, cap in json.loads(table.schema.metadata[b"caps"]).items():
            of = {f.name: _joined(f"{_PREFIX}{name}.{f.name}", arrays) for f in fields(Metric) if f.name != "cap"}
            metrics[name] = Metric(**of, cap=cap)
        return cls(**plain, segments=segments, metrics=metrics)


def _rows(value: Any, rows: BoolArray) -> Any:
    return value[rows] if isinstance(value, np.ndarray) else value


def _columns(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    if array.ndim == 1:
        return {name: array}
    return {f"{name}.{who}": np.ascontiguousarray(array[:, at]) for at, who in enumerate(("challenger", "champion"))}


def _joined(name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if name in arrays:
        return arrays[name]
    return np.column_stack([arrays[f"{name}.{who}"] for who in ("challenger", "champion")])
