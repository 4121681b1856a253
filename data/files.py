"""Input files: finding them, and checking them before anything is written. No Ray.

An input is a file, a glob (`*`, `?`, `[...]` within a folder, `**` across folders) or a directory, local or as a URI
of a pyarrow filesystem. The format is told by the extension: .parquet .pq .csv .jsonl .ndjson; CSV and JSON Lines may
be compressed (.gz .bz2 .zst .lz4). Other files in a directory are passed over, and those whose name
starts with . or _.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from data.convert import readable
from data.errors import DataError
from data.lines import parse_line
from data.node import NodeSpec

FORMATS: dict[str, Literal["parquet", "csv", "jsonl"]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
HEAD_LINES = 100
"""Lines of a JSON Lines file that are looked at before it is read."""
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
    format: Literal["parquet", "csv", "jsonl"]
    rows: int
    """Rows of a Parquet file; a guess for the others."""
    groups: tuple[RowGroup, ...] = ()

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
            for fs, name, uri in _resolve(path, filesystem):
                if uri not in found:
                    found[uri] = _checked(fs, name, uri, node)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {path}: {_one_line(error)}") from error
    if not found:
        raise DataError("no input given: name a file, a glob, a directory or a URI")
    return list(found.values())


def file_format(path: str) -> Literal["parquet", "csv", "jsonl"] | None:
    """Return the format that a file's name tells, None if it tells none."""
    name = PurePosixPath(path.lower())
    if name.suffix in COMPRESSED:
        inner = FORMATS.get(PurePosixPath(name.stem).suffix)
        return inner if inner != "parquet" else None
    return FORMATS.get(name.suffix)


def _resolve(path: str, filesystem: FileSystem | None) -> Iterator[tuple[FileSystem, str, str]]:
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
    for file in _expand(fs, name, path):
        yield fs, file, prefix + file


def _expand(fs: FileSystem, name: str, given: str) -> list[str]:
    info = fs.get_file_info(name)
    if info.type == FileType.File:
        if file_format(name) is None:
            raise DataError(f"cannot tell the format of {given}: expected the extension {' '.join(FORMATS)}")
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
        if entry.is_file and not hidden and file_format(entry.path) and matches.fullmatch(inner):
            files.append(entry.path)
    if not files:
        raise DataError(f"no file with the extension {' '.join(FORMATS)} in {given}")
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


def _checked(fs: FileSystem, path: str, uri: str, node: NodeSpec) -> InputFile:
    """Look into a file: its schema or its first lines."""
    form = file_format(path)
    assert form is not None
    try:
        if form == "parquet":
            with fs.open_input_file(path) as stream:
                footer = pq.ParquetFile(stream)
                _check_columns(footer.schema_arrow.names, node, uri)
                _check_types(footer.schema_arrow, node, uri)
                groups = [footer.metadata.row_group(index) for index in range(footer.metadata.num_row_groups)]
                sizes = tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)
                return InputFile(fs, path, uri, form, footer.metadata.num_rows, sizes)
        guess = InputFile(fs, path, uri, form, max(1, fs.get_file_info(path).size // BYTES_PER_ROW))
        with guess.open() as stream:
            names = _csv_header(stream) if form == "csv" else _json_keys(stream, uri)
        if names is not None:
            _check_columns(names, node, uri)
        return guess
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {uri} as {form}: {_one_line(error)}") from error


def _check_columns(names: Iterable[str], node: NodeSpec, uri: str) -> None:
    present = list(names)
    absent = [column.header for column in node.columns if column.header not in present]
    if absent:
        raise DataError(
            f"{uri} lacks {'columns' if len(absent) > 1 else 'column'} {', '.join(absent)} of node {node.name}; "
            f"it has {', '.join(present)}"
        )
    twice = [column.header for column in node.columns if present.count(column.header) > 1]
    if twice:
        raise DataError(f"{uri} has more than one column {', '.join(twice)}; node {node.name} needs exactly one")


def _check_types(schema: pa.Schema, node: NodeSpec, uri: str) -> None:
    for column in node.columns:
        kind = schema.field(column.header).type
        if not readable(kind):
            raise DataError(f"column {column.header} of {uri} is a {kind}; expected text, a number, a bool or a time")


def _csv_header(stream: Any) -> list[str]:
    with pacsv.open_csv(stream, parse_options=pacsv.ParseOptions(invalid_row_handler=lambda row: "skip")) as reader:
        names: list[str] = reader.schema.names
        return names


def _json_keys(stream: Any, uri: str) -> set[str] | None:
    """Return the keys of the first lines, None where there is no line at all."""
    lines = [line for line in stream.read(1 << 20).split(b"\n")[:HEAD_LINES] if line.strip()]
    records = [record for record in map(parse_line, lines) if isinstance(record, dict)]
    if lines and not records:
        raise DataError(f"cannot read {uri} as jsonl: none of its first {len(lines)} lines is a JSON object")
    return {key for record in records for key in record} if records else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
