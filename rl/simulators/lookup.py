"""Environments of one's own: found by "module:Class" or id, or given as a class, and made a batch."""

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import Any

import gymnasium as gym

from rl.simulators.batched import BatchedEnv
from rl.simulators.contract import EnvironmentContractError, check_spaces
from rl.simulators.singles import Singles

Maker = Callable[..., Any]
"""Makes a `BatchedEnv` if it takes `num_envs`, else one `gymnasium.Env` at a time; options come by name."""

_CONFIGS = ("config", "env_config")  # what RLlib's own environments call their only argument, a dictionary of options


def find(name: str) -> Maker | None:
    """Return what makes the environments of a name; None if there is none of that name.

    Args:
        name: "module:Class" for a class or a function of a module, or an id of Gymnasium's registry, with the module
            that registers it ("module:Id-v0") or alone.

    Raises:
        ValueError: there is no such module, or it cannot be imported.
    """
    module, colon, attribute = name.rpartition(":")
    if not colon:
        return partial(gym.make, name) if name in gym.registry else None
    try:
        imported = import_module(module)
    except ImportError as error:
        raise ValueError(f"{name!r}: the module {module!r} cannot be imported: {error}") from error
    try:
        maker: Maker = attrgetter(attribute)(imported)
    except AttributeError:
        return partial(gym.make, attribute) if attribute in gym.registry else None
    if not callable(maker):
        raise ValueError(f"{name!r} must be a class or a function, got {type(maker).__name__}")
    return maker


def batch(maker: Maker, num_envs: int, options: dict[str, Any], name: str) -> BatchedEnv:
    """Make a batch of B = num_envs episodes; errors call it by its name.

    Raises:
        EnvironmentContractError: what is made is no environment, or not one that policies can act in.
        TypeError: it has no such option.
    """
    try:
        if "num_envs" in _parameters(maker):
            made = maker(num_envs=num_envs, **options)
            if not isinstance(made, BatchedEnv):
                raise EnvironmentContractError(f"needs a BatchedEnv from what takes num_envs, got {_kind(made)}")
            check_spaces(made.single_observation_space, made.single_action_space)
            return made
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        arguments = _arguments(maker, options)
        envs = [maker(**arguments) for _ in range(num_envs)]
        if not isinstance(envs[0], gym.Env):
            raise EnvironmentContractError(
                f"needs a gymnasium.Env, or a BatchedEnv that takes num_envs, got {_kind(envs[0])}"
            )
        return Singles(envs)
    except EnvironmentContractError as error:
        raise EnvironmentContractError(f"environment {name}: {error}") from error


def display_name(wanted: str | Maker) -> str:
    """Return what errors call an environment that is wanted by its name, or itself."""
    return wanted if isinstance(wanted, str) else str(getattr(wanted, "__name__", wanted))


def _arguments(maker: Maker, options: dict[str, Any]) -> dict[str, Any]:
    """Return options as arguments: by name, or all in one dictionary where RLlib's way is followed."""
    named = [name for name in _parameters(maker) if name in _CONFIGS]
    return {named[0]: dict(options)} if len(named) == 1 and named[0] not in options else dict(options)


def _parameters(maker: Maker) -> list[str]:
    try:
        return list(inspect.signature(maker).parameters)
    except ValueError:  # of some that are not written in Python
        return []


def _kind(made: object) -> str:
    return "nothing" if made is None else f"a {type(made).__name__}"
