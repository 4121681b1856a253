"""What A/B tests decide by themselves: a variant that is worse is switched off, a champion that is worse taken back.

One process of the service looks, the learner's, each minute. Whatever a look finds holds however often one looks; while
a test's sample ratio is red nothing is decided.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from data.errors import RecommenderError
from data.log.errors import StoreError
from data.log.store import Store
from rl.evaluation.abtests.preference import Preference
from rl.evaluation.abtests.scorecard import Scorecard
from serve.abtests.changes import list_running, switch_off
from serve.abtests.following import Follower
from serve.abtests.probation import BY as PROBATION
from serve.abtests.probation import Probation
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState
from serve.config import ServiceConfig

BY = "results"
"""Who has switched a variant off, as the test's history says."""

Tell: TypeAlias = Callable[[Mapping[str, Scorecard | Preference]], None]

log = logging.getLogger("ray.serve")


class Watch:
    """Looks at the tests that run."""

    def __init__(self, store: Store, config: ServiceConfig, tell: Tell | None = None) -> None:
        """Look at nothing yet; `tell` is given what each look finds."""
        self._store, self._tell = store, tell
        self._rewards = {"default": config.reward, **config.objectives}
        self._followers = dict[str, Follower]()
        self._said = dict[str, str]()
        champion, alone = config.champion, not config.policies
        self._probation = None
        if champion and champion.probation:
            self._probation = Probation(store, config.settings, champion, alone)

    def look(self) -> None:
        """Read what is new of each test, and do what follows. Blocks.

        Raises:
            StoreError: the log does not answer; the next call goes on.
        """
        running = [
            state
            for state in list_running(self._store)
            if state.test.kind not in UNSEEN and state.test.objective in self._rewards
        ]
        names = {state.test.name for state in running}
        self._followers = {name: one for name, one in self._followers.items() if name in names}
        found = dict[str, Scorecard | Preference]()
        for state in running:
            try:
                found[state.test.name] = self._follow(state)
                if state.started_by != PROBATION:
                    self._act(state, found[state.test.name])
            except StoreError:
                raise
            except RecommenderError as error:  # the other tests are looked at
                self._say(state.test.name, f"A/B test {state.test.name} cannot be read: {error}")
        if self._tell is not None:
            self._tell(found)
        if self._probation is not None:
            self._probation.look([state for state in running if state.started_by == PROBATION], found)

    def _follow(self, state: ABTestState) -> Scorecard | Preference:
        name = state.test.name
        if name not in self._followers:
            self._followers[name] = Follower(self._store, state, self._rewards[state.test.objective])
        return self._followers[name].look(state)

    def _act(self, state: ABTestState, found: Scorecard | Preference) -> None:
        name = state.test.name
        for variant, why in found.switch_off.items():
            if variant not in state.switched_off:
                log.warning("A/B test %s: variant %s is switched off: %s", name, variant, why)
                switch_off(self._store, name, variant, by=BY, why=why[:1_000])
        if isinstance(found, Scorecard) and found.health.light == "red":
            red = "; ".join(check.says for check in found.health.checks if check.light == "red")
            self._say(name, f"A/B test {name} is not well: {red}")

    def _say(self, name: str, line: str) -> None:
        """Log a line once."""
        if self._said.get(name) != line:
            self._said[name] = line
            log.error("%s", line)
