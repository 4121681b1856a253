"""The simulators by name: `register()`, then `gymnasium.make("raycommend/Shop-v0")` or `make_vec`. Needs gymnasium."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym

from rl.simulators.batched import BatchedEnv, SingleEnv
from rl.simulators.classification import Classification
from rl.simulators.coffee import Coffee
from rl.simulators.interest_evolution import InterestEvolution
from rl.simulators.ratings import Ratings
from rl.simulators.retail import retail
from rl.simulators.shop import Shop
from rl.simulators.shop_plus import ShopPlus
from rl.simulators.wheel import Wheel

SIMULATORS: dict[str, Callable[..., BatchedEnv]] = {
    "raycommend/Shop-v0": Shop,
    "raycommend/ShopShown-v0": partial(Shop, outcomes=False),
    "raycommend/ShopPlus-v0": ShopPlus,
    "raycommend/Retail-v0": retail,
    "raycommend/Wheel-v0": Wheel,
    "raycommend/Coffee-v0": Coffee,
    "raycommend/Classification-v0": Classification,
    "raycommend/Ratings-v0": Ratings,
    "raycommend/InterestEvolution-v0": InterestEvolution,
}


def register() -> None:
    """Make the simulators known to Gymnasium, each as a single environment and as a batch."""
    for name, create in SIMULATORS.items():
        if name not in gym.registry:
            gym.register(
                name, entry_point=partial(_single, create), vector_entry_point=create, disable_env_checker=True
            )


def make(name: str, num_envs: int, **options: Any) -> BatchedEnv:
    """Make a batch of B = num_envs episodes of a simulator.

    Raises:
        ValueError: there is no simulator of that name.
        TypeError: the simulator has no such option.
    """
    if name not in SIMULATORS:
        raise ValueError(f"there is no simulator {name!r}; there are {', '.join(sorted(SIMULATORS))}")
    return SIMULATORS[name](num_envs=num_envs, **options)


def _single(create: Callable[..., BatchedEnv], **options: Any) -> SingleEnv:
    return SingleEnv(create(num_envs=1, **options))
