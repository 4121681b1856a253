"""What a forgotten user leaves of the proof of others' decisions: `python -m tests.bench.erasure [--decisions 30000]`.

A fold learns from a shop's decisions, 20 at a time, in which a user of thousands has one of fifty and the others are
alike; a learner is begun anew twice, from snapshots. Then that user and three of the others are forgotten, one after
another. `provable` is the share of the decisions about others that were made again bit by bit before and are after;
`mismatches` must be 0. `seconds` is the longest of the four deletions, `unproved_seconds` the longest of as many on a
copy without the proof, which keeps `unproved` of the decisions repeatable. `kept_bytes` is what is kept of all four.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.shelf import shelve
from rl.online.fold import FoldSpec
from rl.online.snapshots import SnapshotSettings
from rl.provenance.capture import ProofSettings
from serve.audit.run import Audit, audit
from serve.decisions.served import Served
from serve.entities.forgetting import forget
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.bench.common import finish, say
from tests.bench.service import shop
from tests.support.visits import visit

POLICY, HEAVY = "lin_ucb", 50
AT_ONCE, LIVES = 20, 3
SPEC = FoldSpec(reward=RewardSpec(wait_s=0.2, default=-0.1), learn_from="all")


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.erasure", description=__doc__)
    parser.add_argument("--decisions", type=int, default=30_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        settings = Settings(home=Path(folder) / "proved", store=None, archive=None)
        users = shop.save_linear(settings.home, POLICY).users
        with closing(Store.open(settings.store_url)) as store:
            for life in range(LIVES):
                live(store, settings, life, options.decisions // LIVES, users)
        log_bytes = sum(path.stat().st_size for path in settings.home.glob("store.db*"))
        say(f"{options.decisions:,} decisions, {log_bytes:,} bytes")
        without = Settings(home=Path(folder) / "unproved", store=None, archive=None)
        shutil.copytree(settings.home, without.home)
        gone = [users[0], *np.random.default_rng(0).choice(users[1:], 3, replace=False).tolist()]
        with closing(Store.open(settings.store_url)) as store:
            before = look(store, settings)
            others = sum(decision.user_id not in gone for _, decision in store.decisions())
        after, seconds = erase(settings, gone, ProofSettings())
        bare, unproved_seconds = erase(without, gone, ProofSettings(max_s=0))
        kept = sum(path.stat().st_size for path in (settings.home / "archive/remainders").glob("*.tar"))
    figures = {"provable": after.repeated / others, "mismatches": len(after.mismatches), "seconds": max(seconds)}
    peers = {
        "unproved": bare.repeated / others,
        "unproved_seconds": max(unproved_seconds),
        "repeated_before": before.repeated / before.decisions,
        "others": others,
        "kept_bytes": kept,
        "log_bytes": log_bytes,
    }
    finish("erasure", figures, peers, seeds=1)


def live(store: Store, settings: Settings, life: int, decisions: int, users: Sequence[str]) -> None:
    """Decide, report and learn, with a learner that has just been started."""
    plan = Plan(SPEC, {POLICY: shelve(settings.home / "policies" / POLICY, settings).digest})
    loops = Loops(store, settings, [lambda: [plan]], lambda: datetime.now(UTC), SnapshotSettings(every_s=5.0))
    served, rng = Served({"v1": {POLICY: 1.0}}), np.random.default_rng(life)
    for first in range(0, decisions, AT_ONCE):
        served.take(loops.news(served.steps()))
        recommender, records = served.at("v1"), list[Feedback]()
        made = []
        for n in range(first, first + AT_ONCE):
            user = users[0] if n % HEAVY == 0 else str(rng.choice(users))
            made.append(recommender.decide(visit(recommender, f"{life}-{n}", datetime.now(UTC), 3, user)))
            if rng.random() < 0.5:
                name, item = made[-1].decision_id, made[-1].slate[0]
                records.append(Feedback(feedback_id=name, decision_id=name, kind="click", item_id=item))
        store.insert([*made, *records])
        loops.poll()
        loops.save()
    time.sleep(2 * SPEC.reward.wait_s)
    loops.poll()


def erase(settings: Settings, users: Sequence[str], limits: ProofSettings) -> tuple[Audit, list[float]]:
    """Forget users; returns what an audit says then, and how many seconds each took."""
    seconds = list[float]()
    with closing(Store.open(settings.store_url)) as store:
        for user in users:
            began = time.perf_counter()
            counts = forget(store, settings, user, limits)
            seconds.append(time.perf_counter() - began)
            say(f"{counts['decisions']} decisions in {seconds[-1]:.1f} s")
        return look(store, settings), seconds


def look(store: Store, settings: Settings) -> Audit:
    """Make all decisions again."""
    now = datetime.now(UTC)
    found = audit(store, settings, now - timedelta(days=1), now + timedelta(days=1))
    say(f"{found.decisions:,} decisions: {found.repeated:,} the same, {len(found.mismatches)} not, {found.erased}")
    return found


if __name__ == "__main__":
    main()
