"""Scaling that is fitted once, stored with a version, and applied the same to files and to single records.

A scaler is fitted on the accepted rows of a node's first ingestion, duplicates included; later ingestions apply the
stored one. A refit is the next version and holds for the events stored from then on; each event says its version.
"""

import math
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, PositiveInt

from data.nodes.node import Column, NodeSpec


class Moments(BaseModel):
    """Count, mean, sum of squared deviations, smallest and largest of a column's values, missing ones left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: NonNegativeInt = 0
    mean: FiniteFloat = 0.0
    m2: FiniteFloat = 0.0
    low: FiniteFloat = 0.0
    high: FiniteFloat = 0.0

    @classmethod
    def of(cls, values: pa.Array) -> "Moments":
        """Take the moments of [N] numbers."""
        values = values.cast(pa.float64()).drop_null()
        if not len(values):
            return cls()
        mean = pc.mean(values).as_py()
        deviations = pc.subtract(values, mean)
        m2 = pc.sum(pc.multiply(deviations, deviations)).as_py()
        bounds = pc.min_max(values).as_py()
        return cls(count=len(values), mean=mean, m2=m2, low=bounds["min"], high=bounds["max"])

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of values together.

        Source: Chan, Golub, LeVeque 1979, equation 1.5.
        """
        if not self.count or not other.count:
            return other if other.count else self
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * other.count / count,
            m2=self.m2 + other.m2 + delta * delta * self.count * other.count / count,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
        )


class Scale(BaseModel):
    """One column's scaling: (value - shift) / width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shift: FiniteFloat
    width: FiniteFloat
    """The standard deviation over all N values (standard) or the range (minmax); 1 where all values are equal."""
    moments: Moments


class Scaler(BaseModel):
    """The scaling of a node's columns. A minmax value outside the fitted range is not clipped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    version: PositiveInt
    columns: dict[str, Scale]
    """By column name."""

    @classmethod
    def fit(cls, node: NodeSpec, moments: dict[str, Moments], version: int) -> "Scaler":
        """Make a scaler from the moments of the node's scaled columns."""
        columns = {column.name: _scale(column, moments[column.name]) for column in node.scaled_columns}
        return cls(node=node.name, version=version, columns=columns)

    def apply(self, name: str, values: pa.Array) -> pa.Array:
        """Return [N] float64: the scaled values of a column; missing where the value is, or no float is so large."""
        scale = self.columns[name]
        scaled = pc.divide(pc.subtract(values.cast(pa.float64()), scale.shift), scale.width)
        return pc.if_else(pc.is_finite(scaled), scaled, None)


def merge_moments(parts: Iterable[dict[str, Moments]]) -> dict[str, Moments]:
    """Merge the moments of parts of an input, by column name, in the order given."""
    merged: dict[str, Moments] = {}
    for part in parts:
        for name, moments in part.items():
            merged[name] = merged.get(name, Moments()).merge(moments)
    return merged


def _scale(column: Column, moments: Moments) -> Scale:
    if column.scale == "minmax":
        shift, width = moments.low, moments.high - moments.low
    else:
        shift, width = moments.mean, math.sqrt(moments.m2 / max(moments.count, 1))
    return Scale(shift=shift, width=width or 1.0, moments=moments)
