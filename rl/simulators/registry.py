"""The simulators by name, for ourselves and for Gymnasium.

Importing this module declares them to Gymnasium and does nothing else: `gymnasium.make` and `make_vec` import it for
"rl.simulators.registry:raycommend/Shop-v0".
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym

from rl.simulators.bandits.classification import Classification
from rl.simulators.bandits.coffee import Coffee
from rl.simulators.bandits.ratings import Ratings
from rl.simulators.bandits.wheel import Wheel
from rl.simulators.batched import BatchedEnv, SingleEnv
from rl.simulators.interest_evolution import InterestEvolution
from rl.simulators.lookup import (
    Maker,
    batch,
    display_name,
    find,
)
from rl.simulators.market.retail import retail
from rl.simulators.shop.plus import ShopPlus
from rl.simulators.shop.shop import Shop

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


def make(wanted: str | Maker, num_envs: int, **options: Any) -> BatchedEnv:
    """Make a batch of B = num_envs episodes.

    Args:
        wanted: a name of `SIMULATORS`; or an environment of one's own, see `rl.simulators.lookup`: by "module:Class",
            by an id that Gymnasium knows, or itself, a class or a function.
        num_envs: B.
        options: of the environment, by name.

    Raises:
        ValueError: there is no environment of that name, or it is none that policies can act in.
        TypeError: it has no such option.
    """
    return batch(maker(wanted), num_envs, options, display_name(wanted))


def maker(wanted: str | Maker) -> Maker:
    """Return what makes an environment; see `make`.

    Raises:
        ValueError: there is none of that name.
    """
    if not isinstance(wanted, str):
        return wanted
    if found := SIMULATORS.get(wanted.removeprefix(f"{__name__}:")) or find(wanted):
        return found
    raise ValueError(
        f"there is no simulator {wanted!r}; there are {', '.join(sorted(SIMULATORS))}, and environments of your own "
        "as module:Class"
    )


def _single(create: Callable[..., BatchedEnv], **options: Any) -> SingleEnv:
    return SingleEnv(create(num_envs=1, **options))


register()
