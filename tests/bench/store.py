"""How fast decisions are committed: `python -m tests.bench.store [--seconds S] [--turns N]`.

Sixteen writers of one replica each commit a decision, wait for its answer, and commit the next: together they are what
one process that writes commits. Beside it, on the same database with the same durability, one connection inserts the
same decisions as bare rows (their JSON is written there too), in batches of our mean size, each a transaction. The two
take turns; a ratio is the median of the ratios within each turn. Needs the Debian package `postgresql`.

`..._inside_us` and `..._beside_us` are the processor's time that a decision takes of the replica's own process, where
the group commit is a thread of it and where it is a process beside it: why there is one, for both databases.
"""

import argparse
import asyncio
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import numpy as np
import psycopg
from pydantic_core import to_json

from data.fields import to_us
from data.log.store import Store
from data.log.writer.commit import Writer
from data.log.writer.link import Link
from data.log.writer.process import WriterProcess
from data.schema import Decision
from tests.bench.common import finish, plot, say
from tests.bench.service.group_commit import GroupCommit
from tests.support.postgres import cluster

WRITERS, CANDIDATES, K = 16, 50, 10
DATABASES = ("sqlite", "postgres")
COLUMNS = tuple(Decision.model_fields)
JSON = {"context", "candidates", "slate", "propensities", "scores", "probabilities", "slots", "teams"}


@dataclass
class Turn:
    """What came of some seconds."""

    commits: int = 0
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of this process."""

    @property
    def rate(self) -> float:
        """Return decisions a second."""
        return len(self.latencies) / self.seconds

    @property
    def batch(self) -> float:
        """Return the mean number of decisions of a transaction."""
        return len(self.latencies) / self.commits

    @property
    def p99_ms(self) -> float:
        """Return the 99th percentile of the time that a writer waits for its commit."""
        return float(np.percentile(self.latencies, 99)) * 1e3


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each side in a turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    figures, peers = dict[str, float](), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder, cluster() as server:
        for database in DATABASES:
            numbers = itertools.count()

            def new(database: str = database, numbers: Iterator[int] = numbers) -> str:
                path = Path(folder, f"{next(numbers)}.db")
                return f"sqlite:///{path}" if database == "sqlite" else server.new_database()

            figures |= {f"{database}_{name}": value for name, value in measure(new, options, peers, database).items()}
    curves = {name: (range(options.turns), [peers[f"{name}_rate"]] * options.turns) for name in DATABASES}
    plot("store", curves, "turn", "decisions a second")
    finish("store", figures, peers, seeds=options.turns)


def measure(
    new: Callable[[], str], options: argparse.Namespace, peers: dict[str, float], database: str
) -> dict[str, float]:
    """Let our side and the bare one take turns, each in a log of its own, and return the figures of a database."""
    ours, bare, inside = list[Turn](), list[float](), list[Turn]()
    for turn in range(options.turns + 1):
        mine = asyncio.run(commit_beside(opened(new()), options.seconds))
        beside = insert_bare(opened(new()), mine.batch, options.seconds)
        within = asyncio.run(commit_inside(opened(new()), options.seconds / 2))
        batch = f"{mine.batch:.1f} a transaction, p99 {mine.p99_ms:.1f} ms"
        say(f"{database}: {mine.rate:.0f}/s, {batch}; bare {beside:.0f}/s, inside {within.rate:.0f}/s")
        if turn:  # the first does not count
            ours.append(mine)
            bare.append(beside)
            inside.append(within)
    peers |= {
        f"{database}_rate": round(median(turn.rate for turn in ours)),
        f"{database}_bare_rate": round(median(bare)),
        f"{database}_batch": round(fmean(turn.batch for turn in ours), 1),
        f"{database}_beside_us": round(median(turn.cpu_s / len(turn.latencies) for turn in ours) * 1e6),
        f"{database}_inside_us": round(median(turn.cpu_s / len(turn.latencies) for turn in inside) * 1e6),
        f"{database}_inside_rate": round(median(turn.rate for turn in inside)),
    }
    return {
        "ratio": round(median(mine.rate / other for mine, other in zip(ours, bare, strict=True)), 3),
        "p99_ms": round(median(turn.p99_ms for turn in ours), 2),
    }


def opened(url: str) -> str:
    """Make the tables of a log, and return its URL."""
    Store.open(url).close()
    return url


def decisions() -> Iterator[Decision]:
    """Yield decisions of the size that the service's benches ask for."""
    rng = np.random.default_rng(0)
    items = [f"item{number:05d}" for number in range(60)]
    some = [tuple(rng.permutation(items)[:CANDIDATES].tolist()) for _ in range(200)]
    numbers = [tuple(rng.random(K).tolist()) for _ in range(200)]
    for number in itertools.count():
        yield Decision.model_construct(
            **{name: known.get_default() for name, known in Decision.model_fields.items() if not known.is_required()},
            decision_id=f"{number:032x}",
            time=datetime.now(UTC),
            candidates=some[number % 200],
            slate=some[number % 200][:K],
            propensities=numbers[number % 200],
            scores=numbers[(number + 7) % 200],
            policy="lin_ucb",
            policy_version="dad76180.7c01be1f.0",
        ).model_copy(update={"user_id": f"customer{number % 500}", "request": "a" * 40})


async def write(writer: Writer, seconds: float, turn: Turn) -> None:
    """Let all writers commit one decision after the other for some seconds."""
    source, clock = decisions(), time.perf_counter
    began, cpu = clock(), time.process_time()

    async def one() -> None:
        while clock() - began < seconds:
            decision, asked = next(source), clock()
            await writer.commit([decision])
            turn.latencies.append(clock() - asked)

    await asyncio.gather(*(one() for _ in range(WRITERS)))
    turn.seconds, turn.cpu_s = clock() - began, time.process_time() - cpu


async def commit_beside(url: str, seconds: float) -> Turn:
    """Commit in the process beside this one, as the service does."""
    writer, turn = WriterProcess(url), Turn()
    await writer.start()
    with counted(turn):
        await write(writer, seconds, turn)
    await writer.close()
    return turn


@contextmanager
def counted(turn: Turn) -> Iterator[None]:
    """Count transactions: the answers of one come together."""
    received = Link.data_received

    def receive(link: Link, data: bytes) -> None:
        turn.commits += data != b"\n"
        received(link, data)

    with patch.object(Link, "data_received", receive):
        yield


async def commit_inside(url: str, seconds: float) -> Turn:
    """Commit in a thread of this process."""
    turn = Turn(commits=1)
    with closing(Store.open(url)) as store:
        await write(GroupCommit(store), seconds, turn)
    return turn


def insert_bare(url: str, batch: float, seconds: float) -> float:
    """Insert rows by one connection, in transactions of a size; returns decisions a second."""
    connection, mark = connect(url)
    statement = f"INSERT INTO decisions ({', '.join(COLUMNS)}) VALUES ({', '.join([mark] * len(COLUMNS))})"
    source, size, inserted, began = decisions(), max(1, round(batch)), 0, time.perf_counter()
    with closing(connection):
        while time.perf_counter() - began < seconds:
            connection.execute("BEGIN")
            connection.cursor().executemany(statement, [row(next(source)) for _ in range(size)])
            connection.commit()
            inserted += size
        return inserted / (time.perf_counter() - began)


def connect(url: str) -> tuple[Any, str]:
    """Return a connection of the driver's own whose commits are durable, and how it marks values."""
    if not url.startswith("sqlite"):
        return psycopg.connect(url, autocommit=True), "%s"
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection, "?"


def row(decision: Decision) -> Sequence[object]:
    """Return the values of a row."""
    values = {**decision.__dict__, "time": to_us(decision.time)}
    return [to_json(values[name]).decode() if name in JSON else values[name] for name in COLUMNS]


if __name__ == "__main__":
    main()
