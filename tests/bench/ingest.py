"""Ingestion speed and memory beside one pandas process doing the same work: `python -m tests.bench.ingest [FILE]`.

The input is the Online Retail file repeated, each time with invoice numbers of its own, as one Parquet file a repeat.
It is made in a temporary folder before anything is measured and removed afterwards.

Ours: `data.ingest.run.ingest` on a local Ray of its own with as many CPUs as the machine has, Ray started and one small
ingestion done before, so that neither the start of Ray nor that of its workers is measured. Its peak is the largest
sum of the proportional set sizes (PSS: shared pages divided among those who share them, so the object store counts
once) of this process and all processes below it (Ray's workers, raylet, object store, control store), read every
0.2 s, less the same sum just before the ingestion. As a reading takes 30 to 90 ms of a core, the peak is that of a run
of its own, which is not timed. `--small` gives the same peak for a smaller input.

pandas: a process of its own, its imports not measured. It reads the columns as pyarrow-backed strings, checks the same
rules in the same order, fills, scales, deduplicates, and writes events and rejects with their reasons to Parquet; it
makes no event ids, writes no scaler, and keeps no rerun from adding rows twice. Its peak is its largest resident set
(VmHWM) less its resident set just before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from data.cluster import start_ray
from data.ingest.reading import LEAST_TASK_ROWS
from data.ingest.run import Summary, ingest
from data.nodes.node import load_node
from tests.bench.common import finish, say

MIB = 1 << 20


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    folder = Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data"))
    parser.add_argument("file", nargs="?", type=Path, default=folder / "online-retail" / "online_retail.parquet")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--small", type=int, default=5, help="repeats of a second, smaller input; 0: none")
    parser.add_argument("--without-pandas", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary:
        place = Path(temporary)
        figures: dict[str, float] = {}
        peers: dict[str, float] = {}
        warm_up_rows(options.file, place)
        small = f"ours_peak_mib_{options.small}x"
        if options.small:
            peers[small] = run_ours(repeat(options.file, place / "small", options.small), place / "small-archive")[1]
        large = repeat(options.file, place / "large", options.repeats)
        _, peak = run_ours(large, place / "sampled-archive")
        summary, _ = run_ours(large, place / "archive", sample=False)
        say(f"ours: {summary.model_dump_json()} peak {peak:.0f} MiB")
        figures |= {"rows": summary.read, "ours_rows_s": summary.rows_s, "ours_peak_mib": round(peak, 1)}
        if not options.without_pandas:
            peer = run_pandas(large, place / "pandas")
            say(f"pandas: {peer}")
            if peer["events"] != summary.events or peer["rejects"] != summary.rejects:
                say(f"THE RESULTS DIFFER: ours {summary.events} events, {summary.rejects} rejects")
            figures |= {"pandas_rows_s": round(summary.read / peer["seconds"], 1)}
            figures |= {"pandas_peak_mib": round(peer["peak_mib"], 1)}
            figures["ratio"] = round(figures["ours_rows_s"] / figures["pandas_rows_s"], 3)
    finish("ingest", figures, peers, seeds=1)


def repeat(file: Path, folder: Path, repeats: int) -> Path:
    """Write the table `repeats` times, the invoice numbers of each prefixed with its own."""
    folder.mkdir()
    table = pq.read_table(file)
    at = table.column_names.index("InvoiceNo")
    for number in range(repeats):
        own = pc.binary_join_element_wise(f"{number:02d}", table["InvoiceNo"], "-")
        pq.write_table(table.set_column(at, "InvoiceNo", own), folder / f"{number:02d}.parquet")
    return folder


def warm_up_rows(file: Path, place: Path) -> None:
    """Write a file for each CPU, just large enough to be a task of its own: their ingestion runs in each worker."""
    rows = pq.read_table(file).slice(0, LEAST_TASK_ROWS)
    (place / "warm").mkdir()
    for number in range(os.cpu_count() or 1):
        pq.write_table(rows, place / "warm" / f"{number}.parquet")


def run_ours(folder: Path, archive: Path, sample: bool = True) -> tuple[Summary, float]:
    """Ingest a folder with a Ray of its own; returns the summary and, if it is sampled, the peak in MiB."""
    start_ray()
    ingest([str(folder.parent / "warm")], load_node("online_retail"), str(archive) + "-warm")
    sampler = Sampler()
    if sample:
        sampler.start()
    summary = ingest([str(folder)], load_node("online_retail"), str(archive))
    if sample:
        sampler.stop()
    ray.shutdown()
    return summary, sampler.peak_mib


class Sampler(threading.Thread):
    """Reads the memory of this process and those below it until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        self._before = self._peak = memory_of_tree(os.getpid())

    def run(self) -> None:
        while not self._stopped.wait(0.2):
            self._peak = max(self._peak, memory_of_tree(os.getpid()))

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    @property
    def peak_mib(self) -> float:
        return (self._peak - self._before) / MIB


def memory_of_tree(root: int) -> int:
    """Return the sum of the proportional set sizes, in bytes, of a process and all below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents[int(entry.name)] = int(fields[1])
    below = {root}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(proportional_size(process) for process in below)


def proportional_size(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def run_pandas(folder: Path, target: Path) -> dict[str, float]:
    """Run the pandas pass in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.ingest_pandas", str(folder), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
