"""A policy that forgets: copies of one policy on windows of the log, of which the one that predicts best answers.

Each window's policy begins with the prior and learns every impression of a decision in its window, and every later
correction of one: so what it has learned is that of the decisions in its window, as if it had seen no other, whatever
the order in which updates come. Windows are of log positions (`rl.policies.forgetting.windows`), never of the time of
day: a log that is read again in the same steps gives the same bits.

Before impressions are learned, each window's policy predicts their rewards. That rewards have changed where window w
begins, and not since, is as likely as C_w, log, beside what answers. When a window begins that is -log 1,000, as a
change is seldom; then Σg is added, g = (e² - e_w²) / 2σ_w² of its errors e_w and those e of what answers, or log(1 + g)
where that is above 0: rewards are not normal, and two surprises are no change. The noise σ_w² is the mean of e², or of
e_w² where the two differ, Σ (f - f_w)² e_w² / Σ (f - f_w)² with f what they predict, if that is more: else rewards that
vary much would tell more than they know. These means count half as much four of the shortest windows later, and
the variance of the rewards is one more. The window with the largest C answers, or the whole log: so a window may answer
as soon as it has predicted enough better than what would answer without it, and none has to prove again what an older
one has proved. For as long as it answers it is kept, however long it gets: younger ones know less, and would try again
what has been found to be bad. What predicts best depends on what had been learned before, so the choice, and with it
which longer window is kept, depends on the order of updates and on which rows were one.

Windows are judged by all rewards that come together, in an update, also by those of decisions before they began, and
never by a part of them: clicks are learned before it is known who did not click, so that the newest decisions alone
look better than they are, and the oldest worse.

Source: Adams and MacKay, "Bayesian online changepoint detection" (2007), with the likeliest in place of all changes and
plug-in predictions (Dawid, "The prequential approach", 1984); windows for bandits: Garivier and Moulines, "On
upper-confidence bound policies for switching bandit problems" (2011), section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rl.policies.forgetting.config import RATIO, Forgetting
from rl.policies.forgetting.windows import WHOLE, kept, most
from rl.policy.arrays import FloatArray, check_array
from rl.policy.errors import PolicyError
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.interface import Constraint, Explorer, Policy
from rl.policy.queries import Impressions, Query, Slates

_ODDS = np.log(1000.0)
"""Against a change where a window begins: the shortest begin every 64 decisions, so one change in 64,000."""
_JUDGED = 4_096
"""Impressions of a simulator by which windows are judged together, at most: all of a decision come at once there."""
_ROUNDED = 1e-12  # of rewards' squares: less is rounding
_WHOLE, _WINDOW, _STATE = "whole_", "window{}_", ("begin", "position", "evidence", "noise", "scored")


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
        self._evidence = {WHOLE: 0.0}  # C, less its largest
        self._noise = {WHOLE: np.zeros(2)}  # the two sums that σ² is of
        self._scored = np.zeros(4)  # Σ1, Σr and Σr² of what is in them, and Σe² of what answered
        self._answers = WHOLE

    @property
    def explorer(self) -> Explorer:  # type: ignore[override]  # that of the policy that answers
        """That of the policy that answers."""
        return self._policies[self._answers].explorer

    @property
    def answering(self) -> Policy:
        """The policy that answers: it has learned what its window has."""
        return self._policies[self._answers]

    @property
    def window(self) -> int | None:
        """Number of decisions in the window that answers; None: it is the whole log."""
        return None if self._answers == WHOLE else self._position - self._answers + 1

    def expected(self, query: Query) -> FloatArray:
        """See `Policy.expected`."""
        return self._policies[self._answers].expected(query)

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """See `Policy.scores`."""
        return self._policies[self._answers].scores(query, rng)

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See `Policy.score`."""
        return self._policies[self._answers].score(query, rng)

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        """See `Policy.decide`."""
        return self._policies[self._answers].decide(query, k, rng, constraint)

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray | None]:
        """See `Policy.posterior`."""
        return self._policies[self._answers].posterior(query)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain by what the window that answers has taught."""
        return replace(self._policies[self._answers].explain(query, positions, names, top), window=self.window)

    def update(self, impressions: Impressions) -> None:
        """Learn in the order of the log, after each window has predicted what it is about to learn."""
        at = self._positions(impressions)
        order = np.argsort(at, kind="stable")
        together = len(order) if self._of_log else _JUDGED  # of a log its reader bounds an update
        for start in range(0, len(order), max(together, 1)):
            rows = order[start : start + together]
            self._learn_and_judge(impressions.rows(rows), at[rows])

    def _learn_and_judge(self, o: Impressions, at: FloatArray) -> None:
        """Learn rows in order, then choose among the windows that have predicted all of them."""
        together, judged = RATIO * self._config.shortest, set(self._evidence)
        for start in range(0, len(o), together):
            rows = np.arange(start, min(start + together, len(o)))
            self._learn(o.rows(rows), at[rows])
        self._evidence = {begin: C for begin, C in self._evidence.items() if begin in judged}
        self._answers = self._likeliest()
        self._keep()

    def _positions(self, o: Impressions) -> FloatArray:
        """Return the position of each impression [N].

        Those without one, of a simulator, come one after another. From the first log position on, that is the clock,
        and those without are learned where it stands; windows of before are dropped, as their positions are no log's.
        """
        known = ~np.isnan(o.at)
        if known.any() and not self._of_log:
            self._of_log, self._position, self._answers = True, 0, WHOLE
            self._keep()
        arrived = np.full(len(o), float(self._position)) if self._of_log else self._position + np.cumsum(o.counts > 0)
        at: FloatArray = np.where(known, o.at, arrived)
        return at

    def _learn(self, o: Impressions, at: FloatArray) -> None:
        position = max(self._position, int(at[-1]))
        self._score(o, at, position)
        self._position = position
        self._keep()
        for begin, policy in self._policies.items():
            inside = at >= begin
            if inside.any():
                policy.update(o if inside.all() else o.rows(inside))

    def _keep(self) -> None:
        """Drop the windows that have come to their end, but for the one that answers, and begin what is new."""
        begins = sorted({*kept(self._config, self._position), self._answers})
        largest = self._evidence[self._likeliest()]
        self._policies = {begin: self._policies.get(begin) or self._make() for begin in begins}
        self._evidence = {begin: self._evidence.get(begin, largest - _ODDS) - largest for begin in begins}
        self._noise = {begin: self._noise.get(begin, np.zeros(2)) for begin in begins}

    def _likeliest(self) -> int:
        """Return where the window begins that answers: of equals the longest."""
        return max(self._evidence, key=lambda begin: (self._evidence[begin], -begin))

    def _score(self, o: Impressions, at: FloatArray, position: int) -> None:
        """Add to the evidence, by what each window's policy predicts."""
        half_life = float(RATIO * self._config.shortest)
        weights = np.exp2((at - position) / half_life)
        decay = np.exp2((self._position - position) / half_life)
        query = Query(o.features[:, None, :], o.state, o.items[:, None], np.ones((len(o), 1), np.bool_), None, o.sparse)
        predicted = {begin: policy.expected(query)[:, 0] for begin, policy in self._policies.items()}
        answer = predicted[self._answers]
        errors = o.counts * answer**2 - 2 * o.rewards * answer + o.squares  # of corrections by how much they change
        self._scored = self._scored * decay + [weights @ of for of in (o.counts, o.rewards, o.squares, errors)]
        n, total, square, squared = np.maximum(self._scored, [1.0, -np.inf, 0.0, 0.0])
        variance = max(float(square / n - (total / n) ** 2), _ROUNDED * float(square / n))
        for begin, f in predicted.items():
            differs, own = weights * (f - answer) ** 2, o.counts * f**2 - 2 * o.rewards * f + o.squares
            self._noise[begin] = self._noise[begin] * decay + [differs @ own, differs @ o.counts]
            over, among = self._noise[begin]
            if among > 0 and variance > 0:
                noise = (max(float(squared), n * float(over / among)) + variance) / (n + 1)
                gains = (errors - own) / (2 * noise)
                self._evidence[begin] += float(np.where(gains > 0, np.log1p(np.maximum(gains, 0.0)), gains).sum())

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return each policy's arrays, where their windows begin (0: there is none), and what was predicted how well.

        The names are always the same: windows that there are not are those of a policy that has learned nothing.
        """
        begins, places = list(self._policies), most(self._config)
        state, nothing = dict[str, NDArray[np.float64]](), None
        for place, prefix in enumerate(_prefixes(places)):
            if place < len(begins):
                policy = self._policies[begins[place]]
            else:
                policy = nothing = nothing or self._make()
            state |= {f"{prefix}{name}": array for name, array in policy.state_dict().items()}
        own = np.zeros((4, 1 + places))
        for place, begin in enumerate(begins):
            own[:, place] = begin, self._evidence[begin], *self._noise[begin]
        at = np.array([float(self._position), float(self._of_log)])
        return state | dict(zip(_STATE, (own[0, 1:], at, own[1], own[2:], self._scored.copy()), strict=True))

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        places = most(self._config)
        shapes = ((places,), (2,), (1 + places,), (2, 1 + places), (4,))
        padded, at, evidence, noise, scored = (check_array(state, *one) for one in zip(_STATE, shapes, strict=True))
        position, begins = int(at[0]), [WHOLE, *(int(begin) for begin in padded if begin)]
        regular = set(kept(self._config, position))
        if begins != sorted(set(begins)) or not regular <= set(begins) or len(set(begins) - regular) > 1:
            raise PolicyError(
                f"the saved policy has windows from {begins[1:]} at position {position}, which it cannot have"
            )
        policies = dict[int, Policy]()
        for begin, prefix in zip(begins, _prefixes(places), strict=False):
            policies[begin] = self._make()
            own = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
            try:
                policies[begin].load_state_dict(own)
            except PolicyError as error:
                raise PolicyError(f"arrays {prefix}*, of the window from {begin}: {error}") from error
        self._policies, self._position, self._of_log = policies, position, bool(at[1])
        self._evidence = dict(zip(begins, evidence.tolist(), strict=False))
        self._noise, self._scored = dict(zip(begins, noise.T.copy(), strict=False)), scored
        self._answers = self._likeliest()


def _prefixes(places: int) -> list[str]:
    """Return what the names of arrays begin with, of the whole log and of windows."""
    return [_WHOLE, *(_WINDOW.format(place) for place in range(places))]
