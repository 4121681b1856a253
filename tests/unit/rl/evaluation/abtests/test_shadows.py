"""What variants that nobody is shown would have done, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from rl.evaluation.abtests.shadows import read_shadows_out
from rl.evaluation.abtests.specification import ReadSpec

FIXED = ReadSpec(kind="fixed", least_units=20)


def table(n: int, **columns: list[object]) -> pa.Table:
    """Decisions of a user each: the variant would have shown the same in three of four."""
    usual = {"variant": ["new"] * n, "decision_id": [f"d{k}" for k in range(n)], "match": [k % 4 > 0 for k in range(n)]}
    return pa.table(usual | columns)


def test_a_match_rate_with_its_interval() -> None:
    found = read_shadows_out(table(400), ["new", "other"], FIXED)
    new, other = found.shadows
    assert (new.users, new.decisions, new.earned, new.would_earn) == (400, 400, None, None)
    assert new.match is not None
    half = 1.959964 * np.sqrt(0.75 * 0.25 / 399)
    assert [new.match.value, new.match.low, new.match.high] == pytest.approx([0.75, 0.75 - half, 0.75 + half], abs=1e-3)
    assert (other.users, other.decisions, other.match) == (0, 0, None)
    assert found.switch_off == {}


def test_too_few_users_say_nothing_however_many_decisions_they_made() -> None:
    [found] = read_shadows_out(table(400, unit=[f"u{k % 19}" for k in range(400)]), ["new"], FIXED).shadows
    assert (found.users, found.decisions, found.match) == (19, 400, None)


def test_one_that_always_matches_has_an_interval_within_0_and_1() -> None:
    [found] = read_shadows_out(table(100, match=[True] * 100), ["new"], ReadSpec(least_units=20)).shadows
    assert found.match is not None
    assert (found.match.value, found.match.low, found.match.high) == (1.0, 0.0, 1.0)


def test_what_it_would_have_earned_is_weighed_by_how_much_oftener_it_shows_what_was_shown() -> None:
    """Shown evenly: what earns 1 with .8 by the variant, what earns 0 with .2; so it would earn .8, and .5 was."""
    good = [k % 2 == 0 for k in range(200)]
    columns: dict[str, list[object]] = {
        "reward": [float(one) for one in good],
        "propensity": [0.5] * 200,
        "probability": [0.8 if one else 0.2 for one in good],
    }
    [found] = read_shadows_out(table(200, **columns), ["new"], FIXED).shadows
    assert found.earned == pytest.approx(0.5)
    assert found.would_earn is not None
    assert found.would_earn.value == pytest.approx(0.8)
    assert found.would_earn.low < 0.8 < found.would_earn.high
