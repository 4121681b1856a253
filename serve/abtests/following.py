"""Tests that run, read as the log grows: a look reads only what has come since the one before."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import INTERLEAVED
from rl.evaluation.abtests.preference import Preference
from rl.evaluation.abtests.reading import Reading
from rl.evaluation.abtests.readout import read_out
from rl.evaluation.abtests.scorecard import Scorecard
from rl.evaluation.abtests.tables import Past, closed_prefix, to_exposures, to_past
from serve.abtests.exposures import read_exposures, read_past
from serve.abtests.state import ABTestState

_ROWS = 20_000
"""Decisions that are read at a time."""
_INTERLEAVED = ["seq", "unit", "variant", "reward", "closed"]


class Follower:
    """Follows the exposures of one test whose wait windows are closed, in log order."""

    def __init__(self, store: Store, state: ABTestState, reward: RewardSpec) -> None:
        """Read nothing yet."""
        test = state.test
        self._store, self._reward = store, reward
        self._reading = Reading(list(test.variants), test.control, test.read, test.name)
        self._slates = list[pa.Table]()
        self._past: Past | None = None
        self._position = 0

    def look(self, state: ABTestState) -> Scorecard | Preference:
        """Read what is new, and return what is known. Blocks; the first look reads all, and what users did before.

        Raises:
            StoreError, DataError: log or archive cannot be read.
        """
        test = state.test
        if self._past is None:
            adjusted = test.read.adjust and test.kind == "split"
            self._past = to_past(read_past(self._store, state, self._reward)) if adjusted else {}
        while True:
            rows = read_exposures(
                self._store,
                state,
                self._reward,
                after=self._position,
                limit=_ROWS,
                kinds=test.read.kinds,
                segments=test.read.segments,
            )
            new = closed_prefix(rows)
            if new.num_rows:
                self._add(new, state, self._past)
                self._position = int(new["seq"][-1].as_py())
            if new.num_rows < max(rows.num_rows, _ROWS):
                break
        if test.kind == "split":
            return self._reading.read(state.phases, plan=False)
        both: Any = pa.concat_tables(self._slates) if self._slates else rows.slice(0, 0).select(_INTERLEAVED)
        return read_out(
            both,
            variants=list(test.variants),
            control=test.control,
            spec=test.read,
            kind="interleaving",
            name=test.name,
        )

    def _add(self, new: pa.Table, state: ABTestState, past: Past) -> None:
        if state.test.kind == "split":
            self._reading.add(to_exposures(new, state.test.read, past))
        else:  # what the control has answered alone is of no two
            together = pc.match_substring(new["policy"], INTERLEAVED)
            self._slates.append(new.filter(together).select(_INTERLEAVED))
