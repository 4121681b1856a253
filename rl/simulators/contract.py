"""What an environment must offer, whoever wrote it, and the refusal of one that does not."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from data.errors import RecommenderError

FIELDS = ("items", "mask", "features", "state", "history")
"""What observations have, by the names of `rl.policy.queries.Query`; the first two are needed."""


class EnvironmentContractError(RecommenderError, ValueError):
    """An environment is not what policies here can act in; says in what, and what would be right."""


def check_spaces(observation: gym.Space[Any], action: gym.Space[Any]) -> None:
    """Check the spaces of one episode.

    Raises:
        EnvironmentContractError: observations are not the fields of a query, or actions are no positions on the
            candidate axis.
    """
    if not isinstance(observation, gym.spaces.Dict) or not {"items", "mask"} <= observation.spaces.keys():
        raise EnvironmentContractError(
            f"observation: needs a Dict of items [A], mask [A], and maybe {', '.join(FIELDS[2:])}, got {observation}"
        )
    if unknown := sorted(observation.spaces.keys() - set(FIELDS)):
        raise EnvironmentContractError(f"observation: has {unknown[0]!r}, which is none of {', '.join(FIELDS)}")
    items, mask = observation["items"], observation["mask"]
    if not (_whole(items, 1) and items.low.min() >= 0 and items.high.max() >= 1):  # type: ignore[attr-defined]
        raise EnvironmentContractError(f"items: needs a Box [A] of whole numbers from 1 to N, got {items}")
    if mask.shape != items.shape:
        raise EnvironmentContractError(f"mask: needs the shape {items.shape} of items, got {mask}")
    candidates = items.shape[0]  # type: ignore[index]
    _check_context(observation, candidates)
    wanted = f"Discrete({candidates}), or a MultiDiscrete of {candidates}s for slates"
    if not _positions(action, candidates):
        raise EnvironmentContractError(f"action: needs a position on the axis of items: {wanted}, got {action}")


def _check_context(observation: gym.spaces.Dict, candidates: int) -> None:
    features, state, history = (observation.spaces.get(name) for name in FIELDS[2:])
    if features is not None and not (
        isinstance(features, gym.spaces.Box) and len(features.shape) == 2 and features.shape[0] in (1, candidates)
    ):
        raise EnvironmentContractError(f"features: needs a Box [1, F] or [{candidates}, F], got {features}")
    if state is not None and not (isinstance(state, gym.spaces.Discrete) and state.start == 0):
        raise EnvironmentContractError(f"state: needs a Discrete from 0, got {state}")
    if history is not None and not (_whole(history, 2) and history.shape[1] == 3):  # type: ignore[index]
        raise EnvironmentContractError(
            f"history: needs a Box [T, 3] of whole numbers (item, outcome, age), got {history}"
        )


def check_observation(observation: Mapping[str, Any], space: gym.spaces.Dict, rows: int) -> None:
    """Check a batched observation of B = rows episodes by its shapes.

    Raises:
        EnvironmentContractError: it is not what the space says.
    """
    if observation.keys() != space.spaces.keys():
        raise EnvironmentContractError(f"observation: needs {sorted(space.spaces)}, got {sorted(observation)}")
    for name, part in space.spaces.items():
        if (found := np.shape(observation[name])) != (wanted := (rows, *(part.shape or ()))):
            raise EnvironmentContractError(f"observation: {name} needs the shape {wanted}, got {found}")


def _whole(space: gym.Space[Any], axes: int) -> bool:
    return isinstance(space, gym.spaces.Box) and len(space.shape) == axes and np.issubdtype(space.dtype, np.integer)


def _positions(action: gym.Space[Any], candidates: int) -> bool:
    if isinstance(action, gym.spaces.Discrete):
        return bool(action.start == 0 and action.n == candidates)
    if not isinstance(action, gym.spaces.MultiDiscrete) or action.nvec.ndim != 1:
        return False
    return bool((action.nvec == candidates).all() and not np.any(action.start))
