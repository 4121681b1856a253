"""A simulator that answers late, as one does that is asked over a network: it computes nothing meanwhile."""

import time
from typing import Any

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import Info
from rl.simulators.shop.shop import Shop

NAME = f"{__name__}:SlowShop"
"""What configurations call it."""


class SlowShop(Shop):
    """The shop; each step of all its rows takes `latency_s` longer, 20 ms."""

    def __init__(self, num_envs: int = 1, *, latency_s: float = 0.02, **options: Any) -> None:
        super().__init__(num_envs, **options)
        self._latency_s = latency_s

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        time.sleep(self._latency_s)
        return super().advance(actions)
