"""How soon a killed learner has learned everything again: `python -m tests.bench.restart [--decisions N] [--kills N]`.

A log of a million decisions of ten items, three in ten with feedback, is learned by `linear_thompson` and by
`described`, in SQLite and in PostgreSQL; then traffic goes on, and the learner, a process of its own, is killed at a
random moment. What is written meanwhile is at least half of what lies between two snapshots. `seconds` is from the
beginning of the new learner's fold, in a process that has its imports, until it has read the log's last row: the median
over the kills, of the slowest of the four. `ratio_fold` is that over folding the whole log anew, of the four the
largest. `equal` is 1 if in all four the state after the last restart is the one that the log gives from its first row,
to the bit. `whole_s` is from the start of a service to its first answer with that log; beside it with an empty one.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from data.log.store import Store
from rl.online.snapshots import SnapshotSettings
from serve.config import ServiceConfig
from tests.bench.common import finish, say
from tests.bench.restart_learner import SPEC
from tests.support.postgres import cluster
from tests.support.services import service

POLICIES = ("linear_thompson", "described")
UNREAD = SnapshotSettings().every_decisions // 2
TRAFFIC = 2_000
"""Decisions that are written while a learner follows, before it is killed."""


@dataclass
class Case:
    """A database and a policy."""

    name: str
    home: Path
    url: str
    policy: str
    written: int
    anew_s: float = 0.0
    restarts_s: tuple[float, ...] = ()
    equal: bool = False


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restart", description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000, help="of the log; default: %(default)s")
    parser.add_argument("--kills", type=int, default=5, help="of each learner; default: %(default)s")
    options = parser.parse_args()
    rng, cases = random.Random(0), list[Case]()
    with databases() as urls:
        for database, url in urls.items():
            for policy in POLICIES:
                with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
                    case = Case(f"{database}_{policy}", Path(folder), url(policy), policy, options.decisions)
                    measure(case, options.kills, rng)
                    cases.append(case)
                    if case.name == "sqlite_linear_thompson":
                        whole = whole_start(case)
    peers = {f"{case.name}_anew_s": round(case.anew_s, 2) for case in cases}
    peers |= {f"{case.name}_s": round(median(case.restarts_s), 2) for case in cases}
    figures = {
        "seconds": round(max(median(case.restarts_s) for case in cases), 2),
        "ratio_fold": round(max(median(case.restarts_s) / case.anew_s for case in cases), 3),
        "equal": int(all(case.equal for case in cases)),
        "whole_s": round(whole[0], 1),
    }
    finish("restart", figures, peers | {"whole_empty_s": round(whole[1], 1)}, seeds=1)


@contextmanager
def databases() -> Iterator[dict[str, Any]]:
    """Yield, for each kind of database, what makes a new one and returns its URL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raycommend-bench-")))
        server = stack.enter_context(cluster())
        yield {
            "sqlite": lambda name: f"sqlite:///{folder / name}.db",
            "postgres": lambda _: server.new_database(),
        }


def measure(case: Case, kills: int, rng: random.Random) -> None:
    """Write the log, learn it, kill who follows it again and again, and check the last state."""
    run("write", case.url, "0", str(case.written))
    say(f"{case.name}: {case.written:,} decisions are written")
    follower, first = follow(case)
    case.anew_s = first["seconds"]
    say(f"{case.name}: learned anew in {case.anew_s:.1f} s")
    for _ in range(kills):
        write_more(case, TRAFFIC)
        time.sleep(rng.uniform(0, 2))
        follower.kill()
        follower.wait()
        write_more(case, UNREAD)
        follower, last = follow(case)
        case.restarts_s += (last["seconds"],)
        assert last["read"] >= UNREAD, f"only {last['read']:,} decisions were left to read"
        say(f"{case.name}: after a kill {last['seconds']:.2f} s for {last['read']:,} decisions")
    follower.kill()
    follower.wait()
    again = answer(run("anew", str(case.home), case.url, case.policy, last["fold"], str(last["step"])))
    case.equal = again["digest"] == last["digest"]
    say(f"{case.name}: {'equal' if case.equal else 'NOT equal'} to the state from the log's first row")


def write_more(case: Case, n: int) -> None:
    """Write more decisions to the log."""
    run("write", case.url, str(case.written), str(n))
    case.written += n


def follow(case: Case) -> "tuple[subprocess.Popen[str], dict[str, Any]]":
    """Start a learner, and return it with what it says when it has learned the log."""
    arguments = ["follow", str(case.home), case.url, case.policy]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.restart_learner", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, answer(process.stdout.readline())


def run(*arguments: str) -> str:
    """Run what `tests.bench.restart_learner` offers, and return what it prints."""
    command = [sys.executable, "-m", "tests.bench.restart_learner", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def answer(line: str) -> dict[str, Any]:
    """Return a line of JSON."""
    found: dict[str, Any] = json.loads(line)
    return found


def whole_start(case: Case) -> tuple[float, float]:
    """Return the seconds from a service's start to its first answer, with the log and with an empty one."""
    config = ServiceConfig(policies={case.policy: 1.0}, reward=SPEC.reward, learn_from="all", home=str(case.home))
    seconds = list[float]()
    with closing(Store.open(case.url)):
        environment = {"RAYCOMMEND_HOME": str(case.home), "RAYCOMMEND_STORE": case.url}
        empty = {**environment, "RAYCOMMEND_STORE": f"sqlite:///{case.home / 'empty.db'}"}
        for settings in (environment, empty):
            begun = time.perf_counter()
            with service(config.model_copy(update={"home": None}), 1, **settings) as running:
                running.wait()
                assert running.client.post("/v1/recommend", json={"user_id": "someone"}).status_code == 200
                seconds.append(time.perf_counter() - begun)
                say(f"a service is up after {seconds[-1]:.1f} s")
    return seconds[0], seconds[1]


if __name__ == "__main__":
    main()
