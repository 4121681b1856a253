"""Every decision that was served can be made again from the log, and one that was tampered with is found."""

import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from data.archive.run import archive_days
from data.log.archiving.retention import Retention
from data.log.errors import StoreUnavailable
from data.log.loops import begun_folds
from data.log.store import Store
from data.log.tables import ERASURES
from data.reward import RewardSpec
from data.schema import Feedback, Rules
from data.settings import Settings
from rl.artefacts.shelf import shelve
from rl.online.fold import FoldSpec
from rl.online.snapshots import Snapshots, SnapshotSettings
from rl.provenance.replay import origin_of
from serve.audit.run import (
    Audit,
    Calibration,
    audit,
    main,
)
from serve.decisions.served import Served
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.support.shops import POLICIES, save_policies, small_market
from tests.support.visits import visit

pytestmark = pytest.mark.heavy

SPEC = RewardSpec(wait_s=0.05)
DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_policies(tmp_path, small_market()[1])
    return Settings(home=tmp_path, store=None, archive=None)


def live(store: Store, settings: Settings, decisions: int, seed: int, saved: bool = False) -> None:
    """Serve a loop with all policies and let it learn; the learner is new, as after a restart."""
    digests = {name: shelve(settings.home / "policies" / name, settings).digest for name in POLICIES}
    plan = Plan(FoldSpec(reward=SPEC, learn_from="all"), digests)
    when = SnapshotSettings(every_s=1e-9 if saved else 3600)
    loops = Loops(store, settings, [lambda: [plan]], lambda: datetime.now(UTC), when)
    served = Served({"v1": dict.fromkeys(POLICIES, 1.0)})
    rng = np.random.default_rng(seed)
    for n in range(decisions):
        served.take(loops.news(served.steps()))
        rules = Rules(boosts={"20003": 0.5}, pins={"20005": 1}) if n % 7 == 0 else None
        mode = "exploit" if n % 5 == 0 else "explore"
        recommender, user = served.at("v1"), f"1200{n % 9}"
        one = visit(recommender, f"{seed}/{n}", datetime.now(UTC), 3, user, rules=rules, mode=mode)
        decision = recommender.decide(one)
        report = Feedback(
            feedback_id=f"{seed}/{n}", decision_id=decision.decision_id, kind="click", item_id=decision.slate[0]
        )
        store.insert([decision, report] if rng.random() < 0.6 else [decision])
        if n % 3 == 0:
            loops.poll()
        if n % 10 == 0:
            loops.save()


def found(store: Store, settings: Settings, *, from_snapshots: bool = True) -> Audit:
    now = datetime.now(UTC)
    return audit(store, settings, now - DAY, now + DAY, from_snapshots=from_snapshots)


def test_every_decision_is_made_again_bit_by_bit(store: Store, settings: Settings) -> None:
    for seed in range(3):  # three lives: the second and third begin with what the log has
        live(store, settings, 40, seed)
    report = found(store, settings)
    assert (report.decisions, report.mismatches) == (120, [])
    versions = {decision.policy_version for _, decision in store.decisions()}
    assert len({version.split(".")[1] for version in versions}) == 3
    assert len(versions) > 30


def archive_all(settings: Settings, days: float = 2.0, **retained: int) -> None:
    """Archive today's decisions, as on a later day."""
    later = Store.open(settings.store_url, lambda: datetime.now(UTC) + days * DAY)
    done = archive_days(later, settings, Retention(**retained))
    assert done.moved.keys() <= {"decisions", "feedback", "versions"}
    later.close()


@pytest.mark.slow
def test_archived_decisions_are_made_again_bit_by_bit(store: Store, settings: Settings) -> None:
    for seed in range(2):
        live(store, settings, 40, seed, saved=True)
        archive_all(settings)
        assert [seq for seq, _ in store.decisions()] == [*range(1, 40 * (seed + 1) + 1)]
    live(store, settings, 40, seed=2)  # learns all of it anew, or from a snapshot of what is archived now
    for from_snapshots in (True, False):
        report = found(store, settings, from_snapshots=from_snapshots)
        assert (report.decisions, report.mismatches, report.provable_since) == (120, [], None)


def test_what_is_not_kept_any_more_is_told_from_what_differs(store: Store, settings: Settings) -> None:
    live(store, settings, 40, seed=0)
    archive_all(settings)
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM feedback").scalar_one() == 0
    archive_all(settings, days=30, feedback=7)
    report = found(store, settings)
    assert report.mismatches == []
    assert report.expired > 10
    assert report.provable_since == datetime.now(UTC).date() + DAY
    assert report.report()["not_repeatable_after_retention"] == report.expired


@pytest.mark.parametrize("from_snapshots", [True, False])
def test_what_needs_expired_steps_of_a_former_fold_is_told_from_what_differs(
    store: Store, settings: Settings, from_snapshots: bool
) -> None:
    live(store, settings, 40, seed=0, saved=True)
    archive_all(settings)
    live(store, settings, 40, seed=1, saved=True)
    second, first = begun_folds(store, "v1", None)
    origin = origin_of(second)
    assert origin is not None
    assert origin[0] == first.fold_id
    archive_all(settings, days=30, old_steps=7)
    report = found(store, settings, from_snapshots=from_snapshots)
    assert (report.mismatches, report.repeated + report.expired) == ([], 80)
    if not from_snapshots:
        assert report.expired >= 40, "nothing of the second fold can be proved without the steps of the first"


def test_what_was_tampered_with_is_found(store: Store, settings: Settings) -> None:
    live(store, settings, 30, seed=0)
    changes = {
        "0/4": "UPDATE decisions SET propensities = '[0.5,0.5,0.5]' WHERE decision_id = '0/4'",
        "0/8": "UPDATE decisions SET candidates = '[\"20001\",\"20002\"]' WHERE decision_id = '0/8'",
        "0/9": "UPDATE decisions SET policy_version = replace(policy_version, '.', '-') WHERE decision_id = '0/9'",
    }
    with sqlite3.connect(settings.home / "store.db") as connection:
        for change in changes.values():
            connection.execute(change)
    mismatches = found(store, settings).mismatches
    assert {line.split(":")[0] for line in mismatches} == set(changes)
    assert any("propensities is (0.5, 0.5, 0.5) in the log" in line for line in mismatches)
    assert any("does not know the fold" in line for line in mismatches)


def test_feedback_that_was_removed_changes_what_was_learned(store: Store, settings: Settings) -> None:
    live(store, settings, 30, seed=0)
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute("DELETE FROM feedback WHERE seq <= 5")
    assert found(store, settings).mismatches
    with store.writing() as writing:  # but if a user was forgotten since, it is said so
        writing.execute(sa.insert(ERASURES), [{"time": datetime.now(UTC), "rows": 5}])
    after = found(store, settings)
    assert (after.mismatches, after.erased.total() > 0) == ([], True)


def test_a_policy_that_was_changed_on_disk_is_refused(store: Store, settings: Settings) -> None:
    live(store, settings, 5, seed=0)
    for kept in (settings.home / "archive/served").iterdir():
        kept.write_bytes(b"something else")
    shutil.rmtree(settings.home / "cache")
    report = found(store, settings)
    assert len(report.mismatches) == 5
    assert all("sha256" in line for line in report.mismatches)


def test_folds_that_began_from_snapshots_are_made_again_with_and_without_them(store: Store, settings: Settings) -> None:
    for seed in range(3):
        live(store, settings, 40, seed, saved=True)
    began = [version.begins for version in begun_folds(store, "v1", "default")]
    assert ["from" in (begins or {}) for begins in began] == [True, True, False]
    for from_snapshots in (True, False):
        report = found(store, settings, from_snapshots=from_snapshots)
        assert (report.decisions, report.mismatches) == (120, [])
    shutil.rmtree(settings.home / "archive/snapshots")  # the log is enough
    assert found(store, settings).mismatches == []


def test_a_snapshot_that_is_not_what_the_log_gives_is_found_from_the_beginning(
    store: Store, settings: Settings
) -> None:
    live(store, settings, 58, seed=0, saved=True)
    snapshots = Snapshots(settings)
    (first,) = begun_folds(store, "v1", "default")
    snapshot = snapshots.before(first.fold_id, 1_000)
    assert snapshot is not None
    later = [d.time for _, d in store.decisions() if int(d.policy_version.split(".")[2]) >= snapshot.cursor.number]
    now = datetime.now(UTC)
    assert audit(store, settings, later[0], now).mismatches == []
    forged = {**snapshot.policies, "rfm_bandit": {n: a + 1.0 for n, a in snapshot.policies["rfm_bandit"].items()}}
    snapshots.save(replace(snapshot, policies=forged), 0)
    assert audit(store, settings, later[0], now).mismatches
    assert audit(store, settings, later[0], now, from_snapshots=False).mismatches == []


def test_a_log_that_does_not_answer_as_a_fold_begins_is_no_mismatch(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(store, settings, 5, 0)

    def fail(*_: object) -> None:
        raise StoreUnavailable("the database is starting up")

    monkeypatch.setattr("serve.audit.replay.begin_replay", fail)
    with pytest.raises(StoreUnavailable, match="starting up"):
        found(store, settings)


def test_calibration_by_hand() -> None:
    calibration = Calibration()
    for _ in range(10):
        calibration.add(np.array([0.05, 0.95, 0.0]), chosen=1)
    calibration.add(np.array([0.05, 0.95, 0.0]), chosen=0)
    low, high = calibration.rows()
    assert (low["from"], low["to"], low["candidates"]) == (0.03, 0.1, 11)
    assert low["probability"] == pytest.approx(0.05)
    assert low["frequency"] == pytest.approx(1 / 11)
    assert low["z"] == pytest.approx((1 - 0.55) / np.sqrt(11 * 0.05 * 0.95), abs=0.005)
    assert high["frequency"] == pytest.approx(10 / 11)
    assert high["z"] == pytest.approx(-low["z"])


def test_a_draw_that_is_not_from_the_distribution_shows() -> None:
    """A sampler broken on purpose: it takes the likeliest twice as often as it says."""
    rng = np.random.default_rng(0)
    honest, broken = Calibration(), Calibration()
    p = np.array([0.4, 0.35, 0.25])
    for _ in range(2_000):
        honest.add(p, int(rng.choice(3, p=p)))
        broken.add(p, int(rng.choice(3, p=[0.8, 0.1, 0.1])))
    assert max(abs(row["z"]) for row in honest.rows()) < 4
    assert max(abs(row["z"]) for row in broken.rows()) > 10


def test_the_command(store: Store, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    live(store, settings, 12, seed=0)
    assert main(["--home", str(settings.home)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["decisions"], report["mismatches"]) == (12, 0)
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")
    assert report["mean_candidates"] > 1
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute("UPDATE decisions SET scores = '[1,1,1]'")
    assert main(["--home", str(settings.home)]) == 1
    assert main(["--home", str(settings.home), "--day", "2001-01-01"]) == 0  # nothing was decided then


@pytest.mark.parametrize("option", ["--day=9999-12-31", "--day=tomorrow", "--picture=audit.doc"])
def test_a_wrong_option_is_refused_before_anything_is_read(option: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--home", str(tmp_path / "home"), option])
    assert not (tmp_path / "home").exists()
