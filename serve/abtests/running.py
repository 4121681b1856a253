"""The tests that run, as a replica knows them: who is exposed to what, without waiting for the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from data.log.current.replica_copy import ReplicaCopy
from data.log.current.settings_table import last_change, reading
from data.log.store import Store
from data.schema import INTERLEAVED, Mode
from rl.online.fold import Place
from serve.abtests.assignment import Assignment
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState, read_states


class Answer(NamedTuple):
    """How one user's request is answered, or would be."""

    test: str
    variant: str | None
    """None: two policies fill the slate together."""
    policy: str
    mode: Mode | None
    """None: that of the request."""
    unseen: bool = False
    """Nobody is shown it."""


@dataclass(frozen=True, slots=True)
class Split:
    """A test that users see."""

    answers: Mapping[str, Answer]
    """By the variant that a user is of."""
    assignment: Assignment
    policies: frozenset[str]
    """All that must be served: while one is missing nobody is exposed, as the others would get users of its."""

    def find(self, key: str) -> Answer | None:
        """Return how a user is answered; None: as without the test."""
        variant = self.assignment.find(key)
        return None if variant is None else self.answers[variant]


@dataclass(frozen=True, slots=True)
class Shadowing:
    """A variant that decides, and nobody sees it."""

    answer: Answer
    control: str
    """The policy whose decisions it is to be compared with: it decides where that has."""
    assignment: Assignment

    def concerns(self, policy: str, key: str) -> bool:
        """Say whether it decides where a policy has answered a user."""
        return policy == self.control and self.assignment.find(key) is not None


@dataclass(frozen=True, slots=True)
class Routes:
    """What is asked of the requests of a loop and objective."""

    split: Split | None = None
    shadows: tuple[Shadowing, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    seq: int
    states: Mapping[str, ABTestState]


class RunningTests:
    """A replica's copy of the tests. `refresh` it from a thread, also for tests that begin or end by themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._copy = ReplicaCopy(self._read, _Known(-1, {}))
        self.routes: Mapping[Place, Routes] = {}
        """Of the tests that run now, by loop and objective; empty where none does."""
        self._running: set[tuple[str, int]] = set()

    @property
    def states(self) -> Mapping[str, ABTestState]:
        """All tests, as they were when last read."""
        return self._copy.current.states

    def refresh(self) -> None:
        """Read what has changed. Blocks.

        Raises:
            StoreError: it cannot be read; what is known goes on to count.
        """
        self._copy.refresh()
        now = self._store.now()
        running = [state for state in self._copy.current.states.values() if state.runs(now)]
        changes = {(state.test.name, len(state.history)) for state in running}
        if changes != self._running:
            self._running, self.routes = changes, make_routes(running)

    def _read(self, known: _Known) -> _Known:
        if last_change(self._store) == known.seq:
            return known
        with reading(self._store) as settings:
            return _Known(settings.last_change(), read_states(settings))


def make_routes(running: list[ABTestState]) -> dict[Place, Routes]:
    """Return what the tests that run ask of requests, by loop and objective."""
    routes = dict[Place, Routes]()
    for state in running:
        known = routes.get(state.place, Routes())
        if state.test.kind in UNSEEN:
            routes[state.place] = Routes(known.split, (*known.shadows, *_shadowings(state)))
        else:
            routes[state.place] = Routes(_split(state), known.shadows)
    return routes


def _split(state: ABTestState) -> Split:
    test, policies = state.test, state.test.policies
    answers = {name: Answer(test.name, name, policies[name], state.mode(name)) for name in test.variants}
    if test.kind == "interleaving":
        if state.switched_off:
            together = answers[test.control]
        else:
            together = Answer(test.name, None, INTERLEAVED.join(policies.values()), state.mode(test.control))
        answers = dict.fromkeys(answers, together)
    return Split(answers, Assignment(test.salt or test.name, state.intervals), frozenset(policies.values()))


def _shadowings(state: ABTestState) -> list[Shadowing]:
    test, policies = state.test, state.test.policies
    return [
        Shadowing(
            Answer(test.name, name, policies[name], state.mode(name), unseen=True),
            policies[test.control],
            Assignment.of_share(f"{test.salt or test.name}\0{name}", state.shares.get(name, 0.0), name),
        )
        for name in test.variants
        if name != test.control and state.shares.get(name, 0.0) > 0
    ]
