"""Input files: finding them, and checking them before anything is written. No Ray.

An input is a file, a glob (`*`, `?`, `[...]` within a folder, `**` across folders) or a directory, local or as a URI
of a pyarrow filesystem. The format is told by the extension: .parquet .pq .jsonl .ndjson, and .csv or what the node
declares instead; CSV and JSON Lines may be compressed (.gz .bz2 .zst .lz4). Other files in a directory are passed over,
and those whose name starts with . or _. A column that a file lacks is taken from its path, where that has a folder
COLUMN=VALUE.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from data.errors import DataError, UnreadableError
from data.ingest.csv_blocks import read_names
from data.ingest.headers import (
    HEAD_LINES,
    advice,
    check_columns,
    check_keys,
    check_types,
)
from data.ingest.lines import parse_line
from data.nodes.node import NodeSpec

Format: TypeAlias = Literal["parquet", "csv", "jsonl"]
FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
BYTES_PER_ROW = 50
"""Used to guess the number of rows of a text file; only the number of partitions depends on it."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file."""

    rows: int
    size: int
    """Bytes, uncompressed."""


@dataclass(frozen=True)
class InputFile:
    """One file to read."""

    filesystem: FileSystem
    path: str
    uri: str
    format: Format
    rows: int
    """Rows of a Parquet file; a guess for the others."""
    groups: tuple[RowGroup, ...] = ()
    partition: tuple[tuple[str, str | None], ...] = ()
    """Header and value of each column of the node that the path gives and the file lacks."""

    def own(self, node: NodeSpec) -> list[str]:
        """Return the headers of the node's columns that are in the file itself."""
        given = dict(self.partition)
        return [column.header for column in node.columns if column.header not in given]

    def open(self) -> Any:  # a pyarrow.NativeFile; pyarrow has no types
        """Open the file as a stream of its uncompressed bytes."""
        return self.filesystem.open_input_stream(self.path, compression="detect")


def find_files(paths: Sequence[str], node: NodeSpec, filesystem: FileSystem | None = None) -> list[InputFile]:
    """Resolve inputs and check that each file can be read and has the node's columns.

    Args:
        paths: files, globs, directories or URIs; with `filesystem`, paths inside it.
        node: the declaration.
        filesystem: default: the local one, or what a URI names.

    Returns:
        The files in the order of `paths`, those of one glob or directory by name, each once.

    Raises:
        DataError: nothing was found, a file cannot be read, or one of its columns is missing.
    """
    found: dict[str, InputFile] = {}
    for path in paths:
        try:
            for fs, name, uri in _resolve(path, node, filesystem):
                if uri not in found:
                    found[uri] = _inspect(fs, name, uri, node)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {path}: {_one_line(error)}") from error
    if not found:
        raise DataError("no input given: name a file, a glob, a directory or a URI")
    return list(found.values())


def file_format(path: str, node: NodeSpec) -> Format | None:
    """Return the format that a file's name tells, None if it tells none."""
    formats = _formats(node)
    name = PurePosixPath(path.lower())
    if name.suffix in COMPRESSED:
        inner = formats.get(PurePosixPath(name.stem).suffix)
        return inner if inner != "parquet" else None
    return formats.get(name.suffix)


def _formats(node: NodeSpec) -> dict[str, Format]:
    return FORMATS | dict.fromkeys(node.csv.extensions, "csv")


def _resolve(path: str, node: NodeSpec, filesystem: FileSystem | None) -> Iterator[tuple[FileSystem, str, str]]:
    """Yield filesystem, path and URI of each file that an input names."""
    if filesystem is not None:
        fs, name, prefix = filesystem, path, f"{filesystem.type_name}://"
    elif "://" in path:
        scheme, _, rest = path.partition("://")
        wild = re.search(r"[*?\[]", rest) if scheme == "file" else re.search(r"[*\[]", rest)
        if wild:  # a URI parser would take ? and [ for its own
            base = rest[: wild.start()].rpartition("/")[0]
            fs, root = FileSystem.from_uri(f"{scheme}://{base or '/'}")
            name = f"{root.rstrip('/')}/{rest[len(base) :].lstrip('/')}"
        else:
            fs, name = FileSystem.from_uri(path)
        prefix = f"{scheme}://"
    else:
        fs, name, prefix = LocalFileSystem(), str(Path(path).absolute()), "file://"
    for file in _expand(fs, name, path, node):
        yield fs, file, prefix + file


def _expand(fs: FileSystem, name: str, given: str, node: NodeSpec) -> list[str]:
    extensions = " ".join(_formats(node))
    info = fs.get_file_info(name)
    if info.type == FileType.File:
        if file_format(name, node) is None:
            raise DataError(
                f"cannot tell the format of {given}: expected the extension {extensions}; "
                "other ones of CSV files can be named as extensions in [csv] of the node"
            )
        return [name]
    if info.type == FileType.Directory:
        base, pattern = name, "**"
    elif wild := re.search(r"[*?\[]", name):
        base = name[: wild.start()].rpartition("/")[0]
        pattern = name[len(base) :].lstrip("/")
    else:
        raise DataError(f"no such file or directory: {given}")
    matches = _translate(pattern)
    files = []
    for entry in fs.get_file_info(FileSelector(base, recursive=True, allow_not_found=True)):
        inner = entry.path[len(base) :].lstrip("/")
        hidden = any(part.startswith((".", "_")) for part in inner.split("/"))
        if entry.is_file and not hidden and file_format(entry.path, node) and matches.fullmatch(inner):
            files.append(entry.path)
    if not files:
        raise DataError(f"no file with the extension {extensions} in {given}")
    return sorted(files)


def _translate(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a glob."""
    parts = re.split(r"(\*\*/?|\*|\?|\[[^\]]+\])", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(
            known.get(part) or (part.replace("[!", "[^") if part[:1] == "[" and part[-1:] == "]" else re.escape(part))
            for part in parts
        )
    )


def _inspect(fs: FileSystem, path: str, uri: str, node: NodeSpec) -> InputFile:
    """Look into a file: its schema or its first lines."""
    form = file_format(path, node)
    assert form is not None
    try:
        if form == "parquet":
            return _checked_parquet(fs, path, uri, node)
        guess = InputFile(fs, path, uri, form, max(1, fs.get_file_info(path).size // BYTES_PER_ROW))
        with guess.open() as stream:
            names, keys = (read_names(stream, node.csv), None) if form == "csv" else (None, _json_keys(stream))
        given = _partition(path, names or (), node)  # of JSON, for lines that lack what others have
        if names is not None:
            check_columns([*names, *given], node, uri, advice(names, node))
        if keys is not None:
            check_keys({*keys, *given}, node, uri)
        return replace(guess, partition=tuple(given.items()))
    except (OSError, UnicodeError, pa.ArrowException, UnreadableError) as error:
        raise DataError(f"cannot read {uri} as {form}: {_one_line(error)}") from error


def _checked_parquet(fs: FileSystem, path: str, uri: str, node: NodeSpec) -> InputFile:
    with fs.open_input_file(path) as stream:
        footer = pq.ParquetFile(stream)
        schema, metadata = footer.schema_arrow, footer.metadata
    given = _partition(path, schema.names, node)
    check_columns([*schema.names, *given], node, uri)
    check_types(schema, node, uri)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    sizes = tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)
    return InputFile(fs, path, uri, "parquet", metadata.num_rows, sizes, tuple(given.items()))


def _partition(path: str, names: Iterable[str], node: NodeSpec) -> dict[str, str | None]:
    """Return the values that folders of a path give to columns of the node that are not among a file's own."""
    own = set(names)
    schema = pa.schema([(column.header, pa.string()) for column in node.columns if column.header not in own])
    partitioning = pads.partitioning(schema, flavor="hive")
    given: dict[str, str | None] = pads.get_partition_keys(partitioning.parse(path))
    return given


def _json_keys(stream: Any) -> set[str] | None:
    """Return the keys of the first lines, None where there is no line at all."""
    lines = [line for line in stream.read(1 << 20).split(b"\n")[:HEAD_LINES] if line.strip()]
    records = [record for record in map(parse_line, lines) if isinstance(record, dict)]
    if lines and not records:
        raise UnreadableError(f"none of its first {len(lines)} lines is a JSON object")
    return {key for record in records for key in record} if records else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
