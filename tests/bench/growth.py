"""Does a service that has decided much stay small and quick? `python -m tests.bench.growth [--decisions 300000]`.

Two replicas and their learner answer slates of 10 among a shop's 60 items for 50,000 users, in lists of 20 requests,
and hear of a click on each slate. `memory_ratio` is the resident memory of learner and replicas at the end over that
at a tenth of the decisions; `p99_ratio` the same of the 99th percentile of single requests at a constant rate, at the
end over the beginning, each the median of three turns: single ones differ by two thirds. Then all of it is archived, as
on a later day, and `bytes` is what log and archive take on the disk by decision: its feedback, the steps of the fold,
indexes and snapshots included.
"""

import argparse
import asyncio
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
import psutil

from data.archive.run import archive_days
from data.log.archiving.closing import STALLED
from data.log.store import Store
from data.settings import Settings
from tests.bench.common import finish, say
from tests.bench.service import shop
from tests.bench.service.processes import Service, running
from tests.bench.service.steady import quantile_ms, steady

POLICY, USERS = "lin_ucb", 50_000
LIST, AT_ONCE = 20, 4
RATE, SECONDS, TURNS = 100.0, 20, 3
RECOMMEND, FEEDBACK = "/v1/recommend", "/v1/feedback"


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--decisions", type=int, default=300_000)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        home, n = Path(folder), options.decisions
        shop.save_linear(home, POLICY)
        with running(shop.ours(home, {"policies": {POLICY: 1}}, options.replicas), "/healthz") as service:
            asyncio.run(fill(service.url, 0, n // 50))  # warm: what the first thousand load and allocate
            begin_ms = p99(service, 0)
            asyncio.run(fill(service.url, n // 50, n // 10))
            early = resident(service)
            say(f"{n // 10:,} decisions: p99 {begin_ms:.1f} ms, {early}")
            asyncio.run(fill(service.url, n // 10, n))
            late = resident(service)
            end_ms = p99(service, 1)
            say(f"{n:,} decisions: p99 {end_ms:.1f} ms, {late}")
        before = size(home)
        moved = archive(home)
        after = size(home)
    decisions = moved["decisions"]
    say(f"moved {moved}; {before / decisions:.0f} bytes a decision before, {after / decisions:.0f} after")
    figures = {
        "memory_ratio": sum(late.values()) / sum(early.values()),
        "bytes": after / decisions,
        "p99_ratio": end_ms / begin_ms,
    }
    peers = {"bytes_before": before / decisions, "begin_p99_ms": begin_ms, "end_p99_ms": end_ms}
    peers |= {f"{name}_bytes": value for name, value in late.items()} | {
        f"moved_{name}": n for name, n in moved.items()
    }
    finish("growth", figures, peers, seeds=1)


async def fill(url: str, first: int, last: int) -> None:
    """Ask for slates and report a click on each."""
    rng, lists = np.random.default_rng(first), asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(120)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:

        async def some(users: list[int]) -> None:
            async with lists:
                answers = await _post(session, RECOMMEND, [{"user_id": f"user-{user}", "k": shop.K} for user in users])
                clicks = [
                    {"decision_id": answer["decision_id"], "kind": "click", "item_id": answer["items"][0]["item_id"]}
                    for answer in answers
                ]
                await _post(session, FEEDBACK, clicks)

        chosen = rng.integers(0, USERS, last - first).tolist()
        await asyncio.gather(*(some(chosen[start : start + LIST]) for start in range(0, len(chosen), LIST)))


async def _post(session: aiohttp.ClientSession, path: str, body: object) -> Any:
    while True:
        async with session.post(path, json=body) as response:
            if response.status == 503:  # too much at once: it says so, and nothing was stored
                await asyncio.sleep(0.5)
                continue
            response.raise_for_status()
            return await response.json()


def p99(service: Service, turn: int) -> float:
    """Return the 99th percentile of the times to an answer, in ms, at a constant rate: the median of turns."""

    def request(number: int) -> tuple[str, Any]:
        return RECOMMEND, {"user_id": f"user-{number * 7 % USERS}", "k": shop.K}

    numbers = range(int(RATE * SECONDS))
    return median(quantile_ms(asyncio.run(steady(service.url, request, numbers, RATE)), 0.99) for _ in range(TURNS))


def resident(service: Service) -> dict[str, float]:
    """Return the resident bytes of the learner and of the replicas."""
    found = {"learner": 0.0, "replicas": 0.0}
    for process in service.process.children(recursive=True):
        try:
            title, memory = " ".join(process.cmdline()), process.memory_info().rss
        except psutil.Error:
            continue
        if "ServeReplica" in title:
            found["learner" if "Learner" in title else "replicas"] += memory
    assert all(found.values()), found
    return found


def archive(home: Path) -> dict[str, int]:
    """Archive what was logged, as on a day on which its windows are closed and its fold does not run any more."""
    settings = Settings(home=home, store=None, archive=None)
    later = datetime.now(UTC) + STALLED + timedelta(days=2)
    with closing(Store.open(settings.store_url, lambda: later)) as store:
        done = archive_days(store, settings)
        store.checkpoint()
    return done.moved


def size(home: Path) -> int:
    """Return the bytes of the log and the archive on the disk."""
    files = [*home.glob("store.db*"), *(home / "archive").rglob("*")]
    return sum(path.stat().st_size for path in files if path.is_file())


if __name__ == "__main__":
    main()
