"""Ingested events and rejects as Parquet, on any pyarrow filesystem: where they lie and how to read them.

    ARCHIVE/events/node_id=NODE/p0110-RUN.parquet   a run's new events whose digest begins with the bits 0110
    ARCHIVE/rejects/node_id=NODE/...                the same for rejects
    ARCHIVE/scalers/NODE/v1.json                    scalers, by version
    ARCHIVE/_locks, ARCHIVE/_staging                used while an ingestion runs

Files are only ever added, whole, or replaced by a whole one without the rows of a forgotten user. Readers pass over
names that begin with an underscore.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem

from data.atomic import lock, sync
from data.errors import DataError
from data.filesystems import locate
from data.nodes.columns import events_schema, rejects_schema
from data.nodes.node import NodeSpec
from data.nodes.scaler import Scaler

Kind: TypeAlias = Literal["events", "rejects"]
KINDS: tuple[Kind, Kind] = ("events", "rejects")
PART = re.compile(r"p([01]*)-[0-9a-z]+\.parquet")
NODE_ID = pa.schema([("node_id", pa.string())])


class NodeInUse(DataError):  # noqa: N818 - a state that passes, not a mistake
    """Another process ingests rows of a node."""


@dataclass(frozen=True)
class Archive:
    """A folder of a filesystem that holds the tables."""

    filesystem: FileSystem
    root: str

    @classmethod
    def at(cls, uri: str) -> "Archive":
        """Return the archive at a local path or a pyarrow filesystem URI; it need not exist yet.

        Raises:
            DataError: the URI names no filesystem that pyarrow knows.
        """
        return cls(*locate(uri))

    @property
    def is_local(self) -> bool:
        """Whether the archive lies on this machine's own filesystem."""
        return isinstance(self.filesystem, LocalFileSystem)

    def folder(self, kind: Kind, node_id: str) -> str:
        """Return the path of a node's table."""
        return f"{self.root}/{kind}/node_id={node_id}"

    def parts(self, kind: Kind, node_id: str) -> list[tuple[str, str]]:
        """Return the digest prefix and the path of each file of a node's table, by path."""
        selector = FileSelector(self.folder(kind, node_id), allow_not_found=True)
        paths = sorted(entry.path for entry in self.filesystem.get_file_info(selector) if entry.is_file)
        found = [(PART.fullmatch(path.rpartition("/")[2]), path) for path in paths]
        return [(match.group(1), path) for match, path in found if match]

    def dataset(self, kind: Kind, node: NodeSpec) -> pads.Dataset:
        """Return a node's table as a dataset, with a `node_id` column; empty if nothing has been ingested."""
        schema = events_schema(node) if kind == "events" else rejects_schema(node)
        return pads.dataset(
            [path for _, path in self.parts(kind, node.name)],
            schema=schema.append(NODE_ID.field(0)),
            format="parquet",
            filesystem=self.filesystem,
            partitioning=pads.partitioning(NODE_ID, flavor="hive"),
        )

    def scaler(self, node_id: str) -> Scaler | None:
        """Return the newest scaler of a node."""
        selector = FileSelector(f"{self.root}/scalers/{node_id}", allow_not_found=True)
        names = [entry.path for entry in self.filesystem.get_file_info(selector) if entry.path.endswith(".json")]
        if not names:
            return None
        newest = max(names, key=lambda path: int(path.rpartition("/v")[2].removesuffix(".json")))
        with self.filesystem.open_input_stream(newest) as stream:
            return Scaler.model_validate_json(stream.read())

    def store_scaler(self, scaler: Scaler, staging: str) -> None:
        """Store a scaler under its version: whole or not at all."""
        folder = f"{self.root}/scalers/{scaler.node}"
        with self.filesystem.open_output_stream(f"{staging}/scaler.json") as stream:
            stream.write(scaler.model_dump_json(indent=2).encode())
        if self.is_local:
            sync(f"{staging}/scaler.json")
        self.publish(f"{staging}/scaler.json", f"{folder}/v{scaler.version}.json")

    def publish(self, staged: str, path: str) -> None:
        """Move a finished file to its place, where it appears whole."""
        self.filesystem.create_dir(path.rpartition("/")[0])
        self.filesystem.move(staged, path)

    def nodes(self) -> list[str]:
        """Return the nodes that have a table, or anything unfinished."""
        found = set[str]()
        for folder in ("events", "rejects", "_staging"):
            entries = self.filesystem.get_file_info(FileSelector(f"{self.root}/{folder}", allow_not_found=True))
            found.update(entry.base_name.removeprefix("node_id=") for entry in entries if not entry.is_file)
        return sorted(found)

    @contextmanager
    def staging(self, node_id: str, run: str) -> Iterator[str]:
        """Give a run a folder for unfinished files, after removing what killed runs of the node have left."""
        parent = f"{self.root}/_staging/{node_id}"
        self.filesystem.create_dir(parent)
        self.filesystem.delete_dir_contents(parent, missing_dir_ok=True)
        self.filesystem.create_dir(f"{parent}/{run}")
        try:
            yield f"{parent}/{run}"
        finally:
            self.filesystem.delete_dir(parent)

    @contextmanager
    def lock(self, node_id: str) -> Iterator[None]:
        """Keep a second ingestion of the node out; the system gives the lock back when its process dies.

        Only a local archive can be locked: on object storage, run one ingestion of a node at a time.

        Raises:
            NodeInUse: another process holds the lock.
        """
        if not self.is_local:
            yield
            return
        path = Path(self.root) / "_locks" / f"{node_id}.lock"
        with lock(path, lambda process: self._is_in_use(node_id, process)):
            yield

    def _is_in_use(self, node_id: str, process: str) -> NodeInUse:
        return NodeInUse(
            f"node {node_id} is being ingested into {self.root} by process {process}; wait until it has ended"
        )


def read_events(archive_uri: str, node: NodeSpec) -> pads.Dataset:
    """Return a node's events as a dataset: the columns of `events_schema` and `node_id`, in no particular order."""
    return Archive.at(archive_uri).dataset("events", node)


def write_part(table: pa.Table, path: str, identity: str, archive: Archive) -> None:
    """Write rows as a file of the archive; `identity` is their column of ids."""
    leaves = [
        leaf
        for field in table.schema
        for leaf in (
            [f"{field.name}.{part.name}" for part in field.type] if pa.types.is_struct(field.type) else [field.name]
        )
        if leaf != identity  # ids neither repeat nor compress
    ]
    # A partition has rows of all users and items: bounds of text would never rule a file out.
    bounded = [field.name for field in table.schema if pa.types.is_primitive(field.type)]
    with archive.filesystem.open_output_stream(path) as stream:
        pq.write_table(
            table,
            stream,
            compression=dict.fromkeys(leaves, "snappy"),
            use_dictionary=leaves,
            write_statistics=bounded,
            store_schema=False,  # text is text to readers, dictionary or not
        )
    if archive.is_local:
        sync(path)
