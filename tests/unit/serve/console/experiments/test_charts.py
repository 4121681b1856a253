"""Intervals on one axis, by hand."""

import pytest

from rl.evaluation.abtests.estimates.intervals import Range
from rl.evaluation.abtests.scorecard import Row as ScoreRow
from serve.console.experiments.charts import Bar, draw_rows


def row(
    low: float, value: float, high: float, role: str = "goal", finding: str = "unclear", **fields: object
) -> ScoreRow:
    given = {
        "metric": "m",
        "role": role,
        "variant": "new",
        "finding": finding,
        "control_mean": 2.0,
        "mean": 2.0,
        "difference": Range(value=value * 2, low=low * 2, high=high * 2),
        "deviation": 0.1,
        "lift": Range(value=value, low=low, high=high),
        "interval": "sequential",
        "alpha": 0.05,
        "adjusted": False,
    }
    return ScoreRow.model_validate(given | fields)


def test_places_are_shares_of_the_axis() -> None:
    bar = Bar.of(-0.5, 0.0, 1.0, (-1.0, 1.0), margin=-0.2)
    assert (bar.low, bar.value, bar.high, bar.zero, bar.margin, bar.beyond) == (25.0, 50.0, 100.0, 50.0, 40.0, False)
    bar = Bar.of(-3.0, 0.5, 9.0, (-1.0, 1.0), margin=-2.0)
    assert (bar.low, bar.value, bar.high, bar.margin, bar.beyond) == (0.0, 75.0, 100.0, None, True)
    assert Bar.of(0.4, 0.6, 0.7, (0.0, 1.0)).zero == 50.0  # a preference: half is even


def test_all_rows_have_one_axis_which_a_wide_one_does_not_crowd() -> None:
    narrow, wide = draw_rows([row(-0.1, 0.0, 0.1), row(-5.0, 0.0, 5.0)])
    assert narrow.bar is not None
    assert wide.bar is not None
    assert narrow.bar.high - narrow.bar.low == pytest.approx(100 / 6.3, abs=0.05)  # 6 times the narrowest, and a rim
    assert (wide.bar.low, wide.bar.high, wide.bar.beyond) == (0.0, 100.0, True)


def test_a_guardrails_margin_is_a_share_of_the_controls_mean() -> None:
    (drawn,) = draw_rows([row(-0.2, 0.0, 0.2, "guardrail", margin=-0.2)])  # of 2: a tenth
    assert drawn.bar is not None
    assert drawn.bar.margin == pytest.approx(50 - 50 * 0.1 / 0.21, abs=0.01)


@pytest.mark.parametrize(
    ("finding", "light"),
    [("better", "good"), ("holds", "good"), ("worse", "bad"), ("broken", "bad"), ("unclear", ""), ("higher", "")],
)
def test_colours_say_what_findings_say(finding: str, light: str) -> None:
    assert draw_rows([row(-1, 0, 1, finding=finding)])[0].light == light


def test_without_a_lift_the_difference_is_said_and_nothing_is_drawn() -> None:
    (drawn,) = draw_rows([row(-1, 0, 1, lift=None)])
    assert (drawn.bar, drawn.relative) == (None, False)
    assert drawn.found is not None
    assert drawn.found.high == 2
    (drawn,) = draw_rows([row(-1, 0, 1, lift=None, difference=None)])
    assert drawn.found is None
