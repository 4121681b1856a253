"""Where files lie that any node may read: a local path, or a URI of a pyarrow filesystem such as `s3://bucket/folder`."""

from pathlib import Path

import pyarrow as pa
from pyarrow.fs import FileSystem, LocalFileSystem

from data.errors import DataError


def locate(uri: str) -> tuple[FileSystem, str]:
    """Return the filesystem of a path or URI, and the path within it; nothing need be there yet.

    Raises:
        DataError: the URI names no filesystem that pyarrow knows.
    """
    if "://" not in uri:
        return LocalFileSystem(), str(Path(uri).absolute())
    try:
        filesystem, root = FileSystem.from_uri(uri)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot use {uri} as an archive: {' '.join(str(error).split())}") from error
    return filesystem, root.rstrip("/")
