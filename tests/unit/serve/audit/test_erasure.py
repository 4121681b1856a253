"""Decisions about others are made again bit by bit after a user was forgotten, and nothing names the user any more."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from safetensors.numpy import load
from safetensors.numpy import save as pack

from data.archive.objects import Objects
from data.log.erasures import decisions_of, erase_from_store, list_erasures
from data.log.following import last_feedback
from data.log.loops import begun_folds, fold_steps
from data.log.store import Store
from data.log.tables import ERASURES
from data.reward import RewardSpec
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.artefact import save
from rl.artefacts.shelf import shelve
from rl.online.fold import FoldSpec
from rl.online.snapshots import SnapshotSettings
from rl.provenance.capture import ProofSettings, capture
from rl.provenance.erasure import carry_out, prove
from rl.provenance.proofs import Proofs
from serve.audit.run import Audit, audit
from serve.decisions.served import Served
from serve.entities.forgetting import forget
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.support.shops import of_every_kind, small_market
from tests.support.visits import visit

pytestmark = pytest.mark.heavy

SPEC = RewardSpec(wait_s=0.05, default=-0.1)
DAY = timedelta(days=1)
ITEMS = small_market()[1].items
HEAVY, SECOND, THIRD = "12000", "12001", "12002"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, artefact in of_every_kind(small_market()[1]).items():
        save(artefact, tmp_path / "policies" / name)
    return Settings(home=tmp_path, store=None, archive=None)


@pytest.fixture
def child() -> None:
    """Let a child do it, as in a service."""


@pytest.fixture(autouse=True)
def no_child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process do what a child would, but where a test asks for `child`."""
    if "child" not in request.fixturenames:
        monkeypatch.setattr("rl.provenance.erasure.run_child", carry_out)


class Shop:
    """A service that learns with all policies; its learner is new where one is made, as after a restart."""

    def __init__(self, store: Store, settings: Settings, seed: int, saved: bool = False) -> None:
        self.store, self.settings, self.seed, self.saved = store, settings, seed, saved
        self.digests = {
            path.name: shelve(path, settings).digest for path in sorted((settings.home / "policies").iterdir())
        }
        when = SnapshotSettings(every_s=1e-9 if saved else 3600)
        self.shift = timedelta(0)
        self.loops = Loops(store, settings, [self.plans], lambda: datetime.now(UTC) + self.shift, when)
        self.served = Served({"v1": dict.fromkeys(self.digests, 1.0)})
        self.rng = np.random.default_rng(seed)

    def plans(self) -> list[Plan]:
        erasures = max(list_erasures(self.store), default=0)
        return [Plan(FoldSpec(reward=SPEC, learn_from="all"), self.digests, erasures)]

    def live(self, decisions: int, users: Callable[[int], str]) -> None:
        for n in range(decisions):
            self.served.take(self.loops.news(self.served.steps()))
            recommender = self.served.at("v1")
            at, policy = datetime.now(UTC), list(self.digests)[n % len(self.digests)]
            one = visit(recommender, f"{self.seed}/{n}", at, 3, users(n), ITEMS, policy, mode="explore")
            decision = recommender.decide(one)
            reports = [
                Feedback(
                    feedback_id=f"{self.seed}/{n}/{kind}",
                    decision_id=decision.decision_id,
                    kind=kind,
                    item_id=decision.slate[0],
                )
                for kind in ("click", "purchase")
                if self.rng.random() < 0.4
            ]
            self.store.insert([decision, *reports[:1]])
            if n % 3 == 0:
                self.loops.poll()
            self.store.insert(reports[1:])
            if self.saved and n % 10 == 0:
                self.loops.save()
        time.sleep(2 * SPEC.wait_s)
        self.loops.poll()


def anyone(n: int) -> str:
    return f"1200{n % 9}"


def mostly_heavy(n: int) -> str:
    return HEAVY if n % 3 == 0 else anyone(n)


def found(store: Store, settings: Settings, *, from_snapshots: bool = True) -> Audit:
    now = datetime.now(UTC)
    return audit(store, settings, now - DAY, now + DAY, from_snapshots=from_snapshots)


def count(store: Store, *but: str) -> int:
    return sum(decision.user_id not in but for _, decision in store.decisions())


def assert_provable(store: Store, settings: Settings, ways: Sequence[bool] = (True, False)) -> None:
    """Every decision that is left is made again, from snapshots and from the log's first row."""
    for from_snapshots in ways:
        report = found(store, settings, from_snapshots=from_snapshots)
        assert (report.mismatches, report.erased) == ([], {})
        assert report.repeated == report.decisions == count(store)


def assert_nowhere(folder: Path, *users: str) -> None:
    for path in folder.rglob("*"):
        for user in users:
            assert path.is_dir() or f'"{user}"'.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_heavy_user_is_forgotten_and_every_decision_about_others_is_made_again(
    store: Store, settings: Settings
) -> None:
    Shop(store, settings, 0).live(60, mostly_heavy)
    before = found(store, settings)
    others = count(store, HEAVY)
    assert (before.repeated, before.mismatches) == (60, [])
    assert others == 40
    forget(store, settings, HEAVY)
    assert count(store) == others
    assert_provable(store, settings)
    assert_nowhere(settings.home, HEAVY)
    assert Proofs(settings).pending(HEAVY) is None


@pytest.mark.slow
def test_several_in_a_row_with_restarts_between_from_snapshots(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0, saved=True).live(36, mostly_heavy)
    Shop(store, settings, 1, saved=True).live(18, anyone)
    Shop(store, settings, 2, saved=True).live(18, anyone)
    began = [version.begins for version in begun_folds(store, "v1", "default")]
    assert ["from" in (begins or {}) for begins in began] == [True, True, False]
    for number, user in enumerate((HEAVY, SECOND)):
        forget(store, settings, user)
        assert_provable(store, settings, [True])
        Shop(store, settings, 3 + number, saved=True).live(12, lambda n: f"1200{n % 6 + 2}")
    forget(store, settings, THIRD)
    assert_provable(store, settings)
    assert_nowhere(settings.home, HEAVY, SECOND, THIRD)
    assert count(store, "12003", "12004", "12005", "12006", "12007", "12008") == 0


@pytest.mark.slow
def test_the_fold_that_runs_goes_on_learning_while_and_after(store: Store, settings: Settings) -> None:
    shop = Shop(store, settings, 0)
    shop.live(60, mostly_heavy)
    forget(store, settings, HEAVY)
    shop.seed = 1
    shop.live(30, lambda n: f"1200{n % 8 + 1}")  # the old fold, which does not know of it
    assert shop.loops.refresh()
    shop.seed = 2
    shop.live(20, lambda n: f"1200{n % 8 + 1}")
    assert_provable(store, settings, [True])


def test_without_a_proof_it_is_as_before(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(60, mostly_heavy)
    forget(store, settings, HEAVY, ProofSettings(max_s=0))
    report = found(store, settings)
    assert report.mismatches == []
    assert report.erased.total() >= 0.6 * report.decisions
    assert all("has no proof" in why for why in report.erased)


def test_what_is_beyond_its_bounds_is_reported_and_no_mismatch(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(90, lambda n: HEAVY if n > 30 and n % 3 == 0 else f"1200{n % 8 + 1}")
    limits = ProofSettings(max_mb=1)
    object.__setattr__(limits, "max_mb", 0)  # one step's worth
    erase(store, settings, limits)
    report = found(store, settings)
    assert report.mismatches == []
    assert report.repeated > 20
    assert report.erased.total() > 10
    assert all("proves it to step" in why for why in report.erased)


def erase(store: Store, settings: Settings, limits: ProofSettings | None = None, user: str = HEAVY) -> None:
    """Forget a user as `forget` does, in this process."""
    proofs, proof = Proofs(settings), capture(store, settings, user, limits or ProofSettings())
    erase_from_store(store, user, lambda seq, at: proofs.confirm(proof, seq, at))
    proofs.finish(user)


@pytest.mark.slow
@pytest.mark.usefixtures("child")
def test_killed_while_it_captures_and_asked_again(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(60, mostly_heavy)
    task = (
        "import sys; from data.settings import Settings; from data.log.store import Store; "
        "from rl.provenance.capture import ProofSettings; from rl.provenance.erasure import prove; "
        "from pathlib import Path; s = Settings(home=Path(sys.argv[1]), store=None, archive=None); "
        "prove(Store.open(s.store_url), s, sys.argv[2], ProofSettings())"
    )
    remainders = settings.home / "archive/remainders"
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", task, str(settings.home), HEAVY], start_new_session=True, stderr=subprocess.DEVNULL
        )
        while child.poll() is None and not list(settings.home.glob("cache/.remainders-*")):
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert not list(remainders.glob("erasure-*.tar"))
    assert found(store, settings).repeated == 60
    forget(store, settings, HEAVY)
    assert_provable(store, settings)
    assert not list(settings.home.glob("cache/.remainders-*"))


def test_killed_between_the_proof_and_the_deletion(store: Store, settings: Settings) -> None:
    shop = Shop(store, settings, 0)
    shop.live(60, mostly_heavy)
    capture(store, settings, HEAVY, ProofSettings())
    capture(store, settings, SECOND, ProofSettings())  # of one who is not asked for again
    assert found(store, settings).repeated == 60  # neither counts
    with store.writing() as writing:  # another erasure takes the number that theirs would have had
        writing.execute(sa.insert(ERASURES), [{"time": store.now(), "rows": 5}])
    first = Proofs(settings).pending(HEAVY)
    assert first is not None
    assert prove(store, settings, HEAVY, ProofSettings()) == first
    forget(store, settings, HEAVY)
    report = found(store, settings)
    assert (report.mismatches, report.repeated) == ([], count(store))
    assert Proofs(settings).pending(SECOND) is not None


def test_what_was_forged_or_lost_is_found(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(60, mostly_heavy)
    forget(store, settings, HEAVY)
    (kept,) = (settings.home / "archive/remainders").glob("fold-*.tar")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    assert [line for line in found(store, settings).mismatches if "sha256" not in line] == []
    kept.unlink()
    assert len(found(store, settings).mismatches) == count(store)
    forge(settings, kept.name.split(".")[0], whole)
    assert len(found(store, settings).mismatches) > 0.5 * count(store)


def forge(settings: Settings, name: str, packed: bytes) -> None:
    """Put an object in its place that has other values, and the hash of these."""
    objects = Objects.at(settings.archive_uri, "remainders", settings.home / "cache")
    path = settings.home / "archive/remainders"
    (path / f"{name}.{hashlib.sha256(packed).hexdigest()}.tar").write_bytes(packed)
    folder = objects.get(name)
    for arrays in folder.glob("*.safetensors"):
        content = load(arrays.read_bytes())
        changed = {key: array + 1 if "rewards" in key else array for key, array in content.items()}
        arrays.write_bytes(pack(changed))
    objects.replace(name, folder)


def test_they_are_dropped_with_the_folds_that_they_are_of(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(40, mostly_heavy)
    erase(store, settings)
    remainders = settings.home / "archive/remainders"
    assert len(list(remainders.glob("*.tar"))) == 2
    Proofs(settings).prune(store.now() - DAY)
    assert len(list(remainders.glob("*.tar"))) == 2
    Proofs(settings).prune(store.now() + DAY)
    assert list(remainders.glob("*.tar")) == []
    report = found(store, settings)
    assert (report.mismatches, report.erased.total() > 0) == ([], True)


def test_positions_of_a_users_decisions(store: Store, settings: Settings) -> None:
    Shop(store, settings, 0).live(9, mostly_heavy)
    assert decisions_of(store, HEAVY) == {"v1": [1, 4, 7]}
    assert decisions_of(store, "nobody") == {}
    assert last_feedback(store, "v1") > 0
    assert len(fold_steps(store, begun_folds(store, "v1", None)[0].fold_id)) > 1


def test_windows_of_others_close_in_the_steps_in_which_they_did(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step closes so many windows at most: without the user's, others would be among the first."""
    for module in ("rl.online.reading", "rl.provenance.capture"):
        monkeypatch.setattr(f"{module}.MAX_ROWS", 4)
    shop = Shop(store, settings, 0)
    shop.shift = -DAY  # nothing is due
    shop.live(40, mostly_heavy)
    shop.shift = timedelta(0)
    for _ in range(12):
        shop.loops.poll()
    shop.seed = 1
    shop.live(8, anyone)
    forget(store, settings, HEAVY)
    (kept,) = (settings.home / "archive/remainders").glob("fold-*.tar")
    assert b'"closed":true' in kept.read_bytes()
    assert_provable(store, settings, [False])
