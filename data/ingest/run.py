"""Node records in files to events and rejects in the archive: `python -m data.ingest --help`. Imports Ray.

Three steps. *Stage*: each block of rows is cleaned and its rows are written by the first bits of their ids. *Merge*:
for each such partition, duplicates and what the archive already holds are left out and the rest becomes a Parquet
file, still in the staging folder. *Publish*: the files are moved to their places. A run that is killed has published
nothing or some whole partitions; the next one finds those rows known, so the tables end up the same.
"""

import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pydantic import BaseModel, ConfigDict

from data.archive.parquet import KINDS, Archive
from data.atomic import sync
from data.cluster import start_ray
from data.command import DONE, argument_parser, command
from data.errors import DataError
from data.ingest.files import InputFile, find_files
from data.ingest.pipeline import Progress, merge, stage, task_count
from data.ingest.reading import divide, task_rows
from data.ingest.stages import Job, bits_for
from data.nodes.node import NodeSpec, load_node
from data.nodes.scaler import Moments, Scaler, merge_moments
from data.private import keep_private
from data.settings import Settings


class Summary(BaseModel):
    """What one ingestion did: read = rejected + dropped + duplicates + known + events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    archive: str
    read: int
    rejected: dict[str, int]
    """Rows by the first rule that they broke, in the order of the checks."""
    dropped: dict[str, int]
    """Rows left out for a missing value, by column."""
    unaccounted: int
    """read - (rejected + dropped + duplicates + known + events): 0, or nothing would have been added."""
    duplicates: int
    """Rows whose id an earlier row of this input has."""
    known: int
    """Rows that the archive had before."""
    events: int
    """New events."""
    rejects: int
    """New rows of the rejects table."""
    events_total: int
    """Events of the node in the archive, after this run."""
    users: int
    items: int
    sessions: int
    """Distinct ids among the rows of this input that broke no rule."""
    scaler_version: int | None
    seconds: float
    """Without the time it took to start Ray, if it was started."""
    rows_s: float
    """Rows read a second."""


def ingest(
    paths: Sequence[str],
    node: NodeSpec,
    archive_uri: str,
    *,
    filesystem: FileSystem | None = None,
    refit_scaler: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Ingest files of a node's rows. Uses the Ray that is running, or starts one on this machine.

    Args:
        paths: files, globs, directories or URIs, as `files.find_files` takes them.
        node: the declaration.
        archive_uri: local path or pyarrow filesystem URI of the archive.
        filesystem: where `paths` lie, if not on the local filesystem or that of their URI.
        refit_scaler: fit the next version of the node's scaler on this input.
        progress: shows how far the run is; default: shows nothing.

    Raises:
        DataError: an input cannot be read or lacks a column, or the node is being ingested. Nothing was added.
    """
    progress = progress or Progress()
    archive = Archive.at(archive_uri)
    start = time.perf_counter()
    files = find_files(paths, node, filesystem)
    checked_s = time.perf_counter() - start
    start_ray()
    start = time.perf_counter() - checked_s
    run = f"{time.strftime('%Y%m%dt%H%M%Sz', time.gmtime())}{uuid.uuid4().hex[:8]}"
    with archive.lock(node.name), archive.staging(node.name, run) as staging:
        rows = sum(file.rows for file in files)
        job = Job(archive, node, staging, run, bits_for(rows))
        staged = _stage(job, files, rows, progress)
        stored = archive.scaler(node.name)
        scaler = _fit(job, staged, stored) if refit_scaler or stored is None else stored
        merged = _merge(job, staged.blocks, scaler, progress)
        if unaccounted := _count_unaccounted(staged, merged):
            raise DataError(
                f"{abs(unaccounted)} of the {staged.totals['read']} rows read became neither an event nor a reject, "
                "were neither dropped nor known: nothing was added. This is a fault of ours; please report it"
            )
        if scaler is not None and scaler is not stored:
            archive.store_scaler(scaler, staging)
        _publish(job, merged)
    seconds = time.perf_counter() - start
    return _summary(job, archive_uri, staged, merged, scaler, seconds)


class _Staged:
    """What the staged blocks report, gathered as they come in and independent of the order they come in."""

    def __init__(self) -> None:
        self.reports: dict[str, dict[str, Any]] = {}
        self.totals: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._distinct: dict[str, pa.Array] = {}

    def add(self, block: pa.Table) -> None:
        names = [name for name in block.column_names if name.startswith("distinct_")]
        for name in names:
            before = self._distinct.get(name, pa.array([], pa.string()))
            self._distinct[name] = pc.unique(pa.concat_arrays([before, *(c.flatten() for c in block[name].chunks)]))
        for report in block.drop_columns(names).to_pylist():
            self.reports[report["block"]] = report
            self.totals.update(read=report["read"], accepted=report["accepted"])
            for tally, counts in ((self.rejected, report["rejected"]), (self.dropped, report["dropped"])):
                tally.update({pair["name"]: pair["count"] for pair in counts})

    @property
    def blocks(self) -> list[str]:
        """The staged blocks in the order of the input."""
        return sorted(self.reports)

    def distinct(self, role: str) -> int:
        return len(self._distinct.get(f"distinct_{role}", ()))

    def moments(self, column: str) -> Iterator[Moments]:
        return (Moments(**self.reports[block][f"moments_{column}"]) for block in self.blocks)


def _stage(job: Job, files: list[InputFile], rows: int, progress: Progress) -> _Staged:
    pieces = list(divide(files, task_rows(files, task_count())))
    staged = _Staged()
    for block in stage(pieces, job):
        staged.add(block)
        progress.show("read ", staged.totals["read"], max(rows, staged.totals["read"] + 1), "rows")
    progress.show("read ", staged.totals["read"], staged.totals["read"], "rows")
    return staged


def _fit(job: Job, staged: _Staged, stored: Scaler | None) -> Scaler | None:
    """Fit the next version of the node's scaler; None where there is nothing to fit it on."""
    if not job.node.scaled_columns or not staged.totals["accepted"]:
        return stored
    moments = merge_moments({c.name: part} for c in job.node.scaled_columns for part in staged.moments(c.name))
    return Scaler.fit(job.node, moments, version=stored.version + 1 if stored else 1)


def _merge(job: Job, staged: list[str], scaler: Scaler | None, progress: Progress) -> list[dict[str, Any]]:
    if not staged:
        return []
    count = 1 << job.bits
    size = max(1, count // task_count())
    partitions = [range(first, min(first + size, count)) for first in range(0, count, size)]
    merged: list[dict[str, Any]] = []
    for reports in merge(partitions, job, staged, scaler):
        merged += reports.to_pylist()
        progress.show("merge", len(merged) // len(KINDS), count, "partitions")
    return merged


def _publish(job: Job, merged: list[dict[str, Any]]) -> None:
    new = [report for report in merged if report["path"]]
    for report in new:
        folder = job.archive.folder(report["kind"], job.node.name)
        job.archive.publish(report["path"], f"{folder}/p{report['prefix']}-{job.run}.parquet")
    if job.archive.is_local:
        for kind in {report["kind"] for report in new}:
            sync(job.archive.folder(kind, job.node.name))


def _summary(
    job: Job, archive_uri: str, staged: _Staged, merged: list[dict[str, Any]], scaler: Scaler | None, seconds: float
) -> Summary:
    events, rejects, read = _sums(merged, "events"), _sums(merged, "rejects"), staged.totals["read"]
    checks = ["malformed row", *(f"type of {c.name}" for c in job.node.columns)]
    checks += [f"{c.name} present" for c in job.node.columns] + [rule.name for rule in job.node.rules]
    return Summary(
        node=job.node.name,
        archive=archive_uri,
        read=read,
        rejected={rule: staged.rejected[rule] for rule in checks if rule in staged.rejected},
        dropped=dict(staged.dropped),
        unaccounted=_count_unaccounted(staged, merged),
        duplicates=events["duplicates"],
        known=events["known"],
        events=events["new"],
        rejects=rejects["new"],
        events_total=job.archive.dataset("events", job.node).count_rows(),
        users=staged.distinct("user"),
        items=staged.distinct("item"),
        sessions=staged.distinct("session"),
        scaler_version=scaler.version if scaler else None,
        seconds=round(seconds, 3),
        rows_s=round(read / seconds, 1),
    )


def _sums(merged: list[dict[str, Any]], kind: str) -> Counter[str]:
    """Return the numbers of new, duplicate and known rows of a kind."""
    sums = Counter({"new": 0})
    for report in merged:
        if report["kind"] == kind:
            sums.update({name: report[name] for name in ("new", "duplicates", "known")})
    return sums


def _count_unaccounted(staged: _Staged, merged: list[dict[str, Any]]) -> int:
    return staged.totals["read"] - staged.rejected.total() - staged.dropped.total() - _sums(merged, "events").total()


@command("data.ingest")
def main(arguments: Sequence[str]) -> int:
    """Run the command: the summary as JSON on standard output."""
    parser = argument_parser("data.ingest", "Ingest files of a node's rows.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, glob, directory or pyarrow filesystem URI")
    parser.add_argument("--node", required=True, help="name of a node in data/nodes, or path of a TOML file")
    parser.add_argument("--archive", help="URI of the archive; default: RAYCOMMEND_ARCHIVE, or that of the home")
    parser.add_argument("--refit-scaler", action="store_true", help="fit the next version of the scaler on this input")
    options = parser.parse_args(arguments)
    keep_private(Settings().home)
    node = load_node(options.node)
    archive = options.archive or Settings().archive_uri
    summary = ingest(options.paths, node, archive, refit_scaler=options.refit_scaler, progress=Progress(sys.stderr))
    print(summary.model_dump_json())
    return DONE
