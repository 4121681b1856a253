"""A look for drift in a log of which is known what has changed, and when."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.drift import DriftSpec, find_drift, main
from tests.support.clocks import NOON, Clock
from tests.support.logs import Written

WAIT = 60.0
SPEC = DriftSpec(reward=RewardSpec(wait_s=WAIT))
BEFORE, AFTER, MINUTE = 300, 300, timedelta(minutes=1)
CHANGE = NOON + BEFORE * MINUTE


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Written]:
    clock = Clock()
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        yield Written(store, clock)


def click(rng: np.random.Generator, changed: bool, what: str) -> bool:
    return bool(rng.random() < (0.2 if changed and what == "reward" else 0.8))


def write(log: Written, what: str = "", distributions: bool = False) -> None:
    """A decision of two items a minute, what was expected of it .8; something changes after 300."""
    rng, decisions, reports = np.random.default_rng(6), list[Decision](), list[Feedback]()
    for number in range(BEFORE + AFTER):
        changed = number >= BEFORE
        weather = "rain" if rng.random() < (0.9 if changed and what == "weather" else 0.3) else "sun"
        size = rng.normal() + (2.0 if changed and what == "size" else 0.0)
        first = rng.random() < (0.9 if changed and what == "propensity" else 0.4)
        decisions.append(
            Decision(
                decision_id=f"d{number}",
                time=NOON + number * MINUTE,
                context={
                    "weather": weather,
                    "size": float(size),
                    "time": f"{NOON + number * MINUTE:%Y-%m-%dT%H:%M:%SZ}",
                },
                candidates=("a", "b"),
                slate=("a",) if first else ("b",),
                propensities=(0.4,) if first else (0.6,),
                probabilities=(0.4, 0.6) if distributions else (),
                scores=(0.8,),
                policy="p",
                policy_version="1",
            )
        )
        if click(rng, changed, what):
            shown = decisions[-1].slate[0]
            reports.append(Feedback(feedback_id=f"f{number}", decision_id=f"d{number}", item_id=shown, kind="click"))
    for number, decision in enumerate(decisions):
        log.clock.now = decision.time
        if number % 100 == 0:
            log.store.insert(decisions[number : number + 100])
    told = {report.decision_id: report for report in reports}
    for decision in decisions:
        log.clock.now = decision.time + timedelta(seconds=1)
        if decision.decision_id in told:
            log.store.insert([told[decision.decision_id]])
    log.clock.advance(1_000)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("what", "stream"),
    [("", None), ("reward", "reward"), ("weather", "feature:weather"), ("size", "feature:size")],
)
def test_what_has_changed_is_found_and_nothing_else(log: Written, what: str, stream: str | None) -> None:
    """Compared with what was before 200, and each with all before: at α = .01 in time of the change or after it."""
    write(log, what)
    for since in (NOON + 200 * MINUTE, None):
        report = find_drift(log.store, SPEC, since=since)
        assert set(report.streams) == {"reward", "earned", "propensity", "feature:size", "feature:weather"}
        assert {name for name, one in report.streams.items() if one.drifted} == ({stream} if stream else set())
        assert report.drifted == bool(stream)
        assert (report.decisions, report.reference) == ((600, 0) if since is None else (400, 200))
        if stream:
            found = report.streams[stream]
            assert found.time is not None
            assert CHANGE < found.time <= CHANGE + 150 * MINUTE
            assert found.began is not None
            assert abs(found.began - CHANGE) <= 40 * MINUTE
            assert stream in report.verdict
        else:
            assert report.verdict.startswith("nothing has changed")


@pytest.mark.heavy
@pytest.mark.parametrize("what", ["", "nothing sells", "another drink sells"])
def test_a_change_that_a_policy_soon_predicts_is_found(log: Written, what: str) -> None:
    """Each page sells one of two drinks, .6 of the time, and a policy that learns expects what there was of late.

    From the 750th of 1,500 decisions on nothing sells, or the other drink: it has got over that in 20 decisions a page.
    """
    rng, expected = np.random.default_rng(8), np.full((2, 2), 0.3)
    decisions, reports = list[Decision](), list[Feedback]()
    for number in range(1_500):
        page, changed = int(rng.integers(2)), number >= 750
        drink = int(expected[page].argmax()) if rng.random() > 0.1 else int(rng.integers(2))
        best = 1 - page if changed and what == "another drink sells" else page
        sold = drink == best and rng.random() < 0.6 and not (changed and what == "nothing sells")
        chance = 0.95 if drink == expected[page].argmax() else 0.05
        decisions.append(
            Decision(
                decision_id=f"d{number}",
                time=NOON + number * MINUTE,
                context={"page": f"page{page}"},
                candidates=("tea", "coffee"),
                slate=("tea", "coffee")[drink : drink + 1],
                propensities=(chance,),
                scores=(float(expected[page, drink]),),
                policy="p",
                policy_version="1",
            )
        )
        expected[page, drink] += 0.1 * (sold - expected[page, drink])
        if sold:
            shown = decisions[-1].slate[0]
            reports.append(Feedback(feedback_id=f"f{number}", decision_id=f"d{number}", item_id=shown, kind="click"))
    log.clock.now = decisions[-1].time
    log.store.insert(decisions)
    told = {report.decision_id: report for report in reports}
    for decision in decisions:
        if decision.decision_id in told:
            log.clock.now = decision.time + timedelta(seconds=1)
            log.store.insert([told[decision.decision_id]])
    log.clock.now = decisions[-1].time + timedelta(seconds=1_000)
    for since in (None, NOON + 500 * MINUTE):
        report_ = find_drift(log.store, SPEC, since=since)
        assert report_.drifted == bool(what)
        if what:
            found = report_.streams["earned"]
            assert found.time is not None
            assert NOON + 750 * MINUTE < found.time <= NOON + 850 * MINUTE
            assert found.began is not None
            assert abs(found.began - NOON - 750 * MINUTE) <= 40 * MINUTE


@pytest.mark.heavy
@pytest.mark.parametrize("distributions", [True, False])
def test_items_that_are_shown_oftener_than_was_logged_are_noticed(log: Written, distributions: bool) -> None:
    write(log, "propensity", distributions)
    report = find_drift(log.store, SPEC, since=CHANGE)
    assert {name for name, one in report.streams.items() if one.drifted} == {"propensity"}
    assert not find_drift(log.store, SPEC, until=CHANGE - MINUTE).drifted


def test_an_empty_log_and_one_that_has_nothing_new(log: Written) -> None:
    report = find_drift(log.store, SPEC)
    assert (report.drifted, report.decisions, report.streams) == (False, 0, {})
    assert report.verdict.startswith("no decision to watch")
    log.decide()
    log.clock.advance(1_000)
    assert find_drift(log.store, SPEC, since=NOON + timedelta(days=1)).decisions == 0
    assert find_drift(log.store, SPEC, since=NOON - timedelta(days=1)).decisions == 1


def test_the_command_prints_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    Store.open(f"sqlite:///{tmp_path / 'store.db'}").close()
    (tmp_path / "drift.toml").write_text("alpha = 0.001\nfeatures = ['country']\n[reward]\nwait_s = 5.0\n")
    assert main(["--since", "2026-01-01T00:00:00Z", "--spec", str(tmp_path / "drift.toml")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["drifted"], report["since"]) == (False, "2026-01-01T00:00:00Z")
    (tmp_path / "drift.toml").write_text("alpha = 2.0\n")
    assert main(["--spec", str(tmp_path / "drift.toml")]) == 2
    assert "alpha" in capsys.readouterr().err
