"""How one policy of a fold learns: what it cannot learn is named and left out, and an update that fails undone. No Ray.

What is left out follows from the log alone, so that a fold that is repeated leaves out the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from data.attribution import Outcome
from data.database import StoreError
from rl.artefact import Artefact
from rl.fold import correct, observe
from rl.policy import Observations, PolicyError

LARGEST = 1e15
"""The largest absolute value of a feature that is learned: what it is multiplied with stays finite."""
_LARGE = 1e6  # above it what follows is looked at at once
_KEPT = 20_000  # observations after which a state is looked at, and kept to come back to

Learnable: TypeAlias = tuple[Outcome, tuple[float, ...] | None]
"""An outcome, and the rewards of it that were learned before; None: it is new."""
Failed: TypeAlias = tuple[Learnable, Exception]
T = TypeVar("T")


class UnlearnableError(PolicyError):
    """What a policy was given to learn would not leave it whole."""


@dataclass(slots=True)
class _Kept:
    """A state that a policy was in, and what it has learned since."""

    state: dict[str, np.ndarray]
    since: list[Observations]
    rows: int = 0


class Guard:
    """Teaches a policy, which stays as it is if an update fails or leaves values that are not finite."""

    def __init__(self, artefact: Artefact) -> None:
        self._encoder, self._policy = artefact.encoder, artefact.policy
        self._kept = _Kept(self._policy.state_dict(), [])

    def learn(self, outcomes: Sequence[Learnable]) -> tuple[Observations | None, list[Failed]]:
        """Learn what can be learned, in the order given: what is new first, then corrections.

        Returns:
            What was learned, None where nothing was, and each outcome that was left out with the reason.
        """
        good, failed = apart(outcomes, self._encode)
        if not good:
            return None, failed
        observations = self._encode(good)
        try:
            self._update(observations)
        except PASSING:
            raise
        except Exception:  # whatever it is, it is some outcome's, and said
            good, worse = apart(good, self._try)
            failed += worse
            if not good:
                return None, failed
            observations = self._encode(good)
            try:
                self._update(observations)
            except PASSING:
                raise
            except Exception as error:  # each alone, but not all together: none is learned
                return None, failed + [(outcome, error) for outcome in good]
        return observations, failed

    def _encode(self, outcomes: Sequence[Learnable]) -> Observations:
        new = [outcome for outcome, before in outcomes if before is None]
        corrected = [(outcome, before) for outcome, before in outcomes if before is not None]
        parts = [observe(new, self._encoder)] if new else []
        parts += [correct(corrected, self._encoder)] if corrected else []
        observations = Observations.concatenate(parts)
        if not _largest(observations) <= LARGEST:
            raise UnlearnableError(f"a feature or a reward is not finite, or beyond {LARGEST:g} in absolute value")
        return observations

    def _try(self, outcomes: Sequence[Learnable]) -> None:
        self._update(self._encode(outcomes))
        self._restore()

    def _update(self, observations: Observations) -> None:
        try:
            self._policy.update(observations)
            rows = self._kept.rows + len(observations)
            state = self._whole() if rows >= _KEPT or _largest(observations) > _LARGE else None
        except PASSING:
            raise
        except Exception:
            self._restore()
            raise
        if state is not None and rows >= _KEPT:
            self._kept = _Kept(state, [])
        else:
            self._kept.since.append(observations)
            self._kept.rows = rows

    def _whole(self) -> dict[str, np.ndarray]:
        state = self._policy.state_dict()
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise UnlearnableError(f"array {name!r} of the policy would hold values that are not finite")
        return state

    def _restore(self) -> None:
        self._policy.load_state_dict(self._kept.state)
        for observations in self._kept.since:
            self._policy.update(observations)


PASSING = (StoreError, MemoryError)
"""Not a record's fault: the same may succeed the next time."""


def apart(items: Sequence[T], work: Callable[[Sequence[T]], object]) -> tuple[list[T], list[tuple[T, Exception]]]:
    """Part the items with which work can be done from those with which it fails, by halves.

    Returns:
        The first in their order, and each of the others with the error.
    """
    if not items:
        return [], []
    try:
        work(items)
    except PASSING:
        raise
    except Exception as error:  # any of them is told with the item
        if len(items) == 1:
            return [], [(items[0], error)]
        half = len(items) // 2
        good, failed = apart(items[:half], work)
        better, worse = apart(items[half:], work)
        return good + better, failed + worse
    return list(items), []


def _largest(observations: Observations) -> float:
    """Return the largest absolute value of features and rewards; not a number if one is none."""
    arrays = [observations.features, observations.rewards]
    if observations.sparse is not None:
        arrays += [observations.sparse.context_values, observations.sparse.item_values]
    return float(max((np.abs(array).max(initial=0.0) for array in arrays), key=lambda v: np.inf if np.isnan(v) else v))
