"""A fold that begins from a snapshot goes on bit by bit as the one that it was taken of."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from data.log.erasures import erase_from_store
from data.log.loops import fold_steps
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Features, Feedback
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.encoders.customers import CustomerEncoder
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.snapshot import Snapshot
from rl.online.snapshots import Snapshots, SnapshotSettings
from rl.provenance.capture import ProofSettings
from tests.support.clocks import Clock
from tests.support.shops import of_every_kind

SPEC = FoldSpec(reward=RewardSpec(wait_s=60.0, default=-0.1, aggregation="max"), learn_from="all")
ALWAYS = SnapshotSettings(every_s=1e-9)
NO_ERASURE = 0


@dataclass
class Shop:
    store: Store
    clock: Clock
    customers: CustomerEncoder
    settings: Settings

    def artefacts(self) -> dict[str, Artefact]:
        """Return policies that have learned nothing; the network reads histories."""
        return {name: replace(one, digest=f"{name:.8}") for name, one in of_every_kind(self.customers).items()}

    def learner(self, snapshot: Snapshot | None = None, fold_id: str | None = None) -> OnlineLearner:
        return OnlineLearner(self.store, self.artefacts(), SPEC, self.clock, fold_id, snapshot)

    def snapshots(self, when: SnapshotSettings = ALWAYS) -> Snapshots:
        return Snapshots(self.settings, when, self.clock)

    def live(self, learner: OnlineLearner, minutes: int, seed: int = 0) -> Iterator[None]:
        """Log decisions and reports: some late, some that correct others; yield after each poll of the learner."""
        rng, earlier = np.random.default_rng(seed), list[Decision]()
        for minute in range(minutes):
            decisions = [self._decision(f"{seed}-{minute}-{n}", rng) for n in range(8)]
            self.store.insert(decisions)
            learner.poll()
            yield
            reports = [
                Feedback(
                    feedback_id=f"{d.decision_id}/{kind}", decision_id=d.decision_id, kind=kind, item_id=d.slate[0]
                )
                for d in [*decisions, *earlier]
                for kind in ("view", "click", "purchase")
                if rng.random() < 0.3
            ]
            self.store.insert(reports)
            self.clock.advance(7)
            learner.poll()
            yield
            self.clock.advance(40)
            learner.poll()
            yield
            earlier = decisions

    def _decision(self, name: str, rng: np.random.Generator) -> Decision:
        items = tuple(rng.choice(self.customers.items, size=4, replace=False).tolist())
        user = str(rng.choice(self.customers.users[:6]))
        return Decision(
            decision_id=name,
            time=self.clock.now,
            user_id=user,
            candidates=items,
            slate=items[:2],
            propensities=(0.25, 1 / 3),
            scores=(0.0, 0.0),
            policy="linear_thompson",
            policy_version="none",
            mode="explore",
            features=Features(
                context=({"hour": int(rng.integers(24)), "user": user},), items=tuple(({"id": item},) for item in items)
            ),
        )


@pytest.fixture
def shop(tmp_path: Path, encoder: CustomerEncoder) -> Iterator[Shop]:
    clock = Clock()
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)
    yield Shop(store, clock, encoder, Settings(home=tmp_path / "home", store=None, archive=None))
    store.close()


def state(learner: OnlineLearner) -> dict[str, object]:
    """Return all that a fold's later steps depend on, to be compared bit by bit."""
    snapshot = learner.snapshot()
    assert snapshot is not None
    arrays = {**{f"windows {name}": array for name, array in snapshot.windows.items()}}
    for policy, of_policy in snapshot.policies.items():
        arrays |= {f"{policy} {name}": array for name, array in of_policy.items()}
    bits = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
    assert snapshot.histories is not None
    cursor = snapshot.cursor.model_dump(exclude={"fold_id", "number", "as_of"})
    return {**bits, "histories": snapshot.histories.to_json(), "cursor": cursor}


def written(snapshot: Snapshot, folder: Path) -> Snapshot:
    folder.mkdir()
    snapshot.save(folder)
    return Snapshot.load(folder)


@pytest.mark.heavy
def test_a_fold_is_the_same_with_and_without_snapshots_at_every_cut(shop: Shop, tmp_path: Path) -> None:
    learner = shop.learner()
    cuts = []
    for _ in shop.live(learner, minutes=5):
        snapshot = learner.snapshot()
        assert snapshot is not None
        cuts.append(snapshot)
    whole, steps = state(learner), fold_steps(shop.store, learner.fold_id)
    assert len(cuts) == 15
    assert learner.set_aside.count == 0
    assert set(learner.answering_windows) == {"forgetting"}
    assert cuts[-1].policies["forgetting"]["begin"].any()  # a window has begun
    assert all(
        np.asarray(cuts[-1].policies[name][array]).any() for name, array in (("rfm_bandit", "counts"), ("crossed", "S"))
    )
    for number, cut in enumerate(cuts):
        again = shop.learner(written(cut, tmp_path / str(number)), learner.fold_id)
        assert again.number == cut.cursor.number
        for step in steps:
            if step.number > again.number:
                again.replay(step)
        assert state(again) == whole, f"cut {number}"


@pytest.mark.heavy
def test_a_new_fold_goes_on_from_a_snapshot_with_what_it_has_not_read(shop: Shop) -> None:
    learner, snapshots = shop.learner(), shop.snapshots()
    assert not snapshots.offer(learner, shop.store, NO_ERASURE)  # time counts from here
    for cut, _ in enumerate(shop.live(learner, minutes=3)):
        if cut == 4:
            assert snapshots.offer(learner, shop.store, NO_ERASURE)
    found = snapshots.newest(shop.store, SPEC, digests(shop), NO_ERASURE)
    assert found is not None
    restarted = shop.learner(found)
    restarted.catch_up()
    begins = fold_steps(shop.store, restarted.fold_id)[0].begins
    assert begins is not None
    assert begins["from"] == {"fold_id": learner.fold_id, "number": found.cursor.number}
    assert restarted.positions == learner.positions
    for policy, arrays in learner.snapshot().policies.items():  # type: ignore[union-attr]
        for name, array in arrays.items():  # grouped otherwise: equal but for rounding
            # When a network is trained, and what is predicted how well, depends on the groups.
            if policy != "neural_linear" and name not in ("evidence", "noise", "scored"):
                after = restarted.snapshot().policies[policy][name]  # type: ignore[union-attr]
                np.testing.assert_allclose(after, array, rtol=1e-9, atol=1e-9)


def digests(shop: Shop) -> dict[str, str]:
    return {name: artefact.digest for name, artefact in shop.artefacts().items()}


def names(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.settings.home / "archive/snapshots").glob("*.tar"))


def test_one_that_is_damaged_is_passed_over(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    learner, snapshots, saved = shop.learner(), shop.snapshots(), []
    for _ in shop.live(learner, minutes=2):
        if snapshots.offer(learner, shop.store, NO_ERASURE):
            saved.append(learner.number)
    (shop.settings.home / "archive/snapshots" / names(shop)[-1]).write_bytes(b"no snapshot")
    with caplog.at_level(logging.WARNING, "ray.serve"):
        found = shop.snapshots().newest(shop.store, SPEC, digests(shop), NO_ERASURE)
    assert found is not None
    assert found.cursor.number == saved[-2]
    assert "is passed over" in caplog.text


def test_only_those_of_the_same_beginning_and_log_are_taken(shop: Shop, tmp_path: Path) -> None:
    learner, snapshots = shop.learner(), shop.snapshots()
    for _ in shop.live(learner, minutes=1):
        snapshots.offer(learner, shop.store, NO_ERASURE)
    known = digests(shop)
    other = SPEC.model_copy(update={"objective": "other"})
    assert snapshots.newest(shop.store, SPEC, known, NO_ERASURE) is not None
    assert snapshots.newest(shop.store, other, known, NO_ERASURE) is None
    assert snapshots.newest(shop.store, SPEC, known | {"crossed": "another"}, NO_ERASURE) is None
    assert snapshots.newest(shop.store, SPEC, known, 1) is None
    another_log = Store.open(f"sqlite:///{tmp_path / 'another.db'}", shop.clock)
    assert snapshots.newest(another_log, SPEC, known, NO_ERASURE) is None
    another_log.close()


def test_they_are_saved_by_time_or_by_decisions_and_only_if_something_was_learned(shop: Shop) -> None:
    learner, seldom = shop.learner(), shop.snapshots(SnapshotSettings(every_s=3600, every_decisions=12))
    due = [seldom.offer(learner, shop.store, NO_ERASURE) for _ in shop.live(learner, minutes=3)]
    assert due == [False] * 3 + [True] + [False] * 5  # after 16 decisions; the next would be after 28
    always = shop.snapshots()
    always.offer(learner, shop.store, NO_ERASURE)  # time counts from here
    assert always.offer(learner, shop.store, NO_ERASURE)
    assert not always.offer(learner, shop.store, NO_ERASURE)


@pytest.mark.heavy
def test_the_last_three_and_the_first_of_each_day_are_kept_for_a_while(shop: Shop) -> None:
    learner, snapshots = shop.learner(), shop.snapshots(SnapshotSettings(every_s=1e-9, keep_days=2))
    for day in range(4):
        for _ in shop.live(learner, minutes=2, seed=day):
            snapshots.offer(learner, shop.store, NO_ERASURE)
        shop.clock.advance(timedelta(days=1).total_seconds())
    days = [name.split("-")[3][:8] for name in names(shop)]
    first = shop.clock.now - timedelta(days=4)
    kept = [f"{first + timedelta(days=n):%Y%m%d}" for n in range(4)]
    assert days == [kept[2], *[kept[3]] * 4]  # on the second day it was earlier, by as long as a day's visits take


def test_an_archive_that_does_not_answer_stops_no_learning(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    archive = shop.settings.home / "archive"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_text("a file where a folder should be")
    learner, snapshots = shop.learner(), shop.snapshots()
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert not any(snapshots.offer(learner, shop.store, NO_ERASURE) for _ in shop.live(learner, minutes=1))
        assert snapshots.newest(shop.store, SPEC, digests(shop), NO_ERASURE) is None
    assert "was not saved, it goes on" in caplog.text
    assert learner.number > 0


def test_a_forgotten_user_is_in_no_history_and_none_is_saved_with_them(shop: Shop) -> None:
    learner, snapshots = shop.learner(), shop.snapshots()
    for _ in shop.live(learner, minutes=2):
        snapshots.offer(learner, shop.store, NO_ERASURE)
    forgotten = next(iter(dict(learner.histories.to_json())))  # type: ignore[union-attr]
    erase_from_store(shop.store, forgotten)
    learner.poll()
    assert not snapshots.offer(learner, shop.store, NO_ERASURE)
    assert snapshots.forget(forgotten) == len(names(shop))
    assert snapshots.forget(forgotten) == 0
    for path in (shop.settings.home).rglob("*"):
        assert path.is_dir() or f'"{forgotten}"'.encode() not in path.read_bytes()
    assert snapshots.before(learner.fold_id, learner.number) is not None


@pytest.mark.parametrize("days", [-1.0, 1e9, float("inf"), float("nan")])
def test_days_that_no_calendar_has_are_refused(days: float) -> None:
    for settings in (SnapshotSettings, ProofSettings):
        with pytest.raises(ValidationError, match="keep_days"):
            settings(keep_days=days)
