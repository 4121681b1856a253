"""Guarded updates of one policy: outcomes that it cannot learn are left out with the reason, a failed update is undone.

What is left out follows from the log alone, so that a repeated fold leaves out the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.artefacts.artefact import Artefact
from rl.online.observe import (
    TRANSIENT,
    Learnable,
    UnlearnableError,
    encode,
    largest_value,
    partition,
)
from rl.online.steps import Taught
from rl.policy.queries import Impressions

_LARGE = 1e6  # after a value above it the state is checked at once
_CHECKPOINT_ROWS = 20_000  # impressions after which the state is checked and becomes the checkpoint

Failure: TypeAlias = tuple[Learnable, Exception]


@dataclass(slots=True)
class _Checkpoint:
    """A state that a policy was in, and what the policy has learned since."""

    state: dict[str, np.ndarray]
    updates: list[Impressions]
    rows: int = 0


class Guard:
    """Updates a policy, and restores its state if an update fails or leaves values that are not finite."""

    def __init__(self, artefact: Artefact, rows: int = 0) -> None:
        """Guard a policy that has learned so many impressions since its state was last looked at."""
        self._encoder, self._policy = artefact.encoder, artefact.policy
        self._checkpoint = _Checkpoint(self._policy.state_dict(), [], rows)

    @property
    def rows(self) -> int:
        """Impressions learned since the policy's state was last looked at."""
        return self._checkpoint.rows

    def learn(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, list[Failure]]:
        """Learn what can be learned, in the order given: what is new first, then corrections.

        Returns:
            What was learned, None where nothing was, and each outcome that was left out with the reason.
        """
        good, failures = list(outcomes), list[Failure]()
        for work in (self._encode, self._dry_run):
            impressions, error = self._learn_together(good)
            if error is None:
                return impressions, failures
            good, more = partition(good, work)
            failures += more
        impressions, error = self._learn_together(good)
        if error is not None:  # each alone, but not all together
            failures += [(outcome, error) for outcome in good]
        return impressions, failures

    def take(self, taught: Taught) -> None:
        """Come to what was learned in a step before, when outcomes were in the log that are gone from it.

        Raises:
            PolicyError: the policy cannot go on from it.
        """
        if taught.state is not None:
            self._policy.load_state_dict(dict(taught.state))
            self._checkpoint = _Checkpoint(self._policy.state_dict(), [], taught.rows)
        elif taught.impressions is not None:
            self._update(taught.impressions)

    def _learn_together(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, Exception | None]:
        """Learn all of some outcomes or none; returns what was learned, if anything, and why not if that failed."""
        if not outcomes:
            return None, None
        try:
            impressions = self._encode(outcomes)
            self._update(impressions)
        except TRANSIENT:
            raise
        except Exception as error:  # the outcome that causes it is found and reported
            return None, error
        return impressions, None

    def _encode(self, outcomes: Sequence[Learnable]) -> Impressions:
        return encode(outcomes, self._encoder)

    def _dry_run(self, outcomes: Sequence[Learnable]) -> None:
        """Learn and restore the state; raises what learning raises."""
        checkpoint = self._checkpoint
        self._checkpoint = _Checkpoint(checkpoint.state, [*checkpoint.updates], checkpoint.rows)
        try:
            self._update(self._encode(outcomes))
        finally:
            self._checkpoint = checkpoint
        self._restore()

    def _update(self, impressions: Impressions) -> None:
        try:
            self._policy.update(impressions)
            rows = self._checkpoint.rows + len(impressions)
            state = self._finite_state() if rows >= _CHECKPOINT_ROWS or largest_value(impressions) > _LARGE else None
        except TRANSIENT:
            raise
        except Exception:
            self._restore()
            raise
        if state is not None and rows >= _CHECKPOINT_ROWS:
            self._checkpoint = _Checkpoint(state, [])
        else:
            self._checkpoint.updates.append(impressions)
            self._checkpoint.rows = rows

    def _finite_state(self) -> dict[str, np.ndarray]:
        state = self._policy.state_dict()
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise UnlearnableError(f"array {name!r} of the policy would hold values that are not finite")
        return state

    def _restore(self) -> None:
        self._policy.load_state_dict(self._checkpoint.state)
        for impressions in self._checkpoint.updates:
            self._policy.update(impressions)
