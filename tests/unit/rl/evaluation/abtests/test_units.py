"""Users of a test with their sums, by hand."""

import numpy as np
import pytest

from rl.evaluation.abtests.units import DECISIONS, GOAL, PAST, PAST_DECISIONS, Exposures, Units
from rl.evaluation.offpolicy.errors import EvaluationError

_DAY_US = 86_400_000_000


def exposures(rows: list[tuple[float, str, str, float]], **fields: object) -> Exposures:
    """Rows of a day, a unit, a variant and what was earned."""
    days, units, variants, earned = zip(*rows, strict=True)
    time_us = (np.array(days) * _DAY_US).astype(np.int64)
    return Exposures(time_us, units, variants, {GOAL: np.array(earned)}, **fields)  # type: ignore[arg-type]


def test_sums_of_users_over_several_adds() -> None:
    units = Units(("old", "new"))
    past = {"past": np.array([4.0, 0.0, 9.0]), "past_decisions": np.array([2.0, 0.0, 9.0])}
    units.add(exposures([(0.0, "u", "old", 1.0), (0.5, "v", "new", 3.0), (1.5, "u", "old", 2.0)], **past))
    units.add(exposures([(2.5, "w", "old", 5.0)]))
    assert (len(units), units.last_us) == (3, int(2.5 * _DAY_US))
    names = (DECISIONS, GOAL, PAST, PAST_DECISIONS)
    assert units.columns(names, units.of("old")).tolist() == [[2.0, 3.0, 4.0, 2.0], [1.0, 5.0, 0.0, 0.0]]
    assert units.columns(names, units.of("new")).tolist() == [[1.0, 3.0, 0.0, 0.0]]
    assert (units.decisions("old"), units.decisions("new")) == (3, 1)
    assert units.spread(GOAL, "old", 8 / 3) == pytest.approx(np.var([1.0, 2.0, 5.0]))
    assert units.by_day() == {"1970-01-01": {"old": 1, "new": 1}, "1970-01-03": {"old": 1, "new": 0}}


def test_a_user_belongs_to_the_variant_of_their_first_exposure() -> None:
    units = Units(("old", "new"))
    units.add(
        exposures([(0.0, "u", "old", 1.0), (0.1, "u", "new", 7.0), (0.2, "x", "gone", 7.0), (0.3, "u", "old", 1.0)])
    )
    assert units.columns((DECISIONS, GOAL), units.of("old")).tolist() == [[2.0, 2.0]]
    assert (len(units), units.decisions("new"), units.crossed("old"), units.crossed("new")) == (1, 0, 1, 0)
    assert units.ignored == {"of another variant than the user's first": 1, "of no variant of the test": 1}


def test_more_users_than_there_was_room_for() -> None:
    units = Units(("old", "new"), segments=("country",))
    rows = [(0.0, f"u{n}", ("old", "new")[n % 2], float(n)) for n in range(3_000)]
    units.add(exposures(rows, segments={"country": [("de", "fr")[n // 2 % 2] for n in range(3_000)]}))
    assert (len(units), units.decisions("old")) == (3_000, 1_500)
    assert units.columns((GOAL,), units.of("new")).sum() == sum(range(1, 3_000, 2))
    assert (units.of_segment("country") == "de").sum() == 1_500


def test_what_is_missing_is_named_and_nothing_is_added() -> None:
    units = Units(("old", "new"), metrics=(GOAL, "click"), segments=("country",))
    with pytest.raises(EvaluationError, match="exposures have no metric click"):
        units.add(exposures([(0.0, "u", "old", 1.0)]))
    units = Units(("old", "new"), segments=("country",))
    with pytest.raises(EvaluationError, match="exposures have no segment country"):
        units.add(exposures([(0.0, "u", "old", 1.0)]))
    assert len(units) == 0
    assert units.by_day() == {}
