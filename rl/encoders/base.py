"""The interface of encoders: from visits to the queries that a policy answers.

An encoder is part of an artefact (see `rl.encoders.description`): the one that a policy was trained with is the one
that serves it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rl.encoders.visit import Visit
from rl.policy.arrays import IntArray
from rl.policy.explanation.parts import Names
from rl.policy.queries import AGE, ITEM, OUTCOME, OUTCOMES, Query


class VisitEncoder(Protocol):
    """Turns visits into queries; what it does not know is encoded as unknown, never refused."""

    @property
    def items(self) -> tuple[str, ...]:
        """Item ids of the catalogue; the one at index i has position i + 1."""
        ...

    @property
    def version(self) -> str:
        """Digest of the content: equal versions encode alike."""
        ...

    @property
    def n_features(self) -> int:
        """F: length of the features of its queries."""
        ...

    @property
    def n_states(self) -> int:
        """Number of discrete context states."""
        ...

    @property
    def popularity(self) -> NDArray[np.float64]:
        """[N + 1] of each catalogue position, as `rl.policies.build` takes it."""
        ...

    def item_positions(self, items: Sequence[str]) -> IntArray:
        """Return the catalogue positions of item ids, 0 where unknown."""
        ...

    def names(self, visit: Visit) -> Names:
        """Return what the numbers of a visit's query are called, for explanations."""
        ...

    def query(self, visits: Sequence[Visit]) -> Query:
        """Encode B visits with A candidates each (as many in every visit)."""
        ...


def name_entries(history: IntArray | None, items: Sequence[str]) -> tuple[str, ...]:
    """Return what the entries of a history [T, 3] are called, over a catalogue: "click of 20001, 3 steps ago"."""
    if history is None:
        return ()
    return tuple(_name_entry(entry, items) for entry in history.tolist())


def _name_entry(entry: list[int], items: Sequence[str]) -> str:
    item = items[entry[ITEM] - 1] if 0 < entry[ITEM] <= len(items) else "an unknown item"
    return f"{OUTCOMES[entry[OUTCOME]]} of {item}, {entry[AGE]} step{'s' * (entry[AGE] != 1)} ago"


def stack_histories(visits: Sequence[Visit]) -> IntArray | None:
    """Return the visits' histories as one array [B, T, 3], T being the longest; None if no visit has one."""
    parts = [visit.history for visit in visits]
    length = max((len(history) for history in parts if history is not None), default=0)
    if not length:
        return None
    stacked = np.zeros((len(visits), length, 3), dtype=np.int64)
    for row, history in zip(stacked, parts, strict=True):
        if history is not None and len(history):
            row[-len(history) :] = history
    return stacked
