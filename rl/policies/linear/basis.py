"""Bases: from raw features to those that a linear model is linear in.

A basis maps the last axis, F raw features to G = `size(F)`, and is a pure function of its configuration: two policies
with the same configuration have the same features, so their statistics add.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rl.policy.arrays import FloatArray

Names: TypeAlias = list[tuple[str, ...]]
"""Of each feature of a basis, those of the raw features that are multiplied in it."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(_Config):
    """The raw features."""

    kind: Literal["identity"] = "identity"

    def size(self, n_features: int) -> int:
        """Return G for F raw features."""
        return n_features

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the features as they are, [..., F]."""
        return features

    def names(self, raw: Sequence[str]) -> Names:
        """Return what the G features are called, where the raw ones are called so."""
        return [(name,) for name in raw]


class Quadratic(_Config):
    """The raw features and all their products of two; give the context a constant for the features themselves."""

    kind: Literal["quadratic"] = "quadratic"

    def size(self, n_features: int) -> int:
        """Return G for F raw features."""
        return n_features + n_features * (n_features + 1) // 2

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return features and products, [..., G]."""
        i, j = np.triu_indices(features.shape[-1])
        return np.concatenate([features, features[..., i] * features[..., j]], axis=-1)

    def names(self, raw: Sequence[str]) -> Names:
        """See `Identity.names`."""
        products = np.transpose(np.triu_indices(len(raw))).tolist()
        return [*((name,) for name in raw), *((raw[i], raw[j]) for i, j in products)]


class RandomFourier(_Config):
    """Cosines in random directions: linear in them is a Gaussian process with a squared exponential kernel.

    With w ~ N(0, I / length_scale²) and u ~ U[0, 2π) drawn once from the seed, a feature is √(2 / n) cos(wᵀx + u), so
    that the products of two contexts' features approximate exp(-|x - y|² / (2 length_scale²)).

    Source: Rahimi and Recht, "Random features for large-scale kernel machines" (2007), algorithm 1.
    """

    kind: Literal["random_fourier"] = "random_fourier"
    n: Annotated[int, Field(ge=1, description="number of cosines")] = 128
    length_scale: Annotated[
        float, Field(gt=0, description="distance, in units of the features, over which rewards change")
    ] = 1.0
    squash: Annotated[
        float, Field(ge=0, description="c: x becomes asinh(cx), for features with far outliers; 0: x stays")
    ] = 0.0
    also: Annotated[Literal["nothing", "linear", "quadratic"], Field(description="what the cosines are joined to")] = (
        "linear"
    )
    seed: Annotated[int, Field(ge=0, description="of the directions")] = 0

    def size(self, n_features: int) -> int:
        """Return G for F raw features."""
        return self.n + self._others().size(n_features) * (self.also != "nothing")

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return cosines, and what they are joined to, [..., G]."""
        x = np.arcsinh(self.squash * features) if self.squash else features
        rng = np.random.default_rng(self.seed)
        directions = rng.standard_normal((self.n, features.shape[-1])) / self.length_scale
        phases = rng.uniform(0.0, 2 * np.pi, self.n)
        cosines: FloatArray = np.sqrt(2.0 / self.n) * np.cos(x @ directions.T + phases)
        if self.also == "nothing":
            return cosines
        return np.concatenate([self._others()(x), cosines], axis=-1)

    def names(self, raw: Sequence[str]) -> Names:
        """See `Identity.names`; a cosine is of all raw features, so it has a number."""
        others = [] if self.also == "nothing" else self._others().names(raw)
        return [*others, *((f"cosine {number}",) for number in range(self.n))]

    def _others(self) -> Identity | Quadratic:
        return Quadratic() if self.also == "quadratic" else Identity()


BasisConfig: TypeAlias = Annotated[Identity | Quadratic | RandomFourier, Field(discriminator="kind")]
"""Any basis, told apart by its `kind`."""
