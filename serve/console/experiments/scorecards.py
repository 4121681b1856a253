"""What A/B tests say, read as the log grows: a look reads only what has come since the one before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from data.dsjson import find_reward_spec
from data.log.store import Store
from rl.evaluation.abtests.preference import Preference
from rl.evaluation.abtests.scorecard import Scorecard
from serve.abtests.changes import find_test
from serve.abtests.following import Follower
from serve.abtests.results import describe_results
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState
from serve.console.experiments.charts import Bar, Row, draw_rows
from serve.console.work.kept import Kept

_FRESH_S: Final = 10.0
_MOST: Final = 20
"""Tests whose results are kept."""


@dataclass(frozen=True)
class Card:
    """What is known of one test, as it is shown."""

    light: str
    """green, yellow or red; of a test without a health check: green."""
    checks: tuple[tuple[str, str, str], ...]
    """Name, light and what it says."""
    sentence: str
    details: tuple[str, ...]
    halted: str | None
    rows: tuple[Row, ...] = ()
    segments: tuple[Row, ...] = ()
    preference: Preference | None = None
    share: Bar | None = None
    """Of the preference, beside an even one."""
    exposures: Mapping[str, Any] | None = None
    """A chart of users by variant."""
    arms: tuple[Any, ...] = ()
    shadows: Mapping[str, Any] | None = None
    """What a test that nobody sees says."""


class Scorecards:
    """Those of the tests that somebody looks at."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self._store = store
        self._kept = dict[str, Kept[Card]]()

    def of(self, name: str) -> Kept[Card]:
        """Return where the card of a test is kept."""
        if name not in self._kept:
            while len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = Kept(self._reader(name), _FRESH_S)
        return self._kept[name]

    def _reader(self, name: str) -> Callable[[], Card]:
        follower: Follower | None = None

        def read() -> Card:
            nonlocal follower
            state = find_test(self._store, name)
            reward = find_reward_spec(self._store, state.test.loop, state.test.objective)
            if state.test.kind in UNSEEN:
                return _of_shadows(describe_results(self._store, state, reward))
            follower = follower or Follower(self._store, state, reward)
            return make_card(follower.look(state), state)

        return read


def make_card(found: Scorecard | Preference, state: ABTestState) -> Card:
    """Return what is shown of what was found."""
    decision = found.decision
    said: dict[str, Any] = {"sentence": decision.sentence, "details": decision.details, "halted": decision.halted}
    if isinstance(found, Preference):
        share = (
            None if found.share is None else Bar.of(found.share.low, found.share.value, found.share.high, (0.0, 1.0))
        )
        return Card("green", (), **said, preference=found, share=share)
    checks = tuple((check.name, check.light, check.says) for check in found.health.checks)
    return Card(
        found.health.light,
        checks,
        **said,
        rows=draw_rows(found.rows),
        segments=draw_rows(found.segments),
        exposures=_exposures(found.days, list(state.test.variants)),
        arms=found.arms,
    )


def _exposures(days: Mapping[str, Mapping[str, int]], variants: list[str]) -> Mapping[str, Any] | None:
    """Return the users of each variant by day, added up; None: on fewer than two days nothing is seen."""
    if len(days) < 2:
        return None
    names = sorted(days)
    series = []
    for variant in variants:
        total, values = 0, list[int]()
        for day in names:
            total += days[day].get(variant, 0)
            values.append(total)
        series.append({"label": variant, "values": values})
    x = [int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in names]
    return {"x": x, "time": True, "digits": 0, "series": series}


def _of_shadows(found: Mapping[str, Any] | None) -> Card:
    if found is None:
        return Card("yellow", (), "Nothing was logged for it yet.", (), None)
    return Card("green", (), "Nobody is shown what these variants choose.", (), None, shadows=found)
