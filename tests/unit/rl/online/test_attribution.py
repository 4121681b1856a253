"""However reports come - late, twice, shuffled, early - the fold and the batch come to the same transitions."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data.attribution.join import Outcome
from data.attribution.transitions import transitions
from data.log.bulk import divide, late_feedback
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import ACTIVATE, Decision, Feedback
from rl.experience.logged import TransitionQuery, transitions_between
from rl.online.fold import FoldSpec, Update
from rl.online.learner import OnlineLearner
from tests.support.archives import archive
from tests.support.clocks import NOON, Clock
from tests.support.logs import described

WAIT_S = 60
ITEMS = ("a", "b", "c", "d")
KINDS = ("click", "click", "view", "view", "purchase", "applause", ACTIVATE)
ORPHAN = 8


@dataclass
class Log:
    """One log for all examples, each of which has a loop of its own, and what they have come to."""

    url: str
    store: Store
    clock: Clock
    examples: list[tuple[int, TransitionQuery, pa.Table]] = field(default_factory=list)
    """The position that each began after, what is asked for, and what the fold has come to."""
    reports: Counter[str] = field(default_factory=Counter)
    """What the folds have said of all reports."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    clock, url = Clock(), f"sqlite:///{tmp_path / 'store.db'}"
    with closing(Store.open(url, clock)) as store:
        yield Log(url, store, clock)


class Recording(OnlineLearner):
    """Remembers the rewards that it has learned, by the decision's position, and corrects only what it has learned."""

    def __init__(self, log: Log, loop: str, spec: RewardSpec) -> None:
        artefacts = {"described": described()}
        super().__init__(log.store, artefacts, FoldSpec(loop=loop, reward=spec, learn_from="all"), log.clock)
        self.learned = dict[int, tuple[float, ...]]()

    def _learn(self, due: Any, *args: Any) -> Update:
        for one in due:
            assert one.previous == self.learned.get(one.seq)
            self.learned[one.seq] = one.outcome.rewards
        return super()._learn(due, *args)

    def transitions(self, query: TransitionQuery) -> pa.Table:
        """Return the transitions of what it has learned."""
        outcomes = [
            Outcome(decision, rewards := self.learned.get(seq, ()), sum(rewards), seq in self.learned, True)
            for seq, decision in self._store.decisions(loop=query.loop)
        ]
        return transitions(outcomes, query.discount, query.spec.session_gap_s if query.discount else -1.0)


def in_bulk(store: Store, after: int, query: TransitionQuery) -> pa.Table:
    """Return the transitions after a position as Ray Data's tasks make them, of several ranges."""
    ranges = [(first, last) for first, last in divide(store, 5) if last > after]
    table = pa.table({"first": [first for first, _ in ranges], "last": [last for _, last in ranges]})
    return pa.concat_tables(transitions_between(table, query, late_feedback(store))).combine_chunks()


specs = st.builds(
    RewardSpec,
    wait_s=st.just(float(WAIT_S)),
    default=st.sampled_from([0.0, -0.3]),
    limit=st.sampled_from([4.0, 100.0]),
    aggregation=st.sampled_from(["first", "sum", "mean", "median", "min", "max"]),
    credit=st.sampled_from(["item", "slate"]),
    half_life_s=st.sampled_from([None, 7.0]),
    seen_by=st.sampled_from([None, "view"]),
    session_gap_s=st.sampled_from([30.0, 1_800.0]),
)


@dataclass(frozen=True)
class Made:
    """A decision: how long after the one before, for whom, what, and how long after it was made it was logged."""

    pause_s: int
    user: str | None
    slate: tuple[str, ...]
    deferred: bool
    logged_after_s: int


@dataclass(frozen=True)
class Told:
    """A report: about which decision, what, how long after it was made it came, and what came of that."""

    about: int
    item: str | None
    kind: str
    value: float
    after_s: int
    by_own_clock_s: int | None
    again_after_s: int | None
    with_another_value: bool


made = st.builds(
    Made,
    st.sampled_from([0, 0, 1, 29, 30, 31, 90]),
    st.sampled_from(["u", "u", "v", None]),
    st.permutations(ITEMS).flatmap(lambda items: st.sampled_from([0, 2, 3, 3]).map(lambda k: tuple(items[:k]))),
    st.sampled_from([False, False, True]),
    st.sampled_from([0, 0, 0, 5, WAIT_S]),
)
told = st.builds(
    Told,
    st.integers(0, ORPHAN),
    st.sampled_from([None, None, *ITEMS]),
    st.sampled_from(KINDS),
    st.sampled_from([1.0, 0.1, -2.5, 0.0, 1e6]),
    st.sampled_from([-5, 0, 0, 3, 10, WAIT_S, WAIT_S, 61]),
    st.sampled_from([None, 0, -3600, 3600]),
    st.sampled_from([None, None, 1, 90]),
    st.booleans(),
)


@dataclass(frozen=True)
class Stream:
    """What happens, the seconds after which the learner looks, and a seed by which what happens at once is shuffled."""

    made: list[Made]
    told: list[Told]
    polls: list[int]
    seed: int
    jump_s: int
    """By how much the service's clock is wrong in the second half."""


streams = st.builds(
    Stream,
    st.lists(made, min_size=2, max_size=8),
    st.lists(told, min_size=2, max_size=16),
    st.lists(st.integers(0, 600), max_size=8),
    st.integers(0, 2**16),
    st.sampled_from([0, 0, 20, 300, -300]),
)


def arrange(stream: Stream, name: str, begin: Clock) -> tuple[list[tuple[int, Decision | Feedback | None]], int]:
    """Return what comes when, in seconds, in its order; None is a look of the learner; and when all is over."""
    at_s, decisions, comes = 0, list[Decision](), list[tuple[int, Decision | Feedback | None]]()
    middle = len(stream.made) // 2
    for number, one in enumerate(stream.made):
        at_s += one.pause_s
        wrong_s = stream.jump_s if number >= middle else 0
        decision = Decision(
            decision_id=f"{name}/{number}",
            time=begin.now + timedelta(seconds=at_s + wrong_s),
            loop=name,
            user_id=one.user and f"{name}/{one.user}",
            context={"n": number},
            candidates=ITEMS,
            slate=one.slate,
            propensities=(0.5, 0.25, 0.125)[: len(one.slate)],
            scores=(0.0,) * len(one.slate),
            policy="described",
            policy_version="0.0.0",
            deferred=one.deferred,
        )
        decisions.append(decision)
        comes.append((at_s + one.logged_after_s, decision))
    for number, report in enumerate(stream.told):
        place = report.about % len(decisions)
        about = None if report.about == ORPHAN else decisions[place]
        made_s = sum(one.pause_s for one in stream.made[: place + 1])
        feedback = Feedback(
            feedback_id=f"{name}/{number}",
            decision_id=about.decision_id if about else f"{name}/never made",
            loop=name,
            item_id=report.item,
            kind=report.kind,
            value=report.value,
            time=about and report.by_own_clock_s and about.time + timedelta(seconds=report.by_own_clock_s),
        )
        comes.append((made_s + report.after_s, feedback))
        if report.again_after_s is not None:
            again = feedback.model_copy(update={"value": 7.0}) if report.with_another_value else feedback
            comes.append((made_s + report.after_s + report.again_after_s, again))
    end = max(at for at, _ in comes)
    comes += [(poll * end // 600, None) for poll in stream.polls]
    order = np.random.default_rng(stream.seed).permutation(len(comes)).tolist()
    return sorted((comes[at] for at in order), key=lambda one: one[0]), end


def play(log: Log, stream: Stream, name: str, learner: Recording) -> None:
    """Write a stream to the log, with the learner looking on, until all windows have closed."""
    comes, end = arrange(stream, name, log.clock)
    begin, half = log.clock.now, end // 2
    for at, record in comes:
        log.clock.now = begin + timedelta(seconds=at)
        log.clock.off = timedelta(seconds=stream.jump_s if at > half else 0)
        if record is None:
            learner.poll()
        else:
            log.store.insert([record])
    log.clock.now, log.clock.off = begin + timedelta(seconds=end + 6 * WAIT_S + 600), timedelta()
    learner.catch_up()


@pytest.mark.heavy
def test_the_fold_and_the_batch_come_to_identical_transitions(log: Log, tmp_path: Path) -> None:
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # a smaller example would take minutes to be found
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stream=streams, spec=specs, other=specs, discount=st.sampled_from([0.0, 0.9]))
    def check(stream: Stream, spec: RewardSpec, other: RewardSpec, discount: float) -> None:
        name, after = f"loop{len(log.examples)}", log.store.last_decision()
        learner = Recording(log, name, spec)
        play(log, stream, name, learner)
        query = TransitionQuery(log.url, spec, log.clock.now, name, discount)
        found = learner.transitions(query)
        log.examples.append((after, query, found))
        assert in_bulk(log.store, after, query) == found
        assert not learner.set_aside.count
        log.reports.update(learner.reports)
        # Under another specification all is derived anew, from the same log.
        anew = Recording(log, name, other)
        anew.catch_up()
        changed = TransitionQuery(log.url, other, log.clock.now, name, discount)
        log.examples.append((after, changed, anew.transitions(changed)))
        assert in_bulk(log.store, after, changed) == anew.transitions(changed)

    check()
    cases = {"counted", "reordered", "clock_skew", "activation", "late", "unknown_kind", "not_in_slate", "orphan"}
    assert {case for case, count in log.reports.items() if count} >= {*cases, "missing"}, log.reports
    assert sum(found.num_rows for *_, found in log.examples) > 100
    log.clock.advance(3 * 86_400)
    assert archive(log.store, tmp_path / "archive").rows["decisions"] > 100
    for after, query, found in log.examples[::7]:
        assert in_bulk(log.store, after, query) == found


def test_rewards_under_a_changed_specification_are_those_of_the_whole_log_and_back(log: Log) -> None:
    """Nothing is forgotten by a change: what was reported before counts under the new one, and under the old again."""
    clicks, purchases = RewardSpec(weights={"click": 1.0}), RewardSpec(weights={"purchase": 5.0, "click": 0.0})
    decisions = [
        Decision(
            decision_id=f"d{number}",
            time=NOON,
            candidates=ITEMS,
            slate=("a", "b"),
            propensities=(0.5, 0.5),
            scores=(0.0, 0.0),
            policy="described",
            policy_version="0.0.0",
        )
        for number in range(3)
    ]
    first = Recording(log, "v1", clicks)
    log.store.insert(decisions)
    log.store.insert([Feedback(feedback_id="1", decision_id="d0", item_id="b", kind="click")])
    log.store.insert([Feedback(feedback_id="2", decision_id="d1", item_id="a", kind="purchase")])
    first.catch_up()
    assert first.learned == {1: (0.0, 1.0)}
    log.clock.advance(601)
    first.catch_up()
    assert first.learned == {1: (0.0, 1.0), 2: (0.0, 0.0), 3: (0.0, 0.0)}
    changed = Recording(log, "v1", purchases)
    changed.catch_up()
    assert changed.learned == {1: (0.0, 0.0), 2: (5.0, 0.0), 3: (0.0, 0.0)}
    back = Recording(log, "v1", clicks)
    back.catch_up()
    assert back.learned == first.learned
