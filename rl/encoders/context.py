"""The encoder of visits that are known by numbers of their context, for policies with a model for each item."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.visit import Visit
from rl.policy.arrays import LARGEST
from rl.policy.explanation.parts import Names
from rl.policy.queries import Query


@dataclass(frozen=True)
class ContextEncoder(CatalogueEncoder):
    """Encodes items as their positions, and a visit as numbers of its context; what is no number there is 0."""

    numbers: tuple[str, ...]
    """Names of the F numbers."""

    @property
    def n_features(self) -> int:  # type: ignore[override]  # a catalogue's is the same for all
        """See `VisitEncoder.n_features`."""
        return len(self.numbers)

    @cached_property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return hashlib.sha256(json.dumps([self.items, self.numbers]).encode()).hexdigest()[:12]

    def names(self, visit: Visit) -> Names:
        """See `VisitEncoder.names`."""
        return replace(super().names(visit), features=self.numbers)

    def query(self, visits: Sequence[Visit]) -> Query:
        """Encode B visits; features are [B, 1, F]."""
        said = [[_number(visit.context.get(name)) for name in self.numbers] for visit in visits]
        features = np.array(said, dtype=np.float64).reshape(len(visits), 1, -1)
        return replace(super().query(visits), features=features)


def _number(given: object) -> float:
    if not isinstance(given, int | float):
        return 0.0
    if abs(given) > LARGEST:  # a whole number may be more than a float holds
        return LARGEST if given > 0 else -LARGEST
    return float(given)
