"""How one policy of a fold learns: what it cannot learn is named and left out, and an update that fails undone.

What is left out follows from the log alone, so that a fold that is repeated leaves out the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.artefacts.artefact import Artefact
from rl.online.observe import (
    PASSING,
    Learnable,
    UnlearnableError,
    encode,
    largest_value,
    partition,
)
from rl.policy.queries import Impressions

_LARGE = 1e6  # above it what follows is looked at at once
_KEPT = 20_000  # impressions after which a state is looked at, and kept to come back to

Failed: TypeAlias = tuple[Learnable, Exception]


@dataclass(slots=True)
class _Kept:
    """A state that a policy was in, and what it has learned since."""

    state: dict[str, np.ndarray]
    since: list[Impressions]
    rows: int = 0


class Guard:
    """Teaches a policy, which stays as it is if an update fails or leaves values that are not finite."""

    def __init__(self, artefact: Artefact) -> None:
        self._encoder, self._policy = artefact.encoder, artefact.policy
        self._kept = _Kept(self._policy.state_dict(), [])

    def learn(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, list[Failed]]:
        """Learn what can be learned, in the order given: what is new first, then corrections.

        Returns:
            What was learned, None where nothing was, and each outcome that was left out with the reason.
        """
        good, failed = list(outcomes), list[Failed]()
        for work in (self._encode, self._try):
            impressions, error = self._learn_together(good)
            if error is None:
                return impressions, failed
            good, worse = partition(good, work)
            failed += worse
        impressions, error = self._learn_together(good)
        if error is not None:  # each alone, but not all together
            failed += [(outcome, error) for outcome in good]
        return impressions, failed

    def _learn_together(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, Exception | None]:
        """Learn all of some outcomes or none; returns what was learned, if anything, and why not if that failed."""
        if not outcomes:
            return None, None
        try:
            impressions = self._encode(outcomes)
            self._update(impressions)
        except PASSING:
            raise
        except Exception as error:  # whatever it is, it is some outcome's, and said
            return None, error
        return impressions, None

    def _encode(self, outcomes: Sequence[Learnable]) -> Impressions:
        return encode(outcomes, self._encoder)

    def _try(self, outcomes: Sequence[Learnable]) -> None:
        """Learn and come back; raises what learning raises."""
        kept = self._kept
        self._kept = _Kept(kept.state, [*kept.since], kept.rows)
        try:
            self._update(self._encode(outcomes))
        finally:
            self._kept = kept
        self._restore()

    def _update(self, impressions: Impressions) -> None:
        try:
            self._policy.update(impressions)
            rows = self._kept.rows + len(impressions)
            state = self._whole() if rows >= _KEPT or largest_value(impressions) > _LARGE else None
        except PASSING:
            raise
        except Exception:
            self._restore()
            raise
        if state is not None and rows >= _KEPT:
            self._kept = _Kept(state, [])
        else:
            self._kept.since.append(impressions)
            self._kept.rows = rows

    def _whole(self) -> dict[str, np.ndarray]:
        state = self._policy.state_dict()
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise UnlearnableError(f"array {name!r} of the policy would hold values that are not finite")
        return state

    def _restore(self) -> None:
        self._policy.load_state_dict(self._kept.state)
        for impressions in self._kept.since:
            self._policy.update(impressions)
