"""A fold comes to the same bits wherever the rows of its log are."""

from pathlib import Path

import numpy as np
import pytest

from data.log.loops import fold_steps
from data.reward import RewardSpec
from data.schema import Feedback
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from tests.support.archives import DAY, archive
from tests.support.logs import Written, described
from tests.support.shops import small_market

pytestmark = pytest.mark.heavy

SPEC = FoldSpec(reward=RewardSpec(wait_s=3_600.0, default=-0.1, aggregation="sum"), learn_from="all")
ENCODER = small_market()[1]


def learner(log: Written, fold_id: str | None = None) -> OnlineLearner:
    return OnlineLearner(log.store, {"described": described(history=4)}, SPEC, log.clock, fold_id)


def state(learner: OnlineLearner) -> dict[str, np.ndarray]:
    published = learner.publication()
    assert published.histories is not None
    users = {f"history {user}": published.histories.encode(user, ENCODER) for user in ("u0", "u1", "u2", "u3")}
    return {**published.artefacts["described"].policy.state_dict(), **users}


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def live(log: Written, following: OnlineLearner) -> dict[int, dict[str, np.ndarray]]:
    """Let four days go by; return the state after each step."""
    states = dict[int, dict[str, np.ndarray]]()
    for number in range(96):
        decision = log.decide()
        if number % 2:
            log.report(decision, value=number / 7)
        if number % 3 == 0 and number > 40:  # a day late
            log.report(log.made[number - 40], kind="purchase")
        if number % 9 == 0:
            log.store.insert(
                [Feedback(feedback_id=f"o{number}", decision_id=f"d{number + 2}", kind="click", value=0.3)]
            )
        log.clock.advance(1_200)
        if number % 3 == 1 and log.made[number - 1 :]:
            log.report(log.made[number - 1], kind="click", slot=1)
        log.clock.advance(2_400)
        if update := following.poll():
            states[update.number] = state(following)
    return states


def test_a_new_fold_and_one_that_goes_on_read_archived_days_as_if_they_were_in_the_log(
    log: Written, tmp_path: Path
) -> None:
    following = learner(log)
    live(log, following)
    before = learner(log)
    before.catch_up()
    for _ in range(3):  # more and more of it is archived
        archive(log.store, tmp_path / "archive")
        fresh = learner(log)
        fresh.catch_up()
        assert_equal(state(fresh), state(before))
        assert (fresh.positions, fresh.waiting) == (before.positions, before.waiting)
        log.clock.advance(DAY.total_seconds() / 2)
        before.catch_up()
        for decision in log.made[:90:17]:  # late reports about what is archived
            log.report(decision, kind="purchase")
        before.catch_up()


@pytest.mark.slow
def test_every_state_is_made_again_from_the_archive_bit_by_bit(log: Written, tmp_path: Path) -> None:
    following = learner(log)
    states = live(log, following)
    log.clock.advance(2 * DAY.total_seconds())
    following.poll()
    moved = archive(log.store, tmp_path / "archive")
    assert moved.rows["decisions"] == 96
    assert moved.rows["versions"] > 90
    again = learner(log, following.fold_id)
    for version in fold_steps(log.store, following.fold_id)[1:]:
        again.replay(version)
        if version.number in states:
            assert_equal(state(again), states[version.number])
    assert_equal(state(again), state(following))


def test_a_fold_that_is_behind_reads_over_the_end_of_the_archive(
    log: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl.online.reading.MAX_ROWS", 7)  # many steps, that end anywhere
    live(log, learner(log))
    logged = learner(log)
    logged.catch_up()
    archive(log.store, tmp_path / "archive")
    archived = learner(log)
    archived.catch_up()
    assert archived.number == logged.number > 10
    assert_equal(state(archived), state(logged))
