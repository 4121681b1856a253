"""What A/B tests ask of the learner: policies beside the configured ones, and who learns from whose decisions."""

import logging
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any, Literal

from data.errors import RecommenderError
from data.log.current.replica_copy import ReplicaCopy
from data.log.current.settings_table import last_change, reading
from data.log.errors import StoreError
from data.log.store import Store
from data.settings import Settings
from rl.artefacts.shelf import load_shelved
from rl.downloads import fetch
from rl.registry import resolve
from serve.abtests.changes import pin
from serve.abtests.specification import REGISTRY, SHELF, ABTest
from serve.abtests.state import ABTestState, Pinned, read_states

_AGAIN_S = 5.0
"""Until a policy that could not be had is asked for again."""
_BY = "learner"

log = logging.getLogger("ray.serve")


class TestPolicies:
    """Follows the tests of a log; fetches the policies of their variants, and pins each to what it was found to be."""

    __test__ = False  # no test of pytest's

    def __init__(self, settings: Settings, store: Store, model: str) -> None:
        """Take the registered model that versions and aliases are of."""
        self._settings, self._store, self._model = settings, store, model
        self._copy = ReplicaCopy[tuple[int, Mapping[str, ABTestState]]](self._read, (-1, {}))
        self._failed: dict[str, tuple[float, str]] = {}  # when each policy that cannot be had was asked for, and why

    def refresh(self) -> None:
        """Read what has changed, and fetch what is missing. Blocks.

        Raises:
            StoreError: the log does not answer.
        """
        self._copy.refresh()
        for state in self._open():
            for variant in state.test.variants:
                if not state.test.variants[variant].configured and variant not in state.pinned:
                    self._pin(state.test, variant)

    def digests(self, objective: str) -> dict[str, str]:
        """Return the digests of the policies that tests of an objective need beside the configured ones, by name."""
        return {
            state.test.policies[variant]: one.digest
            for state in self._open()
            if state.test.objective == objective
            for variant, one in state.pinned.items()
        }

    def missing(self, objective: str) -> dict[str, str]:
        """Return why policies of tests of an objective cannot be had, by name."""
        names = [name for state in self._open() if state.test.objective == objective for name in _unpinned(state)]
        return {name: self._failed[name][1] for name in names if name in self._failed}

    def lessons(self, objective: str, policies: Collection[str], learn_from: Literal["own", "all"]) -> dict[str, Any]:
        """Return what the fold of an objective is to know of tests; see `FoldSpec`. Nothing where they change nothing.

        What the exposures of a test that is over have taught stays taught.

        Args:
            objective: of the fold.
            policies: its names.
            learn_from: whose decisions a policy learns from, where no test says otherwise.
        """
        said: dict[str, Any] = {}
        for state in self._copy.current[1].values():
            test, of_test = state.test, state.test.policies
            if test.objective != objective:
                continue
            after = {of_test[name]: one.follows for name, one in test.variants.items() if one.follows}
            if after := {name: other for name, other in after.items() if name in policies}:
                said["follows"] = said.get("follows", {}) | after
            unseen = {of_test[name]: of_test[test.control] for name in of_test if name != test.control}
            unseen = {name: control for name, control in unseen.items() if name in policies}
            match test.kind, test.training:
                case "apprentice", _:
                    said["imitates"] = said.get("imitates", {}) | unseen
                case "shadow", "shared":
                    said["follows"] = said.get("follows", {}) | unseen
                case (("split" | "interleaving"), "shared") if learn_from == "own":
                    learners = tuple(sorted({name for name in of_test.values() if name in policies}))
                    said["shared"] = said.get("shared", {}) | {test.name: learners}
                case (("split" | "interleaving"), "isolated") if learn_from == "all":
                    said["isolated"] = (*said.get("isolated", ()), test.name)
        return {name: value for name, value in said.items() if value}

    def _open(self) -> list[ABTestState]:
        now = self._store.now()
        return [state for state in self._copy.current[1].values() if not state.is_over(now)]

    def _pin(self, test: ABTest, variant: str) -> None:
        name, policy = test.policies[variant], test.variants[variant].policy
        if (failed := self._failed.get(name)) and monotonic() - failed[0] < _AGAIN_S:
            return
        try:
            if policy.startswith(SHELF):
                found = Pinned(digest=policy.removeprefix(SHELF))
            else:
                version = resolve(self._settings, policy.removeprefix(REGISTRY), self._model)
                fetch(self._settings, version)
                found = Pinned(version=version.version, digest=version.digest)
            load_shelved(found.digest, self._settings)
        except StoreError:
            raise
        except RecommenderError as error:
            if failed is None or failed[1] != str(error):
                log.error("A/B test %s waits for the policy of variant %s: %s", test.name, variant, error)
            self._failed[name] = (monotonic(), str(error))
            return
        self._failed.pop(name, None)
        pin(self._store, test.name, {variant: found}, by=_BY)
        self._copy.refresh()

    def _read(self, known: tuple[int, Mapping[str, ABTestState]]) -> tuple[int, Mapping[str, ABTestState]]:
        if last_change(self._store) == known[0]:
            return known
        with reading(self._store) as settings:
            return settings.last_change(), read_states(settings)


def _unpinned(state: ABTestState) -> list[str]:
    """Return the policies that a test waits for."""
    test = state.test
    return [test.policies[n] for n, one in test.variants.items() if not one.configured and n not in state.pinned]
