"""Archived days count as those in the log do, also where a day moves while it is followed."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from data.log.store import Store
from data.reward import RewardSpec
from serve.console.learning.tallying import PlaceTally
from tests.support.archives import DAY, archive, write_days
from tests.support.clocks import Clock
from tests.support.rows import count_rows


@pytest.fixture
def clock() -> Clock:
    return Clock()


def catch_up(tally: PlaceTally) -> None:
    while tally.step():
        pass


def test_an_archived_log_gives_the_same_tally(store: Store, clock: Clock, tmp_path: Path) -> None:
    write_days(store, clock, 120)
    loop = store.decisions(limit=1)[0][1]
    place = (store, loop.loop, loop.objective, RewardSpec(wait_s=3_600.0), timedelta(days=60))
    before, followed = PlaceTally(*place), PlaceTally(*place)
    catch_up(before)
    followed.step()
    clock.advance(3 * DAY.total_seconds())
    archive(store, tmp_path / "archive")
    assert count_rows(store)["decisions"] == 0
    after = PlaceTally(*place)
    catch_up(after)
    catch_up(followed)
    assert before.tally.items.sum() > 0
    for other in (after, followed):
        assert other.tally.arms == before.tally.arms
        assert np.allclose(other.tally.items, before.tally.items)
