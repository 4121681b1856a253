"""What polls ask the log: one statement where nothing is new, one transaction where something is."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.shelf import shelve
from rl.online.fold import FoldSpec
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.support.archives import archive
from tests.support.clocks import Clock
from tests.support.databases import new_url as new_url
from tests.support.databases import url as url
from tests.support.logs import Written
from tests.support.shops import save_policies, small_market
from tests.support.statements import counted

pytestmark = pytest.mark.heavy

LOOPS = ("v1", "other")
POLICY = "linear_thompson"
WAIT_S = 3_600.0


@pytest.fixture
def log(url: str) -> Iterator[Written]:
    clock = Clock()
    with closing(Store.open(url, clock)) as store:
        yield Written(store, clock)


@pytest.fixture
def loops(log: Written, tmp_path: Path) -> Loops:
    settings = Settings(home=tmp_path, store=None, archive=None)
    save_policies(settings.home, small_market()[1])
    digest = shelve(settings.home / "policies" / POLICY, settings).digest
    reward = RewardSpec(wait_s=WAIT_S)
    plans = [Plan(FoldSpec(loop=loop, reward=reward, learn_from="all"), {POLICY: digest}) for loop in LOOPS]
    return Loops(log.store, settings, [lambda: plans], log.clock)


def asked(loops: Loops, log: Written) -> tuple[bool, list[str]]:
    with counted(log.store) as said:
        return loops.poll(), said


def test_a_poll_without_news_is_one_statement_for_all_folds(loops: Loops, log: Written) -> None:
    news, said = asked(loops, log)
    assert not news
    assert len(said) == 1
    log.report(log.decide())
    assert loops.poll()
    assert len(asked(loops, log)[1]) == 1


def test_a_poll_with_news_is_one_transaction(loops: Loops, log: Written) -> None:
    log.report(log.decide())
    assert loops.poll()
    log.report(log.decide())
    news, said = asked(loops, log)
    assert news
    # Where the logs end; then, in the fold that has news, how far the archive goes, which feedback and decisions are
    # new, and the whole of them.
    assert [one.partition(" ")[0] for one in said] == ["SELECT", "BEGIN", *["SELECT"] * 5]


def test_a_window_that_closes_is_news(loops: Loops, log: Written) -> None:
    log.decide()
    loops.poll()
    log.clock.advance(WAIT_S - 1)
    assert asked(loops, log)[0] is False
    log.clock.advance(2)
    news, said = asked(loops, log)
    assert news
    assert len(said) > 1


def test_a_fold_without_rows_does_not_read_the_archive_again_and_again(
    loops: Loops, log: Written, tmp_path: Path
) -> None:
    log.report(log.decide())
    loops.poll()
    log.clock.advance(timedelta(days=9).total_seconds())
    loops.poll()
    assert archive(log.store, tmp_path / "archive").rows["decisions"] == 1
    loops.poll()
    assert len(asked(loops, log)[1]) == 1
    log.store.insert([Feedback(feedback_id="late", decision_id="d0", kind="click")])
    assert loops.poll()
