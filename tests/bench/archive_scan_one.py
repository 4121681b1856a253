"""What `tests.bench.archive_scan` runs in processes of their own: `archive_scan_one ray|pyarrow HOME`."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray

from data.log.store import Store
from rl.experience.logged import TransitionQuery, logged_transitions
from tests.bench.archive_scan import SPEC, UNTIL, Memory, join_in_pyarrow


def main() -> None:
    """Read all transitions, print how many, what they earned, the peak of memory and rows a second."""
    way, home = sys.argv[1], Path(sys.argv[2])
    url = f"sqlite:///{home}/store.db"
    if way == "ray":
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    memory, began = Memory(), time.monotonic()
    rows, reward = 0, 0.0
    for table in _with_ray(url) if way == "ray" else _with_pyarrow(url):
        rows += table.num_rows
        reward += pc.sum(table["reward"]).as_py() or 0.0
    seconds = time.monotonic() - began
    print(json.dumps({"transitions": rows, "reward": reward, "peak": memory.stop(), "rows_s": rows / seconds}))


def _with_ray(url: str) -> Iterator[pa.Table]:
    yield from logged_transitions(TransitionQuery(url, SPEC, UNTIL)).iter_batches(
        batch_size=None, batch_format="pyarrow"
    )


def _with_pyarrow(url: str) -> Iterator[pa.Table]:
    with closing(Store.open(url)) as store:
        yield from join_in_pyarrow(store)


if __name__ == "__main__":
    main()
