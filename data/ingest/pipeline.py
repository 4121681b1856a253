"""The two pipelines of an ingestion on Ray Data, staging and merging, and a line that says how far they are.

Ray Data fuses the stages of a pipeline into one task for each read: a block goes from one to the next in memory.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from data.archive.parquet import KINDS
from data.cluster import quiet_ray_data
from data.errors import DataError
from data.ingest.reading import Piece
from data.ingest.stages import (
    Job,
    clean_blocks,
    finish_partitions,
    join_partitions,
    read_blocks,
    stage_blocks,
    write_partitions,
)
from data.nodes.scaler import Scaler

TASKS_PER_CPU = 6


class Progress:
    """A line on a terminal that says how far a run is; silent where the stream is no terminal."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._shown_s = 0.0

    def show(self, step: str, done: int, total: int, unit: str) -> None:
        """Show `done` of `total`; drawn at most ten times a second, and always when all is done."""
        now = time.monotonic()
        if self._stream is None or (now - self._shown_s < 0.1 and done < total):
            return
        self._shown_s = now
        share = min(done / total, 1.0) if total else 1.0
        bar = "=" * round(30 * share)
        self._stream.write(f"\r\x1b[K{step} [{bar:<30}] {share:4.0%}  {done:,} {unit}")
        self._stream.write("\n" if done >= total else "")
        self._stream.flush()


def task_count() -> int:
    """Return how many tasks a step is divided into, at most: enough for all CPUs to end at about the same time."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1))) * TASKS_PER_CPU


def stage(pieces: Sequence[Sequence[Piece]], job: Job) -> Iterator[pa.Table]:
    """Read, clean and stage the input; yields what is known of each block as it is done.

    Args:
        pieces: of each task.
        job: what the run is.

    Raises:
        DataError: a file turned out to be damaged.
    """
    return _run(
        [partial(read_blocks, of_task, job.node) for of_task in pieces],
        (clean_blocks, {"node": job.node}),
        (stage_blocks, {"job": job}),
    )


def merge(
    partitions: Sequence[Sequence[int]], job: Job, staged: Sequence[str], scaler: Scaler | None
) -> Iterator[pa.Table]:
    """Join, finish and write the staged rows of each partition; yields rows of `REPORT` as they are done.

    Args:
        partitions: of each task, their numbers.
        job: what the run is.
        staged: names of the staged blocks, in the order of the input.
        scaler: what the node's columns are scaled with.
    """
    parts = {kind: job.archive.parts(kind, job.node.name) for kind in KINDS}
    return _run(
        [partial(join_partitions, of_task, job, staged) for of_task in partitions],
        (finish_partitions, {"job": job, "parts": parts, "scaler": scaler}),
        (write_partitions, {"job": job}),
    )


class _Reads(Datasource):
    """Functions that yield blocks, each of them a task."""

    def __init__(self, functions: Sequence[Callable[[], Iterable[pa.Table]]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._functions = functions

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
        return [ReadTask(partial(_read, function), unknown) for function in self._functions]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def _read(function: Callable[[], Iterable[pa.Table]]) -> Iterable[pa.Table]:
    pa.set_memory_pool(pa.system_memory_pool())  # a tenth less time and memory than mimalloc, measured on all stages
    return function()


def _run(
    reads: Sequence[Callable[[], Iterable[pa.Table]]], *stages: tuple[Callable[..., Any], dict[str, Any]]
) -> Iterator[pa.Table]:
    if not reads:
        return
    try:
        with quiet_ray_data():
            DataContext.get_current().target_max_block_size = 1  # each row goes on by itself: it is a block
            rows = ray.data.read_datasource(_Reads(reads), override_num_blocks=len(reads))
            for function, arguments in stages:
                rows = rows.map_batches(function, batch_size=None, batch_format="pyarrow", fn_kwargs=arguments)
            yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and type(cause) is not DataError:  # Ray's own wrapper is a subclass of it
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise DataError(str(cause).splitlines()[0]) from error  # Ray appends advice
