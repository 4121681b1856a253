"""What becomes of reports, at the rates that were asked for; and interests that shift."""

import numpy as np
import pytest

from data.errors import DataError
from serve.traffic.disorder import Delay, Disorder, Names, Shift

N = 4_000


def fates(disorder: Disorder) -> list[tuple[bool, tuple[float, ...]]]:
    return [disorder.fate(np.random.default_rng([0, number])) for number in range(N)]


def test_nothing_happens_unless_it_is_asked_for() -> None:
    assert set(fates(Disorder())) == {(False, (0.0,))}


def test_the_rates_are_those_that_were_asked_for() -> None:
    disorder = Disorder(Delay("fixed", (1.0,)), late=0.2, late_by_s=100.0, duplicates=0.2, lost=0.05)
    drawn = fates(disorder)
    sent = [(late, times) for late, times in drawn if times]
    sd = 4 / np.sqrt(N)  # four standard errors of a share, at most
    assert abs(1 - len(sent) / N - 0.05) < sd * 0.22
    assert abs(np.mean([late for late, _ in sent]) - 0.2) < sd * 0.4
    assert abs(np.mean([len(times) == 2 for _, times in sent]) - 0.2) < sd * 0.4
    assert {times[0] for late, times in sent if late} == {101.0}
    assert {times[0] for late, times in sent if not late} == {1.0}
    assert {times[1] - times[0] for _, times in sent if len(times) == 2} == {1.0}


def test_shuffled_ones_come_later_than_others_that_were_made_after_them() -> None:
    late = [times[0] for _, times in fates(Disorder(shuffled=0.3, shuffled_within_s=5.0))]
    assert abs(np.mean([time > 0 for time in late]) - 0.3) < 4 * np.sqrt(0.21 / N)
    assert max(late) <= 5.0
    assert abs(np.mean([time for time in late if time > 0]) - 2.5) < 4 * 5 / np.sqrt(12 * 0.3 * N)


@pytest.mark.parametrize(
    ("text", "mean", "sd"),
    [("fixed:3", 3.0, 0.0), ("uniform:2:6", 4.0, 4 / np.sqrt(12)), ("exponential:30", 30.0, 30.0)],
)
def test_a_delay_has_the_mean_of_its_distribution(text: str, mean: float, sd: float) -> None:
    rng = np.random.default_rng(0)
    delay = Delay.parse(text)
    drawn = [delay.draw(rng) for _ in range(N)]
    assert abs(np.mean(drawn) - mean) <= 4 * sd / np.sqrt(N)


def test_a_lognormal_delay_has_its_median() -> None:
    rng, delay = np.random.default_rng(0), Delay.parse("lognormal:20:1.5")
    below = np.mean([delay.draw(rng) < 20 for _ in range(N)])
    assert abs(below - 0.5) < 4 * 0.5 / np.sqrt(N)


@pytest.mark.parametrize("text", ["", "fixed", "fixed:-1", "fixed:nan", "uniform:5:2", "normal:1:2", "exponential:1:2"])
def test_what_is_no_delay_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"a delay is fixed:S, .* got"):
        Delay.parse(text)


@pytest.mark.parametrize("text", ["", "10", "10:0", "10:1.5", "-1:0.5", "x:0.5"])
def test_what_is_no_shift_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"a shift is VISIT:SHARE"):
        Shift.parse(text)


def test_a_shift_moves_as_many_names_as_it_says_from_its_visit_on() -> None:
    items = [f"item {number}" for number in range(20)]
    shifts = [Shift.parse("100:0.5"), Shift.parse("50:0.1")]
    names = Names(items, shifts, np.random.default_rng(0))
    assert names.at(0).names == names.at(49).names == tuple(items)
    first, second = names.at(50).names, names.at(100).names
    assert names.at(99).names == first
    assert sum(a != b for a, b in zip(items, first, strict=True)) == 2
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 10
    assert sorted(second) == sorted(items)
    assert all(names.at(100).names[number] == name for name, number in names.at(100).numbers.items())
