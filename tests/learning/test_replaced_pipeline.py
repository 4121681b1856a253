"""The replaced pipeline learns from ratings of other users than the logged ones; here no such rating is attributed."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.attribution.columns import attribute_columns
from data.attribution.join import attribute
from data.log.bulk import count_orphans, decisions_between, feedback_about, late_feedback
from data.log.store import Store
from data.schema import Decision, Feedback
from rl.experience.logged import TransitionQuery, transitions_between
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.simulators.bandits.ratings import Ratings
from tests.support.clocks import NOON, Clock
from tests.support.logs import described
from tests.support.replaced_pipeline import SPEC, join_by_decision, join_by_row, play, rate

INTERACTIONS = 2_000
_READ = ("decision_id", "time", "slate", "deferred")


@pytest.mark.heavy
def test_ratings_of_other_users_teach_nothing_but_which_movie_is_liked_by_all() -> None:
    ceilings = Ratings(1).ceilings()
    wrong = [worth.earned for worth in play(join_by_row, of_others=True, interactions=INTERACTIONS, seed=0)]
    right = [worth.earned for worth in play(join_by_decision, of_others=False, interactions=INTERACTIONS, seed=0)]
    assert np.mean(wrong[-500:]) < ceilings["fixed"] + 0.1
    assert np.mean(right[-500:]) > 0.9 * ceilings["oracle"]


def some(n: int) -> tuple[list[Decision], list[Feedback]]:
    """Return decisions, and ratings of the new users whom the Logger has drawn."""
    decisions = [
        Decision(
            decision_id=f"d{number}",
            time=NOON,
            user_id=f"u{number}",
            candidates=("1", "2"),
            slate=("1",),
            propensities=(0.5,),
            scores=(0.0,),
            policy="described",
            policy_version="0.0.0",
        )
        for number in range(n)
    ]
    return decisions, [rate(decision, 5.0, by_another=True) for decision in decisions]


def test_a_rating_of_another_user_is_refused_where_it_is_attributed() -> None:
    decisions, ratings = some(3)
    for decision, rating in zip(decisions, ratings, strict=True):  # row by row, as the replaced pipeline joins
        with pytest.raises(ValueError, match=f"expected feedback of decision {decision.decision_id}, got of new user"):
            attribute(decision, [rating], SPEC, NOON)


def test_a_table_of_them_that_was_joined_row_by_row_is_refused(tmp_path: Path) -> None:
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", Clock())) as store:
        decisions, ratings = some(3)
        store.insert([*decisions, *(rate(decision, 3.0, by_another=False) for decision in decisions)])
        shown = decisions_between(store, 1, 3, _READ, "v1")
        own = feedback_about(store, shown, late_feedback(store))
        assert attribute_columns(shown, own, SPEC, NOON).reward.tolist() == [3.0, 3.0, 3.0]
        others = pa.array([rating.decision_id for rating in ratings])
        wrong = own.set_column(own.column_names.index("decision_id"), "decision_id", others)
        with pytest.raises(ValueError, match="expected feedback of decision d0, got of new user's visit d0"):
            attribute_columns(shown, wrong, SPEC, NOON)


def test_in_the_log_they_are_orphans_that_neither_fold_nor_batch_learns(tmp_path: Path) -> None:
    clock, url = Clock(), f"sqlite:///{tmp_path / 'store.db'}"
    with closing(Store.open(url, clock)) as store:
        decisions, ratings = some(5)
        store.insert([*decisions, *ratings])
        assert count_orphans(store, "v1") == 5
        clock.advance(SPEC.wait_s + 60)
        learner = OnlineLearner(store, {"described": described()}, FoldSpec(reward=SPEC), clock)
        update = learner.catch_up()
        assert update is not None
        assert update.impressions["described"].rewards.tolist() == [0.0] * 5
        query = TransitionQuery(url, SPEC, clock.now)
        whole = pa.table({"first": [1], "last": [5]})
        rows = pa.concat_tables(transitions_between(whole, query, late_feedback(store))).to_pylist()
        assert [row["reward"] for row in rows] == [0.0] * 5
