"""What `tests.bench.waiting` runs in processes of their own, of this code or of an earlier one.

`python waiting_fold.py bytes N FOLDER` prints the resident bytes that a learner takes for N decisions that wait;
`python waiting_fold.py speed POLICY N FOLDER` how many of N decisions it folds in a second of its own. It uses what any
version has: records, the store, and a learner that follows it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time

import numpy as np
from threadpoolctl import threadpool_limits

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Features, Feedback
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.policies import CrossedConfig, LinUCBConfig, build

K = 10
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
WAIT = timedelta(minutes=10)
STEP = timedelta(milliseconds=5)  # 200 decisions a second
CLICKED = 0.3
_AT_ONCE = 2_000


def decision(number: int, time: datetime, user: str, shown: Sequence[int], items: tuple[str, ...]) -> Decision:
    """Return a decision of ten items with features, `shown` their numbers, in a context of three features."""
    features = Features.model_construct(
        context=({"where": f"page{number % 7}", "device": f"device{number % 3}", "hour": number % 24},),
        items=tuple(({"kind": f"kind{one % 9}", "brand": f"brand{one % 13}", "price": float(one)},) for one in shown),
    )
    return Decision.model_construct(
        decision_id=f"{number:032x}",
        time=time,
        user_id=user,
        context={},
        candidates=items,
        slate=items,
        propensities=(0.1,) * K,
        scores=(0.25,) * K,
        policy="policy",
        policy_version="00000000.00000000.1",
        features=features,
    )


def decisions(first: int, n: int) -> list[Decision]:
    """Return decisions about 200 items, of 5,000 users."""
    rng = np.random.default_rng(first)
    made = list[Decision]()
    for number in range(first, first + n):
        shown = rng.permutation(200)[:K].tolist()
        items = tuple(f"item{one}" for one in shown)
        made.append(decision(number, START + number * STEP, f"user{number % 5_000}", shown, items))
    return made


def write(folder: Path, n: int) -> Store:
    """Write a log of n decisions, of which some are clicked a minute later."""
    now = [START]
    store = Store.open(f"sqlite:///{folder / 'store.db'}", lambda: now[0])
    rng = np.random.default_rng(0)
    late = list[Feedback]()
    for first in range(0, n, _AT_ONCE):
        made = decisions(first, min(_AT_ONCE, n - first))
        now[0] = made[-1].time
        store.insert([*made, *late])
        late = [
            Feedback(feedback_id=one.decision_id, decision_id=one.decision_id, item_id=one.slate[0], kind="click")
            for one in made
            if rng.random() < CLICKED
        ]
    now[0] += timedelta(minutes=1)
    store.insert(late)
    return store


def artefact(name: str) -> Artefact:
    """Return a policy that has learned nothing."""
    if name == "described":
        config, encoder = CrossedConfig(), FeaturesEncoder(())
        policy = build(config, 0, 1, np.zeros(1))
        return Artefact(name="policy", config=config, policy=policy, encoder=encoder, digest="0" * 8)
    from tests.bench.service.shop import market_and_encoder  # takes seconds

    linear, customers = LinUCBConfig(), market_and_encoder(0)[1]
    policy = build(linear, customers.n_features, customers.n_states, customers.popularity)
    return Artefact(name="policy", config=linear, policy=policy, encoder=customers, digest="0" * 8)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waiting_bytes(n: int, folder: Path) -> float:
    """Return how much memory the learner takes when all decisions of a log wait, a decision."""
    # In another process: what writing has left behind would be taken for the learner's to use.
    subprocess.run([sys.executable, __file__, "write", str(n), str(folder)], check=True)
    store = Store.open(f"sqlite:///{folder / 'store.db'}")
    spec = FoldSpec(reward=RewardSpec(wait_s=86_400.0, weights={"never": 1.0}))
    # Warm: what the first thousand decisions load, import and allocate is no matter of waiting.
    OnlineLearner(store, {"policy": artefact("described")}, spec, lambda: START).poll()
    learner = OnlineLearner(store, {"policy": artefact("described")}, spec, lambda: START + n * STEP)
    learner.poll()
    before = resident()
    learner.catch_up()
    return (resident() - before) / n


def speed(policy: str, n: int, folder: Path) -> float:
    """Return how many decisions of a log a learner folds in a second of processor time."""
    store = write(folder, n)
    learner = OnlineLearner(store, {"policy": artefact(policy)}, FoldSpec(), lambda: START + n * STEP + 2 * WAIT)
    begun = process_time()
    learner.catch_up()
    return n / (process_time() - begun)


def main() -> None:
    """Print one number, or write a log."""
    what, *names, n, folder = sys.argv[1:]
    if what == "write":
        write(Path(folder), int(n)).close()
        return
    with threadpool_limits(1, "blas"):  # as the service computes
        print(waiting_bytes(int(n), Path(folder)) if what == "bytes" else speed(names[0], int(n), Path(folder)))


if __name__ == "__main__":
    main()
