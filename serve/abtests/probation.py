"""The probation of a new champion: for some days a share of the users stays with the champion before it.

Before and after a promotion are other days, with other visitors and other goods: who compares them compares these too.
So a promotion starts an A/B test by itself, in which the former champion is the control, and both are compared at the
same time. The new champion is taken back the first time that the confidence sequence of the difference says that it is
worse, or that it breaks a guardrail; it is through once the sequence says that it is not worse by what is to be seen,
or when the days are over. Without a probation, or while another test has the users, nothing is taken back by itself.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from data.log.loops import begun_folds
from data.log.store import Store
from data.schema import LOOP_V1
from data.settings import Settings
from rl.evaluation.abtests.preference import Preference
from rl.evaluation.abtests.scorecard import Scorecard
from rl.promotions import Promotion, last_promotion, roll_back
from rl.registry import RegistryError
from serve.abtests.changes import list_tests, start, stop
from serve.abtests.errors import ABTestRefused
from serve.abtests.specification import SHELF, ABTest, Variant
from serve.abtests.state import ABTestState
from serve.config import CHAMPION, Champion

BY = "probation"
"""Who has started and stopped such a test, as its history says."""
FORMER = "former"
_OBJECTIVE = "default"

log = logging.getLogger("ray.serve")


class Probation:
    """Follows the promotions of the champion that is served."""

    def __init__(self, store: Store, settings: Settings, champion: Champion, alone: bool) -> None:
        """Take how the champion is served; `alone`: no other policy is."""
        assert champion.probation is not None, "the caller has looked"
        self._store, self._settings, self._champion, self._alone = store, settings, champion, alone
        self._spec = champion.probation
        self._said = ""

    def look(self, running: Sequence[ABTestState], found: Mapping[str, Scorecard | Preference]) -> None:
        """Begin the probation of a new champion, take one back, or end its probation. Blocks.

        Args:
            running: tests that `BY` has started.
            found: what is known of tests, by name.

        Raises:
            StoreError: the log does not answer; the next call goes on.
        """
        try:
            promotion = last_promotion(self._settings, self._champion.model, self._champion.alias)
            name = None if promotion is None else name_test(promotion)
            for state in running:
                if state.test.name != name:
                    stop(self._store, state.test.name, by=BY, why="the champion is another by now")
            if promotion is None or name is None:
                return
            if any(state.test.name == name for state in running):
                self._judge(promotion, name, found.get(name))
            else:
                self._begin(promotion, name)
        except (RegistryError, ABTestRefused) as error:
            if self._said != (said := str(error)):
                log.error("the champion's probation: %s", error)
            self._said = said

    def _begin(self, promotion: Promotion, name: str) -> None:
        ends, now = promotion.time + timedelta(days=self._spec.days), self._store.now()
        if now >= ends or name in list_tests(self._store) or promotion.version.digest == promotion.before.digest:
            return
        if self._served_digest() != promotion.version.digest:
            return  # until it answers
        start(self._store, self._describe(promotion, name, ends), by=BY, why=f"version {promotion.version.version}")
        log.info("champion version %d is on probation until %s", promotion.version.version, ends)

    def _describe(self, promotion: Promotion, name: str, ends: datetime) -> ABTest:
        kept = self._spec.share
        return ABTest(
            name=name,
            objective=_OBJECTIVE,
            control=FORMER,
            variants={
                # Goes on learning from what is shown under the champion's name, as it would have.
                FORMER: Variant(policy=f"{SHELF}{promotion.before.digest}", share=kept, follows=CHAMPION),
                # Beside other policies it is compared on as many users, so that these keep theirs.
                CHAMPION: Variant(policy=CHAMPION, share=1 - kept if self._alone else kept),
            },
            read=self._spec.read,
            ends=ends,
        )

    def _judge(self, promotion: Promotion, name: str, found: Scorecard | Preference | None) -> None:
        if not isinstance(found, Scorecard):
            return
        version = promotion.version.version
        if why := found.switch_off.get(CHAMPION):
            roll_back(self._settings, self._champion.model, self._champion.alias, why, version)
            log.error("champion version %d was rolled back to %d: %s", version, promotion.before.version, why)
            stop(self._store, name, by=BY, why=f"rolled back: {why}"[:1_000])
            return
        goal = next((row for row in found.rows if row.role == "goal"), None)
        guarded = all(row.finding == "holds" for row in found.rows if row.role == "guardrail")
        if guarded and goal is not None and goal.lift is not None and goal.lift.low > -self._spec.read.effect:
            stop(self._store, name, by=BY, why=f"through: {found.decision.sentence}"[:1_000])
            log.info("champion version %d is through its probation: %s", version, found.decision.sentence)

    def _served_digest(self) -> str | None:
        """Return which artefact the newest fold has as the champion."""
        for fold in begun_folds(self._store, LOOP_V1, _OBJECTIVE):
            policies = (fold.begins or {}).get("policies")
            return str(policies.get(CHAMPION)) if isinstance(policies, dict) else None
        return None


def name_test(promotion: Promotion) -> str:
    """Return what the test of a promotion is called: another one for each time that a version is promoted."""
    return f"probation-{promotion.version.version}-{promotion.time:%Y%m%d-%H%M%S}"
