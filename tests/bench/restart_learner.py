"""What `tests.bench.restart` runs in processes of their own: writes a log, follows it, begins anew, checks.

write URL FIRST N               write decisions with feedback, the last of them made now
follow HOME URL POLICY          learn the whole log, say in how many seconds, and follow it until killed
begin HOME URL POLICY           begin from the newest snapshot, learn the rest, say seconds and a digest of the state
anew HOME URL POLICY FOLD STEP  make the state of a recorded fold again from the log's first row, say its digest
"""

import hashlib
import json
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.shelf import shelve
from rl.encoders.customers import CustomerEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.online.fold import FoldSpec
from rl.online.snapshot import Snapshot
from rl.policies import CrossedConfig, LinearThompsonConfig, build
from rl.provenance.replay import Sources, state_at
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.bench.service.shop import market_and_encoder
from tests.bench.waiting_fold import K, decision

INTERVAL = timedelta(milliseconds=5)
"""Between two decisions of the log."""
SPEC = FoldSpec(reward=RewardSpec(wait_s=600.0), learn_from="all")
_REPORTED = 0.3
_AT_ONCE = 1_000
_POLL_S = 0.1


@cache
def encoder() -> CustomerEncoder:
    """Return that of the bench's shop."""
    return market_and_encoder(0)[1]


def decisions(first: int, n: int, time: datetime) -> list[Decision]:
    """Return decisions of ten of the shop's items, described too, the first made at a time."""
    rng, items, users = np.random.default_rng(first), encoder().items, encoder().users
    made = list[Decision]()
    for number in range(first, first + n):
        shown = rng.permutation(len(items))[:K].tolist()
        slate = tuple(items[one] for one in shown)
        made.append(decision(number, time + (number - first) * INTERVAL, users[number % len(users)], shown, slate))
    return made


def write(url: str, first: int, n: int) -> None:
    """Write decisions with their feedback, if they have any, the last of them made now."""
    rng, begin = np.random.default_rng(first), datetime.now(UTC) - n * INTERVAL
    with closing(Store.open(url)) as store:
        for start in range(first, first + n, _AT_ONCE):
            some = decisions(start, min(_AT_ONCE, first + n - start), begin + (start - first) * INTERVAL)
            reports = [
                Feedback(feedback_id=one.decision_id, decision_id=one.decision_id, item_id=one.slate[0], kind="click")
                for one in some
                if rng.random() < _REPORTED
            ]
            store.insert([*some, *reports])


def plan(policy: str, settings: Settings) -> Plan:
    """Return a plan of a policy that has learned nothing."""
    config = CrossedConfig() if policy == "described" else LinearThompsonConfig()
    encodes = FeaturesEncoder(()) if policy == "described" else encoder()
    folder = settings.home / "policies" / policy
    if not folder.exists():
        empty = build(config, encodes.n_features, encodes.n_states, encodes.popularity)
        save(Artefact(name=policy, config=config, policy=empty, encoder=encodes), folder)
    return Plan(SPEC, {policy: shelve(folder, settings).digest})


def digest(snapshot: Snapshot | None) -> str:
    """Return a hash of what the policies have learned, to the bit."""
    assert snapshot is not None, "no step is unfinished"
    bits = hashlib.sha256()
    for name, state in sorted(snapshot.policies.items()):
        for array, values in sorted(state.items()):
            bits.update(f"{name} {array} {values.dtype} {values.shape}".encode() + values.tobytes())
    return bits.hexdigest()


def learn(settings: Settings, policy: str, follow: bool) -> None:
    """Begin a fold, learn the log, say how it went; and follow the log."""
    store, planned = Store.open(settings.store_url), plan(policy, settings)
    begun = time.perf_counter()
    loops = Loops(store, settings, [lambda: [planned]], lambda: datetime.now(UTC))
    seconds = time.perf_counter() - begun
    learner = loops.current["v1", "default"].learner
    read = learner.positions[0]
    answer = {"seconds": seconds, "fold": learner.fold_id, "step": learner.number, "read": read - learner.begun_at[0]}
    print(json.dumps(answer | {"digest": digest(learner.snapshot())}), flush=True)
    while follow:
        loops.poll()
        loops.save()
        time.sleep(_POLL_S)


def main() -> None:
    """Do one of what the module says; answers are lines of JSON."""
    what, *arguments = sys.argv[1:]
    if what == "write":
        url, first, n = arguments
        write(url, int(first), int(n))
        return
    home, url, policy, *step = arguments
    settings = Settings(home=Path(home), store=url, archive=None)
    with threadpool_limits(1, "blas"):  # as the service computes
        if what == "anew":
            state = state_at(Sources.of(Store.open(url), settings, None), step[0], int(step[1]))
            print(json.dumps({"digest": digest(state)}))
        else:
            learn(settings, policy, what == "follow")


if __name__ == "__main__":
    main()
