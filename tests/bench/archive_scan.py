"""Transitions of an archive in bulk: is its memory flat, and how fast is it beside the same join written in pyarrow?

`python -m tests.bench.archive_scan [--rows 20000000] [--few 1000000]`. Two archives are written, of many decisions and
of few, nine in thirty of them with feedback. Each is read whole, in a process of its own with a Ray of its own, and all
that it makes is read by this process in batches. Memory is the anonymous and the shared memory of all processes, so
what lies in the object store counts once; the peak of many is divided by that of few. The same processes then join the
same files in pyarrow: a part of the decisions at a time, with the feedback of the days that it may have.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from data.attribution.transitions import TRANSITION_SCHEMA
from data.fields import to_us
from data.filesystems import locate
from data.log.archived.columns import schema
from data.log.archiving.files import FOLDER, begin_file, enter, write_file
from data.log.archiving.rows import GROUP_ROWS, PART_ROWS
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, PARTS, Log
from data.reward import RewardSpec
from tests.bench.common import finish, folder, say

SPEC = RewardSpec(wait_s=600.0, default=-0.01)
START = datetime(2026, 1, 5, tzinfo=UTC)
A_DAY = 2_000_000
REPORTED = 0.3
PAGES, CANDIDATES, USERS = 40, 20, 50_000
UNTIL = START + timedelta(days=3_000)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def main() -> None:
    """Write both archives, measure both ways, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--few", type=int, default=1_000_000)
    options = parser.parse_args()
    measured = {}
    for name, rows in (("few", options.few), ("many", options.rows)):
        home = folder() / f"archive_scan_{name}"
        shutil.rmtree(home, ignore_errors=True)
        began = time.monotonic()
        write(home, rows)
        size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
        say(f"{rows:,} decisions written in {time.monotonic() - began:.0f} s, {size / rows:.0f} bytes each")
        measured[name] = {way: _measure(way, home) for way in ("ray", "pyarrow")}
        say(f"{name}: {measured[name]}")
        assert measured[name]["ray"]["transitions"] == measured[name]["pyarrow"]["transitions"] == rows
        difference = measured[name]["ray"]["reward"] - measured[name]["pyarrow"]["reward"]
        assert abs(difference) < 1e-6 * rows, difference
        shutil.rmtree(home)
    many, few = measured["many"], measured["few"]
    figures = {
        "peak_ratio": many["ray"]["peak"] / few["ray"]["peak"],
        "ratio_pyarrow": many["ray"]["rows_s"] / many["pyarrow"]["rows_s"],
    }
    peers = {
        "rows_s": many["ray"]["rows_s"],
        "peak": many["ray"]["peak"],
        "pyarrow_rows_s": many["pyarrow"]["rows_s"],
        "pyarrow_peak": many["pyarrow"]["peak"],
        "rows": options.rows,
    }
    finish("archive_scan", figures, peers, seeds=1)


def _measure(way: str, home: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.archive_scan_one", way, str(home)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(home: Path, rows: int) -> None:
    """Write an archive of so many decisions, and nothing to the log itself; never all of them in memory."""
    with closing(Store.open(f"sqlite:///{home}/store.db")) as store:
        rng, feedback_seq = np.random.default_rng(0), 1
        for day, first in enumerate(range(0, rows, A_DAY)):
            for start in range(first, min(first + A_DAY, rows), PART_ROWS):
                n = min(PART_ROWS, rows - start, first + A_DAY - start)
                reported = np.flatnonzero(rng.random(n) < REPORTED) + start
                at = (START + timedelta(days=day)).date()
                _enter(store, home, DECISIONS, at, _decisions(start, n, rng))
                _enter(store, home, FEEDBACK, at, _feedback(reported, feedback_seq, rng))
                feedback_seq += len(reported)


def _enter(store: Store, home: Path, log: Log[Any], day: date, groups: Iterator[pa.Table]) -> None:
    first = next(groups)

    def rows() -> Iterator[pa.Table]:
        yield first
        yield from groups

    root = store.parts.root(str(home / "archive"))
    path = begin_file(store, root, f"{FOLDER}/{log.table.name}/day={day}", first["seq"][0].as_py())
    summary = write_file(*locate(str(home / "archive")), path, log, rows())
    with store.writing() as connection:
        enter(connection, summary.part(log, day, root, path, cleared=True))


def _ids(numbers: np.ndarray, salt: int) -> pa.Array:
    """Return an id of 32 hexadecimal digits for each number, of which half are as good as random."""
    mixed = (numbers.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    digits = np.empty((len(numbers), 32), np.uint8)
    for place in range(16):
        shift = np.uint64(60 - 4 * place)
        digits[:, place] = _HEX[((numbers.astype(np.uint64) >> shift) & np.uint64(15)).astype(np.int64)]
        digits[:, 16 + place] = _HEX[((mixed >> shift) & np.uint64(15)).astype(np.int64)]
    return pa.array(digits.view("S32").ravel()).cast(pa.string())


def _times(numbers: np.ndarray, after_us: int | np.ndarray = 0) -> pa.Array:
    us = to_us(START) + numbers * (86_400_000_000 // A_DAY) + after_us
    return pa.array(us, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _pages() -> pa.Array:
    rng = np.random.default_rng(7)
    items = np.array([f"item-{number}" for number in range(500)])
    return pa.array([items[rng.choice(500, CANDIDATES, replace=False)].tolist() for _ in range(PAGES)])


def _shown(numbers: np.ndarray) -> np.ndarray:
    """Return which candidate each decision shows."""
    shown: np.ndarray = (numbers * 7 + numbers // 11) % CANDIDATES
    return shown


def _items(numbers: np.ndarray) -> pa.Array:
    flat = _pages().flatten()
    return flat.take(pa.array(numbers % PAGES * CANDIDATES + _shown(numbers)))


def _decisions(start: int, rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    pages, fields = _pages(), schema(DECISIONS)
    for first in range(start, start + rows, GROUP_ROWS):
        numbers = np.arange(first, min(first + GROUP_ROWS, start + rows))
        n = len(numbers)
        ones = pa.array(np.arange(n + 1), pa.int32())
        same: dict[str, Any] = {
            "loop": "v1",
            "node_id": None,
            "context": '{"page":"home"}',
            "policy": "linear_thompson",
        }
        same |= {"mode": "explore", "objective": "default", "deferred": False, "weight": 1.0, "features": None}
        same |= {"rules": None, "slots": "[]", "request": "k:0123456789ab", "policy_version": f"01234567.{first:x}.0"}
        columns = {
            "seq": pa.array(numbers + 1),
            "decision_id": _ids(numbers, 1),
            "time": _times(numbers),
            "user_id": pa.array(np.char.add("user-", rng.integers(0, USERS, n).astype(str))),
            "candidates": pages.take(pa.array(numbers % PAGES)),
            "slate": pa.ListArray.from_arrays(ones, _items(numbers)),
            "propensities": pa.ListArray.from_arrays(ones, pa.array(rng.uniform(0.01, 1, n))),
            "scores": pa.ListArray.from_arrays(ones, pa.array(rng.normal(size=n))),
            "probabilities": pa.ListArray.from_arrays(
                pa.array(np.zeros(n + 1), pa.int32()), pa.array([], pa.float64())
            ),
            **{name: pa.repeat(pa.scalar(value, fields.field(name).type), n) for name, value in same.items()},
        }
        yield pa.table([columns[name] for name in fields.names], schema=fields)


def _feedback(numbers: np.ndarray, first_seq: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    fields = schema(FEEDBACK)
    for first in range(0, len(numbers), GROUP_ROWS):
        about = numbers[first : first + GROUP_ROWS]
        n = len(about)
        kinds = pa.array(["view", "click", "purchase"]).take(pa.array(rng.integers(0, 3, n)))
        late = rng.random(n) < 0.05
        columns = {
            "seq": pa.array(np.arange(first_seq + first, first_seq + first + n)),
            "feedback_id": _ids(about, 2),
            "decision_id": _ids(about, 1),
            "loop": pa.repeat("v1", n),
            "item_id": _items(about),
            "kind": kinds,
            "value": pa.array(rng.uniform(0.5, 2, n)),
            "time": pa.nulls(n, fields.field("time").type),
            "received_at": _times(about, np.where(late, 700_000_000, 5_000_000)),
            "decision_seq": pa.array(about + 1),
        }
        yield pa.table([columns[name] for name in fields.names], schema=fields)


def join_in_pyarrow(store: Store) -> Iterator[pa.Table]:
    """Yield the same transitions, as one would write it in pyarrow: a part at a time."""
    with store.reading() as connection:
        parts = [
            connection.execute(sa.select(PARTS).where(PARTS.c.kind == kind)).all() for kind in ("decisions", "feedback")
        ]
    names = [field.name for field in schema(DECISIONS) if field.name in TRANSITION_SCHEMA.names or field.name == "seq"]
    weights = pa.array(list(SPEC.weights.values()))
    kinds = pa.array(list(SPEC.weights))
    for part in parts[0]:
        decisions = pq.read_table(f"{store.parts.uri(part.root)}/{part.path}", columns=names)
        near = [other for other in parts[1] if other.refers_first <= part.last and other.refers_last >= part.first]
        read = ["decision_id", "item_id", "kind", "value", "received_at"]
        feedback = pa.concat_tables(
            [pq.read_table(f"{store.parts.uri(other.root)}/{other.path}", columns=read) for other in near]
        )
        first = pc.list_element(decisions["slate"], 0)
        keys = pa.table({"decision_id": decisions["decision_id"], "made": decisions["time"], "shown": first})
        joined = feedback.join(keys, "decision_id", join_type="inner")
        age = pc.abs(pc.subtract(joined["received_at"].cast(pa.int64()), joined["made"].cast(pa.int64())))
        counts = pc.and_(pc.less_equal(age, int(SPEC.wait_s * 1e6)), pc.equal(joined["item_id"], joined["shown"]))
        worth = pc.multiply(weights.take(pc.index_in(joined["kind"], kinds)), joined["value"])
        counted = pa.table({"decision_id": joined["decision_id"], "worth": worth}).filter(counts)
        most = counted.group_by("decision_id").aggregate([("worth", "max")])
        reward = most["worth_max"].take(pc.index_in(decisions["decision_id"], most["decision_id"]))
        bounded = pc.max_element_wise(pc.min_element_wise(pc.fill_null(reward, SPEC.default), SPEC.limit), -SPEC.limit)
        n = decisions.num_rows
        columns = {name: decisions[name] for name in names if name != "seq"} | {
            "reward": bounded,
            "rewards": pa.ListArray.from_arrays(pa.array(np.arange(n + 1), pa.int32()), bounded.combine_chunks()),
            "propensity": pc.list_element(decisions["propensities"], 0),
            "next_decision_id": pa.nulls(n, pa.string()),
            "next_context": pa.nulls(n, pa.string()),
            "next_candidates": pa.nulls(n, pa.list_(pa.string())),
            "discount": pa.array(np.zeros(n)),
        }
        yield pa.table([columns[name] for name in TRANSITION_SCHEMA.names], schema=TRANSITION_SCHEMA)


class Memory:
    """The peak of the anonymous and shared memory of this process and those that it has started."""

    def __init__(self) -> None:
        self.peak, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the peak."""
        self._ended.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, sum(map(_bytes, [own, *own.children(recursive=True)])))


def _bytes(process: psutil.Process) -> int:
    with suppress(OSError, psutil.Error):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return 0


if __name__ == "__main__":
    main()
