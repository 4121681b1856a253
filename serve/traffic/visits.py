"""What simulated users do on a visit: what they ask for, and what they report of the slate that they are shown."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from data.errors import DataError
from data.reward import RewardSpec
from rl.policy.queries import CLICK, PURCHASE, VIEW
from rl.simulators.bandits.ratings import Ratings
from rl.simulators.batched import BatchedEnv
from rl.simulators.market.market import Market, reward_levels, to_months
from rl.simulators.market.retail import RetailEnv
from rl.simulators.shop.plus import ShopPlus
from rl.simulators.shop.shop import Shop

Report: TypeAlias = dict[str, Any]
"""Of what is shown: `kind`, maybe `item_id` and `value`, as `/v1/feedback` takes them."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came of a visit."""

    reports: tuple[Report, ...]
    reward: float
    """What the simulator says that it has earned, summed over the slate."""
    expected: float | None = None
    """What the slate was expected to earn; None where the simulator does not know."""
    best: float | None = None
    """What the best slate was expected to earn; likewise."""


@dataclass(frozen=True)
class Visit:
    """A user before a page."""

    user_id: str
    context: Mapping[str, Any]
    candidates: Sequence[int]
    """Numbers of the items that may be shown; the driver gives them names."""
    k: int
    respond: Callable[[Sequence[int]], Response]
    """Is given the numbers of the items that are shown."""


class People(ABC):
    """All users of a simulator."""

    items: Sequence[str]
    """Names of the items, by number."""

    @abstractmethod
    def choose(self, rng: np.random.Generator) -> int:
        """Draw who visits next. A user's next visit begins when the last one is answered."""

    @abstractmethod
    def visit(self, user: int, seed: Sequence[int]) -> Visit:
        """Begin a visit.

        Args:
            user: who it is.
            seed: of all that is drawn in it.
        """

    @abstractmethod
    def ceilings(self) -> dict[str, float]:
        """Return what is known of the best that a visit can earn, by name."""

    remembers = False
    """Whether a visit depends on what came of the user's visits before."""


class Shoppers(People):
    """The customers of a market, who are known by their id and come at some time of its year."""

    def __init__(self, market: Market, k: int, spec: RewardSpec) -> None:
        self.items = market.items
        self._market, self._k, self._spec = market, k, spec

    def choose(self, rng: np.random.Generator) -> int:
        """See `People.choose`; customers come by their activity."""
        return int(rng.choice(len(self._market.users), p=self._market.activity))

    def visit(self, user: int, seed: Sequence[int]) -> Visit:
        """See `People.visit`."""
        market, spec, k = self._market, self._spec, self._k
        rng = np.random.default_rng(seed)
        [time] = market.sample_visits(1, rng)[1]
        visitor, months = np.array([user]), to_months([time])
        expected = market.expected_rewards(visitor, months, spec)[0]

        def respond(shown: Sequence[int]) -> Response:
            slate = np.array([shown], dtype=np.int64)
            clicked, bought = market.respond(visitor, months, slate, rng)
            reports: list[Report] = [{"kind": "view"}]
            for place, item in enumerate(shown):
                reports += [{"kind": "click", "item": item}] if clicked[0, place] else []
                reports += [{"kind": "purchase", "item": item}] if bought[0, place] else []
            nothing, click, purchase = reward_levels(spec)
            earned = np.where(bought, purchase, np.where(clicked, click, nothing))
            best = float(np.sort(expected)[-k:].sum())
            return Response(tuple(reports), float(earned.sum()), float(expected[slate[0]].sum()), best)

        context = {"time": time.isoformat()}
        return Visit(market.users[user], context, range(len(self.items)), k, respond)

    def ceilings(self) -> dict[str, float]:
        """See `People.ceilings`."""
        return self._market.ceilings(self._k, self._spec)


class Players(People):
    """Users who each are an episode of a simulator, and when that ends, another one of a new name.

    Observations are said as a context: `features` of the visit as numbers f0, f1, ..., a `state` as a category. The
    history is not said: the service knows it.
    """

    def __init__(self, make: Callable[[], BatchedEnv], users: int) -> None:
        """Take what makes one episode at a time.

        Raises:
            DataError: its observations or its actions do not fit a request.
        """
        self._make, self._users = make, users
        self._first = make()
        self._one_step = self._first.one_step
        _check(self._first)
        numbers: Any = self._first.single_observation_space["items"]
        self.items = tuple(str(number) for number in range(1, int(numbers.high.max()) + 1))
        self.remembers = not self._one_step
        self._idle = [self._first]  # of single steps: each visit may have any
        self._playing: dict[int, tuple[BatchedEnv, int, dict[str, Any]]] = {}

    def choose(self, rng: np.random.Generator) -> int:
        """See `People.choose`."""
        return int(rng.integers(self._users))

    def ceilings(self) -> dict[str, float]:
        """See `People.ceilings`; of a visit, so of single steps alone."""
        known = getattr(self._first, "ceilings", None)
        return dict(known()) if self._one_step and callable(known) else {}

    def visit(self, user: int, seed: Sequence[int]) -> Visit:
        """See `People.visit`; what is drawn in an episode of several visits follows from the seed of its first one."""
        if self._one_step:
            env = self._idle.pop() if self._idle else deepcopy(self._first)
            observation, _ = env.reset(seed=_entropy(seed))
            who = f"user-{user}"
            if isinstance(env, Ratings):
                who = str(env.users[0])
        else:
            if user not in self._playing:
                env = self._make()
                self._playing[user] = (env, 0, env.reset(seed=_entropy(seed))[0])
            env, episode, observation = self._playing[user]
            who = f"user-{user}" if not episode else f"user-{user}.{episode}"
        items = observation["items"][0]
        there = np.flatnonzero(observation["mask"][0])
        numbers = (items[there] - 1).tolist()
        if len(set(numbers)) < len(numbers):
            raise DataError("an item is twice among the candidates of a visit: a request names each once")
        places = dict(zip(numbers, there.tolist(), strict=True))

        def respond(shown: Sequence[int]) -> Response:
            positions = np.array([places[number] for number in shown], dtype=np.int64)
            action = positions if self._k(env) > 1 else positions[0]
            after, rewards, terminated, truncated, info = env.step(action[None])
            if self._one_step:
                self._idle.append(env)
            else:
                ended = bool(terminated[0] or truncated[0])
                self._playing[user] = (env, self._playing[user][1] + ended, after)
            reward = float(rewards[0])
            said = tuple(_say(env, shown, reward, info))
            return Response(said, reward, _of_row(info, "expected"), _of_row(info, "best"))

        return Visit(who, _context(observation), numbers, self._k(env), respond)

    @staticmethod
    def _k(env: BatchedEnv) -> int:
        shape = env.single_action_space.shape
        return int(shape[0]) if shape else 1


def people_of(env: BatchedEnv, make: Callable[[], BatchedEnv], users: int) -> People:
    """Return the users of a simulator.

    Args:
        env: the simulator.
        make: makes another one of a single row.
        users: how many there are, where the simulator itself does not say who visits.

    Raises:
        DataError: what it observes or takes does not fit a request.
    """
    if isinstance(env, RetailEnv):
        return Shoppers(env.market, env.k, env.reward_spec)
    return Players(make, users)


def _check(env: BatchedEnv) -> None:
    features = env.single_observation_space.spaces.get("features")
    if features is not None and (features.shape or (1,))[0] != 1:
        raise DataError("a request says nothing of single candidates, and the simulator has features of each")


def _entropy(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _context(observation: Mapping[str, np.ndarray]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if "features" in observation:
        said |= {f"f{number}": float(value) for number, value in enumerate(observation["features"][0, 0])}
    if "state" in observation:
        said["state"] = f"s{int(observation['state'][0])}"
    return said


def _of_row(info: Mapping[str, Any], name: str) -> float | None:
    return float(info[name][0]) if name in info else None


def _say(env: BatchedEnv, shown: Sequence[int], reward: float, info: Mapping[str, Any]) -> list[Report]:
    """Return what a user reports of the first slot: a click, a rating, or what it was worth."""
    about = {"item": shown[0]}
    if isinstance(env, ShopPlus):
        kinds = {VIEW: ["view"], CLICK: ["view", "click"], PURCHASE: ["view", "click", "purchase"]}
        return [{"kind": kind, **about} for kind in kinds.get(int(info["outcome"][0]), ())]
    if isinstance(env, Shop):
        return [{"kind": "view"}, *([{"kind": "click", **about}] if reward else [])]
    if isinstance(env, Ratings):
        return [{"kind": "rating", "value": reward, **about}]
    return [{"kind": "custom", "value": reward, **about}]
