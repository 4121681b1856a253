"""A replica whose policies wait before they decide: it answers as few requests on a machine of any size."""

import time
from typing import Any

import numpy as np

from rl.policy.interface import Policy
from rl.policy.queries import Query, Slates
from serve import app

WAIT_S = 0.02


class Gateway(app.Gateway):
    """The service's own, but that each decision takes 20 ms in which it computes nothing and does nothing else."""

    def __init__(self, *arguments: Any) -> None:
        decide = Policy.decide

        def wait_and_decide(policy: Policy, query: Query, k: int, rng: np.random.Generator, *more: Any) -> Slates:
            time.sleep(WAIT_S)
            return decide(policy, query, k, rng, *more)

        Policy.decide = wait_and_decide  # type: ignore[method-assign, assignment]
        super().__init__(*arguments)
