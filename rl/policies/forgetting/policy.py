"""A policy that forgets: copies of one policy on windows of the log, of which the one that predicts best answers.

Each window's policy begins with the prior and learns every impression of a decision in its window, and every later
correction of one: so what it has learned is that of the decisions in its window, as if it had seen no other. Windows
are of log positions (`rl.policies.forgetting.windows`), never of the time of day: a log that is read again gives the
same bits, and updates may come in any order.

Before an impression is learned, every rate's policy predicts its reward. The squared errors of a rate j, discounted by
position, are L_j, and with n impressions in the sum n/2 log(L_0 / L_j) is how much more likely the rewards are under it
than under the whole log (rate 0), with the noise at its best for each. The rate with the most answers; a window must
be 20 times as likely as the whole log, as it is a little by chance. Which one has predicted best depends on what had
been learned before, so other than the windows the choice may depend on how the rows were grouped into updates.

Source: Dawid, "The prequential approach" (1984); windows for bandits: Garivier and Moulines, "On upper-confidence bound
policies for switching bandit problems" (2011), section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rl.policies.forgetting.config import RATIO, Forgetting
from rl.policies.forgetting.windows import WHOLE, beginnings, kept
from rl.policy.arrays import FloatArray, check_array
from rl.policy.errors import PolicyError
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.interface import Constraint, Explorer, Policy
from rl.policy.queries import Impressions, Query, Slates

_ODDS = np.log(20.0)
_ROUNDED = 1e-12
"""Errors below this share of the rewards' squares are rounding."""
_WHOLE, _WINDOW, _STATE = "whole_", "window{}_", ("begin", "position", "errors", "scored")


class ForgettingPolicy(Policy):
    """Answers by one of several policies, whose sums are of the last impressions only, or of all."""

    def __init__(self, config: Forgetting, make: Callable[[], Policy]) -> None:
        """Begin with nothing learned.

        Args:
            config: how it forgets.
            make: makes the policy that learns on a window, with nothing learned.
        """
        self._config, self._make = config, make
        self._policies: dict[int, Policy] = {WHOLE: make()}  # by where their windows begin, in order
        self._position, self._of_log = 0, False
        self._errors = np.zeros(config.rates + 1)  # L: of the whole log, and of each rate
        self._scored = np.zeros(2)  # n, and Σr² of what is in L
        self._answering = self._policies[WHOLE]

    @property
    def explorer(self) -> Explorer:  # type: ignore[override]  # that of the policy that answers
        """That of the policy that answers."""
        return self._answering.explorer

    @property
    def answering(self) -> Policy:
        """The policy that answers: it has learned what its window has."""
        return self._answering

    @property
    def window(self) -> int | None:
        """Length E of the window that answers, which is of the last E to 2E decisions; None: of the whole log."""
        rate = int(self._advantages().argmax())
        return None if rate == 0 else self._config.shortest * RATIO ** (rate - 1)

    def expected(self, query: Query) -> FloatArray:
        """See `Policy.expected`."""
        return self._answering.expected(query)

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """See `Policy.scores`."""
        return self._answering.scores(query, rng)

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See `Policy.score`."""
        return self._answering.score(query, rng)

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        """See `Policy.decide`."""
        return self._answering.decide(query, k, rng, constraint)

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray | None]:
        """See `Policy.posterior`."""
        return self._answering.posterior(query)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain by what the window that answers has taught."""
        return replace(self._answering.explain(query, positions, names, top), window=self.window)

    def update(self, impressions: Impressions) -> None:
        """Learn in the order of the log, after each rate has predicted what it is about to learn."""
        at = self._positions(impressions)
        order = np.argsort(at, kind="stable")
        for start in range(0, len(order), self._config.shortest):
            rows = order[start : start + self._config.shortest]
            self._learn(impressions.rows(rows), at[rows])

    def _positions(self, o: Impressions) -> FloatArray:
        """Return the position of each impression [N].

        Those without one, of a simulator, come one after another. From the first log position on, that is the clock,
        and those without are learned where it stands; windows of before are dropped, as their positions are no log's.
        """
        known = ~np.isnan(o.at)
        if known.any() and not self._of_log:
            self._of_log, self._position, self._policies = True, 0, {WHOLE: self._policies[WHOLE]}
        arrived = np.full(len(o), float(self._position)) if self._of_log else self._position + np.cumsum(o.counts > 0)
        at: FloatArray = np.where(known, o.at, arrived)
        return at

    def _learn(self, o: Impressions, at: FloatArray) -> None:
        position = max(self._position, int(at[-1]))
        self._score(o, at, position)
        self._position = position
        self._policies = {begin: self._policies.get(begin) or self._make() for begin in kept(self._config, position)}
        for begin, policy in self._policies.items():
            inside = at >= begin
            if inside.any():
                policy.update(o if inside.all() else o.rows(inside))
        self._answering = self._asked()[int(self._advantages().argmax())]

    def _score(self, o: Impressions, at: FloatArray, position: int) -> None:
        """Add what each rate's policy errs by; half as much of it counts four of the shortest windows later."""
        half_life = float(RATIO * self._config.shortest)
        weights = np.exp2((at - position) / half_life)
        decay = np.exp2((self._position - position) / half_life)
        asked = self._asked()
        query = Query(o.features[:, None, :], o.state, o.items[:, None], np.ones((len(o), 1), np.bool_), None, o.sparse)
        of_policy = dict[int, float]()
        for policy in asked:
            if id(policy) not in of_policy:
                f = policy.expected(query)[:, 0]
                of_policy[id(policy)] = float(weights @ (o.counts * f**2 - 2 * o.rewards * f + o.squares))
        self._errors = self._errors * decay + [of_policy[id(policy)] for policy in asked]
        self._scored = self._scored * decay + [weights @ o.counts, weights @ o.squares]

    def _asked(self) -> list[Policy]:
        """Return the policy of the whole log, and of each rate."""
        return [self._policies[begin] for begin in (WHOLE, *beginnings(self._config, self._position))]

    def _advantages(self) -> FloatArray:
        """Return how much more likely rewards are under each rate than under the whole log, log, less the odds."""
        n, squares = self._scored
        errors = np.maximum(self._errors, 0.0) + _ROUNDED * squares + np.finfo(np.float64).tiny
        advantages: FloatArray = 0.5 * max(n, 0.0) * np.log(errors[0] / errors)
        advantages[1:] -= _ODDS
        return advantages

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return each policy's arrays, where their windows begin (0: there is none), and what was predicted how well.

        The names are always the same: windows that there are not are those of a policy that has learned nothing.
        """
        begins = [begin for begin in self._policies if begin != WHOLE]
        state = {f"{_WHOLE}{name}": array for name, array in self._policies[WHOLE].state_dict().items()}
        nothing = self._make() if len(begins) < 2 * self._config.rates else None
        for place in range(2 * self._config.rates):
            policy = self._policies[begins[place]] if place < len(begins) else nothing
            assert policy is not None, "there are too few windows"
            state |= {f"{_WINDOW.format(place)}{name}": array for name, array in policy.state_dict().items()}
        padded = np.zeros(2 * self._config.rates)
        padded[: len(begins)] = begins
        own = (padded, np.array([float(self._position), float(self._of_log)]), self._errors.copy(), self._scored.copy())
        return state | dict(zip(_STATE, own, strict=True))

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        rates = self._config.rates
        shapes = ((2 * rates,), (2,), (rates + 1,), (2,))
        padded, at, errors, scored = (check_array(state, *one) for one in zip(_STATE, shapes, strict=True))
        position, begins = int(at[0]), [int(begin) for begin in padded if begin]
        if [WHOLE, *begins] != list(kept(self._config, position)):
            raise PolicyError(
                f"the saved policy has windows from {begins} at position {position}, which it cannot have"
            )
        prefixes = {WHOLE: _WHOLE} | {begin: _WINDOW.format(place) for place, begin in enumerate(begins)}
        policies = dict[int, Policy]()
        for begin, prefix in prefixes.items():
            policies[begin] = self._make()
            own = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
            try:
                policies[begin].load_state_dict(own)
            except PolicyError as error:
                raise PolicyError(f"arrays {prefix}*, of the window from {begin}: {error}") from error
        self._policies, self._position, self._of_log = policies, position, bool(at[1])
        self._errors, self._scored = errors, scored
        self._answering = self._asked()[int(self._advantages().argmax())]
