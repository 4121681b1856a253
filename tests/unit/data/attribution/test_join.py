"""Rewards and transitions against numbers worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from data.attribution.join import Outcome, attribute, join
from data.attribution.transitions import TRANSITION_SCHEMA, transitions
from data.reward import RewardSpec
from data.schema import Decision, Feedback

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = RewardSpec(weights={"view": 0.0, "click": 1.0, "purchase": 5.0, "return": -3.0}, wait_s=60.0)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def decision(decision_id: str = "d", user_id: str | None = "u", made_s: float = 0.0) -> Decision:
    return Decision(
        decision_id=decision_id,
        time=at(made_s),
        user_id=user_id,
        context={"hour": 12, "spent": 0.1},
        candidates=("a", "b", "c", "d"),
        slate=("a", "b", "c"),
        propensities=(0.5, 0.25, 0.8),
        scores=(3.0, 2.0, 1.0),
        policy="p",
        policy_version="p-1",
    )


def feedback(
    feedback_id: str, kind: str, item: str | None, value: float = 1.0, received_s: float = 1.0, of: str = "d"
) -> Feedback:
    return Feedback(
        feedback_id=feedback_id, decision_id=of, item_id=item, kind=kind, value=value, received_at=at(received_s)
    )


def spec(**fields: object) -> RewardSpec:
    return SPEC.model_copy(update=fields)


# On a: click 1 x 2 = 2, purchase 5 x 1 = 5, return -3 x 1 = -3; on b: purchase 5 x 0.5 = 2.5; on c: nothing.
SEVERAL = (
    feedback("1", "click", "a", 2.0),
    feedback("2", "purchase", "b", 0.5),
    feedback("3", "purchase", None, 1.0),
    feedback("4", "return", "a", 1.0),
)


@pytest.mark.parametrize(
    ("aggregation", "rewards"),
    [
        ("first", (2.0, 2.5, -1.0)),
        ("sum", (4.0, 2.5, -1.0)),
        ("mean", (4.0 / 3.0, 2.5, -1.0)),
        ("max", (5.0, 2.5, -1.0)),
    ],
)
def test_aggregations(aggregation: str, rewards: tuple[float, ...]) -> None:
    outcome = attribute(decision(), SEVERAL, spec(aggregation=aggregation, default=-1.0), at(10))
    assert outcome.rewards == rewards
    assert outcome.reward == pytest.approx(sum(rewards), rel=1e-15)
    assert outcome.cases == ("counted",) * 4


@pytest.mark.parametrize("aggregation", ["first", "sum", "mean", "max"])
def test_a_single_negative_feedback_is_not_lifted_to_the_default(aggregation: str) -> None:
    outcome = attribute(decision(), [feedback("1", "return", "b")], spec(aggregation=aggregation), at(10))
    assert outcome.rewards == (0.0, -3.0, 0.0)


def test_first_goes_by_the_log_not_by_the_clients_clock() -> None:
    earlier_by_client = feedback("2", "purchase", "a", received_s=2).model_copy(update={"time": at(-100)})
    reports = [feedback("1", "click", "a", received_s=1).model_copy(update={"time": at(50)}), earlier_by_client]
    assert attribute(decision(), reports, spec(aggregation="first"), at(10)).rewards == (1.0, 0.0, 0.0)


def test_the_wait_window_goes_by_received_at_and_includes_its_end() -> None:
    on_time = feedback("1", "click", "a", received_s=60.0)
    late = feedback("2", "purchase", "b", received_s=60.000001).model_copy(update={"time": at(1)})
    outcome = attribute(decision(), [on_time, late], SPEC, at(61))
    assert outcome.rewards == (1.0, 0.0, 0.0)
    assert (outcome.cases, outcome.observed) == (("counted", "late"), True)
    only_late = attribute(decision(), [late], spec(default=-0.5), at(61))
    assert only_late.rewards == (-0.5, -0.5, -0.5)
    assert (only_late.cases, only_late.observed, only_late.reward) == (("late",), False, -1.5)


def test_of_an_empty_slate_there_is_nothing_to_learn() -> None:
    nothing = decision().model_copy(update={"slate": (), "propensities": (), "scores": ()})
    outcome = attribute(nothing, [], SPEC, at(61))
    assert (outcome.closed, outcome.rewards, outcome.due) == (True, (), False)


def test_due_is_observed_or_closed() -> None:
    click = [feedback("1", "click", "a")]
    assert not attribute(decision(), [], SPEC, at(60)).due
    assert attribute(decision(), [], SPEC, at(60.000001)).due
    open_and_observed = attribute(decision(), click, SPEC, at(2))
    assert (open_and_observed.observed, open_and_observed.closed, open_and_observed.due) == (True, False, True)
    assert attribute(decision(), click, spec(wait_s=float("inf")), at(1e9)).closed is False


def test_what_has_no_effect_is_counted_once_under_one_reason() -> None:
    reports = [
        feedback("1", "scroll", "a"),
        feedback("2", "scroll", "zzz"),
        feedback("3", "click", "d"),  # a candidate that was not shown
        feedback("4", "scroll", "zzz", received_s=61),
    ]
    outcome = attribute(decision(), reports, SPEC, at(10))
    assert outcome.cases == ("unknown_kind", "unknown_kind", "not_in_slate", "late")
    assert (outcome.rewards, outcome.observed, outcome.due) == ((0.0, 0.0, 0.0), False, False)


def test_a_duplicate_counts_once() -> None:
    twice = [feedback("1", "click", "a"), feedback("1", "click", "a"), feedback("2", "click", "a")]
    outcome = attribute(decision(), twice, spec(aggregation="sum"), at(10))
    assert (outcome.rewards, outcome.cases) == ((2.0, 0.0, 0.0), ("counted", "duplicate", "counted"))


def test_of_contradictory_reports_of_one_id_the_first_stands() -> None:
    reports = [feedback("1", "click", "a"), feedback("1", "purchase", "a"), feedback("1", "click", "b")]
    outcome = attribute(decision(), reports, SPEC, at(10))
    assert (outcome.rewards, outcome.cases) == ((1.0, 0.0, 0.0), ("counted", "contradictory", "contradictory"))


def test_a_report_that_is_received_before_its_decision_was_made_counts_as_reordered() -> None:
    outcome = attribute(decision(), [feedback("1", "click", "a", received_s=-1.0)], SPEC, at(10))
    assert (outcome.rewards, outcome.cases) == ((1.0, 0.0, 0.0), ("reordered",))


@pytest.mark.parametrize(
    ("happened_s", "case"), [(-10, "counted"), (-11, "clock_skew"), (12, "counted"), (13, "clock_skew")]
)
def test_a_reporters_clock_that_is_wrong_changes_nothing_and_is_counted(happened_s: float, case: str) -> None:
    report = feedback("1", "click", "a", received_s=2.0).model_copy(update={"time": at(happened_s)})
    outcome = attribute(decision(), [report], SPEC, at(10))
    assert (outcome.rewards, outcome.cases) == ((1.0, 0.0, 0.0), (case,))


def test_a_decision_of_which_nothing_is_reported_is_missing() -> None:
    silent = attribute(decision(), [], spec(default=-0.5), at(61))
    assert (silent.rewards, silent.missing) == ((-0.5, -0.5, -0.5), True)
    assert not attribute(decision(), [], SPEC, at(60)).missing
    assert not attribute(decision(), [feedback("1", "view", None)], SPEC, at(61)).missing


def test_a_slate_that_has_the_credit_shares_one_reward() -> None:
    # In log order 2, 2.5, 5, -3; their sum is 6.5, of which each of three slots gets a third.
    whole = spec(credit="slate", default=-1.5)
    assert (
        attribute(decision(), SEVERAL, whole.model_copy(update={"aggregation": "sum"}), at(10)).rewards
        == (6.5 / 3,) * 3
    )
    assert attribute(decision(), SEVERAL, whole, at(10)).rewards == (5.0 / 3,) * 3
    assert attribute(decision(), [], whole, at(61)).rewards == (-0.5, -0.5, -0.5)
    assert attribute(decision(), SEVERAL, whole.model_copy(update={"limit": 3.0}), at(10)).rewards == (1.0, 1.0, 1.0)


def test_a_delayed_reward_is_worth_less() -> None:
    reports = [
        feedback("1", "click", "a", received_s=20.0),
        feedback("2", "purchase", "b", received_s=40.0),
        feedback("3", "click", "c", received_s=-5.0),
    ]
    assert attribute(decision(), reports, spec(half_life_s=20.0), at(61)).rewards == (0.5, 1.25, 1.0)


@pytest.mark.parametrize(
    ("reports", "rewards"),
    [
        ([("view", "b")], (-1.0, 0.0)),  # seen to the second slot: of the third nothing is learned
        ([("view", "a"), ("view", "b")], (0.0, 0.0)),
        ([("view", None)], (0.0, -1.0, -1.0)),  # the whole slate was seen
        ([("view", "a"), ("click", "c")], (0.0, -1.0, 1.0)),  # what was clicked was seen, and what lies above it
        ([("click", "a")], (1.0, -1.0, -1.0)),  # nothing says how far: all of it
        ([("view", "d")], (-1.0, -1.0, -1.0)),  # was not shown
        ([], (-1.0, -1.0, -1.0)),
    ],
)
def test_what_lies_below_the_last_slot_that_was_seen_was_not_ignored(
    reports: list[tuple[str, str | None]], rewards: tuple[float, ...]
) -> None:
    told = [feedback(f"{number}", kind, item) for number, (kind, item) in enumerate(reports)]
    outcome = attribute(decision(), told, spec(seen_by="view", default=-1.0), at(61))
    assert (outcome.rewards, outcome.reward) == (rewards, sum(rewards))
    shared = attribute(decision(), told, spec(seen_by="view", default=-1.0, credit="slate"), at(61))
    assert len(shared.rewards) == len(rewards)


def test_a_specification_has_a_version_and_tells_by_a_kind_that_it_knows() -> None:
    assert SPEC.version == RewardSpec.model_validate_json(SPEC.model_dump_json()).version
    reordered = RewardSpec(weights=dict(reversed(SPEC.weights.items())), wait_s=60.0)
    assert reordered.version == SPEC.version != spec(session_gap_s=60.0).version
    with pytest.raises(ValueError, match="seen_by must be a kind of `weights`"):
        RewardSpec(seen_by="glance")


def test_a_weight_of_zero_is_an_observation() -> None:
    view = [feedback("1", "view", None)]
    with_zero = attribute(decision(), view, SPEC, at(10))
    assert (with_zero.rewards, with_zero.due) == ((0.0, 0.0, 0.0), True)
    assert attribute(decision(), view, spec(default=-1.0), at(10)).rewards == (0.0, -1.0, -1.0)
    then_return = [*view, feedback("2", "return", "a")]
    assert attribute(decision(), then_return, spec(aggregation="max"), at(10)).rewards == (0.0, 0.0, 0.0)
    assert attribute(decision(), then_return, spec(aggregation="mean"), at(10)).rewards == (-1.5, 0.0, 0.0)


def test_an_empty_slate_has_no_slot_to_reward() -> None:
    empty = decision().model_copy(update={"slate": (), "propensities": (), "scores": ()})
    outcome = attribute(empty, [feedback("1", "click", None)], SPEC, at(10))
    assert (outcome.rewards, outcome.reward, outcome.cases) == ((), 0.0, ("not_in_slate",))


def test_feedback_that_cannot_be_attributed_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected feedback of decision d, got of e"):
        attribute(decision(), [feedback("1", "click", "a", of="e")], SPEC, at(10))
    uncommitted = feedback("1", "click", "a").model_copy(update={"received_at": None})
    with pytest.raises(ValueError, match="feedback 1 has no received_at"):
        attribute(decision(), [uncommitted], SPEC, at(10))


def test_join_keeps_the_order_and_leaves_orphans_out() -> None:
    decisions = [decision("d2", made_s=5), decision("d1"), decision("d3")]
    by_decision = {
        "d1": [feedback("1", "click", "b", of="d1")],
        "d2": [feedback("2", "purchase", "a", of="d2")],
        "orphan": [feedback("3", "purchase", "a", of="orphan")],
    }
    outcomes = list(join(iter(decisions), by_decision, SPEC, at(10)))
    assert [(o.decision.decision_id, o.reward, o.due) for o in outcomes] == [
        ("d2", 5.0, True),
        ("d1", 1.0, True),
        ("d3", 0.0, False),
    ]


def outcome(decision: Decision, reward: float, *, due: bool = True) -> Outcome:
    return Outcome(decision, (reward, 0.0, 0.0), reward, due, False)


def test_transitions_of_a_log_of_two_users() -> None:
    # u: u1 at 0, u2 at 100, u3 at 1,901 (1,801 s later: a new session), u4 at 1,950 (not yet due).
    # v: v1 at 50, v2 at 1,850 (1,800 s later: the same session). One decision for nobody in particular.
    log = [
        outcome(decision("u1", "u", 0), 1.0),
        outcome(decision("v1", "v", 50), 2.0),
        outcome(decision("nobody", None, 60), 3.0),
        outcome(decision("u2", "u", 100), 4.0),
        outcome(decision("v2", "v", 1850), 5.0),
        outcome(decision("u3", "u", 1901), 6.0),
        outcome(decision("u4", "u", 1950), 7.0, due=False),
        outcome(decision("nobody2", None, 1951), 8.0),
    ]
    table = transitions(log, discount=0.9, session_gap_s=1800.0)
    assert table.schema == TRANSITION_SCHEMA
    columns = ["decision_id", "reward", "next_decision_id", "discount"]
    assert [tuple(row[c] for c in columns) for row in table.to_pylist()] == [
        ("u1", 1.0, "u2", 0.9),
        ("v1", 2.0, "v2", 0.9),
        ("nobody", 3.0, None, 0.0),
        ("u2", 4.0, None, 0.0),
        ("v2", 5.0, None, 0.0),
        ("u3", 6.0, "u4", 0.9),
        ("nobody2", 8.0, None, 0.0),
    ]
    first, *_, last = table.to_pylist()
    assert first == {
        "decision_id": "u1",
        "user_id": "u",
        "time": T0,
        "context": '{"hour":12,"spent":0.1}',
        "candidates": ["a", "b", "c", "d"],
        "slate": ["a", "b", "c"],
        "reward": 1.0,
        "rewards": [1.0, 0.0, 0.0],
        "propensity": pytest.approx(0.1, rel=1e-15),  # 0.5 x 0.25 x 0.8
        "propensities": [0.5, 0.25, 0.8],
        "next_decision_id": "u2",
        "next_context": '{"hour":12,"spent":0.1}',
        "next_candidates": ["a", "b", "c", "d"],
        "discount": 0.9,
        "policy": "p",
        "policy_version": "p-1",
    }
    assert (last["user_id"], last["next_context"], last["next_candidates"]) == (None, None, None)


def test_the_next_decision_is_the_next_in_time_and_then_in_the_log() -> None:
    log = [
        outcome(decision("second", made_s=10), 0.0),
        outcome(decision("first", made_s=0), 0.0),
        outcome(decision("third", made_s=10), 0.0),
    ]
    rows = transitions(log, discount=1.0, session_gap_s=60.0).to_pylist()
    assert [(row["decision_id"], row["next_decision_id"]) for row in rows] == [
        ("second", "third"),
        ("first", "second"),
        ("third", None),
    ]


def test_no_outcomes_and_a_wrong_discount() -> None:
    empty = transitions([], discount=0.9, session_gap_s=60.0)
    assert (empty.num_rows, empty.schema) == (0, TRANSITION_SCHEMA)
    with pytest.raises(ValueError, match=r"discount must be in \[0, 1\], got 1.5"):
        transitions([], discount=1.5, session_gap_s=60.0)


def test_a_reward_is_kept_within_the_limit() -> None:
    reports = [feedback("1", "purchase", "a", 1e9), feedback("2", "purchase", "b", -9.0), feedback("3", "click", "c")]
    outcome = attribute(decision(), reports, spec(limit=20.0), at(1))
    assert outcome.rewards == (20.0, -20.0, 1.0)


def test_feedback_from_long_before_its_decision_does_not_count() -> None:
    reports = [feedback("1", "click", "a", received_s=-60.1), feedback("2", "click", "b", received_s=-60.0)]
    outcome = attribute(decision(), reports, SPEC, at(1))
    assert (outcome.rewards, outcome.cases) == ((0.0, 1.0, 0.0), ("late", "reordered"))
