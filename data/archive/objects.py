"""Folders of files that any node reads: each packed into one file, named by its hash, under one URI.

    ROOT/KIND/NAME.SHA256.tar      a packed folder
    CACHE/KIND/NAME.SHA256/        what this node has read of it

One file is written whole or not at all on every filesystem, object stores included, which cannot rename a folder.
The hash in the name is checked when it is read. A folder that is replaced gets another hash, so that no node goes on
with what it has cached.
"""

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileType

from data.archive.parquet import Archive
from data.atomic import name_folder, sync
from data.errors import DataError

SERVED: Final = "served"
"""The kind of the artefacts that were ever served, by their digests."""
_SUFFIX = ".tar"


class ObjectMissing(DataError):  # noqa: N818 - a state
    """There is no object of that name."""


class ObjectDamaged(DataError):  # noqa: N818 - a state
    """What lies there is not what was written."""


@dataclass(frozen=True)
class Objects:
    """The packed folders of one kind.

    All methods raise DataError if the filesystem does not answer.

    Args:
        archive: where they lie.
        kind: the folder within it.
        cache: this node's own copies; may be deleted at any time.
    """

    archive: Archive
    kind: str
    cache: Path

    @classmethod
    def at(cls, uri: str, kind: str, cache: Path) -> "Objects":
        """Return the packed folders of a kind at a local path or a pyarrow filesystem URI.

        Raises:
            DataError: the URI names no filesystem that pyarrow knows.
        """
        return cls(Archive.at(uri), kind, cache)

    def put(self, name: str, folder: Path) -> None:
        """Keep the files of a folder under a name, beside what has the name; the same content again changes nothing."""
        packed = _pack(folder)
        path = self._path(name, packed)
        with self._errors():
            if self.archive.filesystem.get_file_info(path).type != FileType.File:
                self._write(packed, path)

    def replace(self, name: str, folder: Path) -> None:
        """Keep the files of a folder in the place of all that has the name, the same that was damaged too."""
        packed = _pack(folder)
        with self._errors():
            self._write(packed, self._path(name, packed))
        self._delete(name, [info for info in self._versions(name) if _hash_of(info) != _hash(packed)])

    def get(self, name: str) -> Path:
        """Return a local folder with the files that were kept under a name last, not to be written to.

        Raises:
            ObjectMissing: there is none.
            ObjectDamaged: the file is not what was written.
        """
        versions = self._versions(name)
        if not versions:
            raise ObjectMissing(f"{self._root} has no {name}")
        newest = versions[-1]
        local = self.cache / self.kind / f"{name}.{_hash_of(newest)}"
        if not (local.is_dir() and _hash(_pack(local)) == _hash_of(newest)):
            self._download(newest, local)
        for stale in self.cache.glob(f"{self.kind}/{name}.*"):  # replaced, maybe as a user was taken out of it
            if stale != local:
                shutil.rmtree(stale, ignore_errors=True)
        return local

    def has(self, name: str) -> bool:
        """Return whether there is an object of that name."""
        return bool(self._versions(name))

    def names(self) -> list[str]:
        """Return the names of all, in alphabetical order."""
        return sorted({_name_of(info) for info in self._infos()})

    def delete(self, name: str) -> None:
        """Delete all that has a name, here and from this node's cache."""
        self._delete(name, self._versions(name))

    @property
    def _root(self) -> str:
        return f"{self.archive.root}/{self.kind}"

    def _path(self, name: str, packed: bytes) -> str:
        return f"{self._root}/{name}.{_hash(packed)}{_SUFFIX}"

    def _infos(self) -> list[FileInfo]:
        with self._errors():
            infos = self.archive.filesystem.get_file_info(FileSelector(self._root, allow_not_found=True))
        return [info for info in infos if info.is_file and info.base_name.endswith(_SUFFIX) and _is_whole(info)]

    def _versions(self, name: str) -> list[FileInfo]:
        """Return the files that have a name, the newest last."""
        found = [info for info in self._infos() if _name_of(info) == name]
        return sorted(found, key=lambda info: (info.mtime_ns, info.path))

    def _write(self, packed: bytes, path: str) -> None:
        filesystem = self.archive.filesystem
        filesystem.create_dir(self._root)
        if not self.archive.is_local:  # an object appears when it is complete
            with filesystem.open_output_stream(path) as stream:
                stream.write(packed)
            return
        aside = Path(self._root) / f"_{uuid4().hex}.new"
        aside.write_bytes(packed)
        sync(aside)
        aside.replace(path)
        sync(self._root)

    def _download(self, info: FileInfo, local: Path) -> None:
        with self._errors(), self.archive.filesystem.open_input_stream(info.path) as stream:
            packed = stream.read()
        if (found := _hash(packed)) != _hash_of(info):
            raise ObjectDamaged(f"{info.path} has sha256 {found}, its name says {_hash_of(info)}")
        shutil.rmtree(local, ignore_errors=True)
        aside = local.with_name(f"{uuid4().hex}.new")
        aside.mkdir(mode=0o700, parents=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            tar.extractall(aside, filter="data")
        name_folder(aside, local)

    def _delete(self, name: str, infos: list[FileInfo]) -> None:
        for info in infos:
            with self._errors():
                self.archive.filesystem.delete_file(info.path)
            shutil.rmtree(self.cache / self.kind / f"{name}.{_hash_of(info)}", ignore_errors=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self._root} does not answer: {' '.join(str(error).split())}") from error


def _pack(folder: Path) -> bytes:
    """Return the files of a folder as a tar, the same bytes for the same names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            member = tarfile.TarInfo(path.name)
            member.size, member.mode = path.stat().st_size, 0o600
            with path.open("rb") as content:
                tar.addfile(member, content)
    return buffer.getvalue()


def _hash(packed: bytes) -> str:
    return hashlib.sha256(packed).hexdigest()


def _name_of(info: FileInfo) -> str:
    return str(info.base_name).removesuffix(_SUFFIX).rpartition(".")[0]


def _hash_of(info: FileInfo) -> str:
    return str(info.base_name).removesuffix(_SUFFIX).rpartition(".")[2]


def _is_whole(info: FileInfo) -> bool:
    return len(_hash_of(info)) == 64 and not info.base_name.startswith("_")
