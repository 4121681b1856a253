"""What is added up, against the same in numpy from the raw numbers."""

from itertools import pairwise

import numpy as np
import pytest

from data.schema import ORACLE
from rl.evaluation.board.curves import draw_curves
from rl.evaluation.board.estimates import TUNED_TO, at_every_look, pointwise
from rl.evaluation.board.items import read_board
from rl.evaluation.board.tally import MOST_ARMS, MOST_ITEMS, OTHERS, Arm, Shown, Tally
from rl.evaluation.board.timeline import SECOND, WIDTHS, Timeline, merge_buckets
from rl.evaluation.offpolicy.intervals import normal

START = 1_700_000_000 * SECOND
MINUTE = 60 * SECOND


def make(
    tally: Tally, arm: Arm, times: list[int], rewards: list[float], best: list[float] | None = None, item: str = "a"
) -> Shown:
    """Return decisions of one slot."""
    n = len(times)
    return Shown(
        times_us=np.array(times),
        arms=np.full(n, tally.arm(arm)),
        rewards=np.array(rewards),
        rows=np.arange(n),
        items=np.full(n, tally.item(item)),
        slot_rewards=np.array(rewards),
        propensities=np.full(n, 0.75),
        best=np.full(n, np.nan) if best is None else np.array(best),
    )


def test_widths_become_wider_without_cutting_buckets() -> None:
    assert all(wide % narrow == 0 for narrow, wide in pairwise(WIDTHS))


@pytest.mark.parametrize("span_s", [30, 3_000, 300_000, 30_000_000, 3_000_000_000])
def test_a_timeline_has_the_sums_of_every_bucket_in_whatever_order_they_come(span_s: int) -> None:
    rng, line = np.random.default_rng(0), Timeline(2, 40)
    times = START + rng.integers(0, span_s * SECOND, 3_000)
    rows, values = rng.integers(0, 5, 3_000), rng.normal(size=(3_000, 2))
    for at in range(0, 3_000, 250):
        line.add(rows[at : at + 250], times[at : at + 250], values[at : at + 250])
    starts = line.starts
    assert len(starts) <= 40
    assert (starts % line.width == 0).all()
    expected = np.zeros((5, len(starts), 2))
    np.add.at(expected, (rows, (times - starts[0]) // line.width), values)
    assert np.allclose(line.sums[:5], expected)
    assert not line.sums[5:].any()


def test_what_is_taken_back_leaves_nothing() -> None:
    tally = Tally()
    shown = make(tally, Arm("p"), [START, START + MINUTE], [1.0, 2.5])
    tally.add(shown)
    tally.add(shown, -1.0)
    assert not tally.decisions.sums.any()
    assert not tally.items.any()


def test_means_and_intervals_are_those_of_the_raw_numbers() -> None:
    rng = np.random.default_rng(1)
    terms = rng.exponential(size=57)
    count, total, squares = (np.array([found]) for found in (57.0, terms.sum(), (terms**2).sum()))
    found, by_hand = pointwise(count, total, squares), normal(terms)
    assert found.value[0] == pytest.approx(terms.mean())
    assert (found.low[0], found.high[0]) == pytest.approx((by_hand.low, by_hand.high))
    # Robbins' mixture at n = TUNED_TO: sqrt(2 (1 + 1/t) log(1 + sqrt(1 + t) / .05)), t = 2 log 20 + log(1 + 2 log 20)
    n = TUNED_TO
    wide = at_every_look(np.array([n]), np.array([0.0]), np.array([n - 1]))
    assert (wide.high[0] - wide.value[0]) * np.sqrt(n) == pytest.approx(3.0413565, rel=1e-7)


@pytest.mark.parametrize("count", [0, 1])
def test_of_fewer_than_two_there_is_no_interval(count: int) -> None:
    found = pointwise(np.array([count]), np.array([float(count)]), np.array([float(count)]))
    assert np.isnan(found.low[0])
    assert np.isnan(found.value[0]) == (count == 0)


def test_regret_is_beside_the_best_group_at_the_same_times() -> None:
    tally = Tally()
    for minute, (more, less) in enumerate([(2.0, 1.0), (6.0, 1.0)]):
        times = [START + minute * MINUTE + s * SECOND // 3 for s in range(100)]
        tally.add(make(tally, Arm("good"), times[:60], [more - 1, more + 1] * 30))
        tally.add(make(tally, Arm("bad"), times[:50], [less - 1, less + 1] * 25))
    curves = draw_curves(tally, lambda arm: arm.policy, most=2)
    assert curves.reference == "good"
    good, bad = curves.curves
    assert (good.name, good.decisions, bad.decisions) == ("good", 120, 100)
    assert good.total.value[0] == pytest.approx(4.0)
    assert good.regret is not None
    assert bad.regret is not None
    assert good.regret.value.tolist() == [0.0, 0.0]
    assert bad.regret.value.tolist() == pytest.approx([50 * 1.0, 50 * 1.0 + 50 * 5.0])
    variance_good, variance_bad = np.var([-1, 1] * 30, ddof=1), np.var([-1, 1] * 25, ddof=1)
    half = 1.959964 * np.sqrt(50**2 * variance_good / 60 + 50 * variance_bad)
    assert bad.regret.high[0] - bad.regret.value[0] == pytest.approx(half)
    assert bad.exploration_total == pytest.approx(0.25)


def test_decisions_with_nothing_beside_them_are_left_out_of_regret() -> None:
    tally = Tally()
    times = [START + s * SECOND // 4 for s in range(150)]
    tally.add(make(tally, Arm("good"), times, [1.0, 3.0] * 75))
    tally.add(make(tally, Arm("bad"), times, [0.0, 2.0] * 75))
    later = [START + 100 * MINUTE + s * SECOND // 4 for s in range(40)]
    tally.add(make(tally, Arm("bad"), later, [0.0] * 40))
    bad = next(one for one in draw_curves(tally, lambda arm: arm.policy).curves if one.name == "bad")
    assert bad.regret is not None
    assert bad.regret.missing == 40
    assert bad.regret.value[-1] == pytest.approx(150.0)


def test_an_oracle_is_what_regret_is_beside_where_one_reports() -> None:
    tally = Tally()
    tally.add(make(tally, Arm("p"), [START] * 4, [1.0, 2.0, 3.0, 4.0], [5.0, 5.0, np.nan, 5.0]))
    curves = draw_curves(tally, lambda arm: arm.policy)
    assert curves.reference == ORACLE
    assert curves.curves[0].regret is not None
    assert curves.curves[0].regret.value[-1] == pytest.approx(15.0 - 3 * 2.5)
    assert curves.curves[0].regret.missing == 1


def test_one_group_alone_has_no_regret_and_variants_are_grouped_by_test() -> None:
    tally = Tally()
    tally.add(make(tally, Arm("p", "price", "treated"), [START] * 200, [1.0, 0.0] * 100))
    tally.add(make(tally, Arm("p"), [START] * 200, [1.0, 0.0] * 100))
    curves = draw_curves(tally, lambda arm: arm.policy)
    assert [(one.name, one.decisions, one.regret) for one in curves.curves] == [("p", 400, None)]
    assert curves.reference is None
    [variant] = draw_curves(tally, lambda arm: arm.variant and f"{arm.abtest}: {arm.variant}").curves
    assert (variant.name, variant.decisions) == ("price: treated", 200)


def test_of_nothing_there_are_no_curves_and_no_board() -> None:
    tally = Tally()
    assert draw_curves(tally, lambda arm: arm.policy).curves == ()
    assert read_board(tally, []).items == ()


def test_the_board_has_what_each_item_earned_and_its_share_over_time() -> None:
    tally = Tally()
    hour = 60 * MINUTE
    for item, rewards, at in (("a", [1.0, 3.0, 5.0], START), ("b", [0.0], START), ("b", [2.0, 4.0], START + hour)):
        tally.add(make(tally, Arm("p"), [at] * len(rewards), rewards, item=item))
    tally.add(make(tally, Arm("q"), [START], [9.0], item="c"))
    board = read_board(tally, tally.numbers(["p"]))
    assert board.items == ("a", "b")
    assert board.rewards.value.tolist() == pytest.approx([3.0, 2.0])
    assert board.rewards.low[0] == pytest.approx(normal(np.array([1.0, 3.0, 5.0])).low)
    assert board.share.tolist() == pytest.approx([0.5, 0.5])
    over_time = board.share_over_time(np.array([0, 1]))
    known = ~np.isnan(over_time[0])
    assert over_time[:, known].T.tolist() == [pytest.approx([0.75, 0.25]), pytest.approx([0.0, 1.0])]
    assert read_board(tally, tally.numbers()).items == ("a", "b", "c")


def test_shares_of_arms_with_buckets_of_other_widths_add_up() -> None:
    tally = Tally()
    times = [START + minute * MINUTE for minute in range(300)]
    tally.add(make(tally, Arm("p"), times, [1.0] * 300))
    tally.add(make(tally, Arm("q"), times[:5], [1.0] * 5, item="b"))
    board = read_board(tally, tally.numbers())
    assert board.share.tolist() == pytest.approx([300 / 305, 5 / 305])
    sums = np.nan_to_num(board.share_over_time(np.array([0, 1]))).sum(0)
    assert np.allclose(sums[sums > 0], 1.0)


def test_arms_and_items_beyond_the_most_are_counted_together() -> None:
    tally = Tally()
    numbers = [tally.arm(Arm(f"p{n}")) for n in range(MOST_ARMS + 5)]
    assert numbers[-1] == numbers[-2] == tally.arms[Arm(OTHERS)]
    items = [tally.item(str(n)) for n in range(MOST_ITEMS + 3)]
    assert items[-1] == items[-2] == tally.item_numbers[OTHERS]


def test_a_version_changes_with_its_artefact_or_fold_and_not_with_a_step() -> None:
    tally = Tally()
    for time, version in enumerate(["a.f.1", "a.f.2", "b.f.3", "b.g.0", "b.g.9"]):
        tally.see_version(time, "p", version)
    assert [(change.time_us, change.version) for change in tally.changes] == [(0, "a.f"), (2, "b.f"), (3, "b.g")]


def test_merged_buckets_hold_what_was_in_them() -> None:
    starts, sums = np.arange(100) * MINUTE + START // MINUTE * MINUTE, np.ones((2, 100, 3))
    merged_starts, merged = merge_buckets(starts, MINUTE, sums, 30)
    assert len(merged_starts) <= 30
    assert merged.sum() == pytest.approx(sums.sum())
    assert set(np.diff(merged_starts).tolist()) == {4 * MINUTE}
