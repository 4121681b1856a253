"""Where proofs and remainders lie, which of them count, and for how long they are kept."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from data.archive.objects import ObjectDamaged, ObjectMissing, Objects
from data.settings import Settings
from rl.online.snapshot import SnapshotError
from rl.online.steps import Remainder
from rl.provenance.proof import Proof
from rl.provenance.remainders import RemainderReader, merge

_ERASURE, _FOLD, _PROOF, _TEMPORARY = "erasure-", "fold-", "proof.json", ".remainders-"

log = logging.getLogger("ray.serve")


class FoldRemainders:
    """What stands in for rows that are gone, of one fold."""

    def __init__(self, readers: Sequence[RemainderReader] = ()) -> None:
        self._readers = readers

    def at(self, number: int) -> Remainder | None:
        """Return what stands in for rows in a step; None: nothing.

        Raises:
            SnapshotError: it cannot be read.
        """
        found = (reader.at(number) for reader in self._readers)
        return merge(one for one in found if one is not None)


class Proofs:
    """The proofs of all erasures of a log. All methods raise DataError if the archive does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._objects = Objects.at(settings.archive_uri, "remainders", settings.home / "cache")

    def pending(self, user_id: str) -> Proof | None:
        """Return the proof that was made for a user whose erasure has not come to its end; None: there is none."""
        return next((proof for proof in self._all() if proof.is_of(user_id)), None)

    def in_force(self, erasures: Mapping[int, datetime]) -> dict[int, Proof]:
        """Return the proofs of a log's erasures (position and time of each), by position."""
        return {p.erasure[0]: p for p in self._all() if p.erasure and self.counts(p, erasures)}

    def counts(self, proof: Proof, erasures: Mapping[int, datetime]) -> bool:
        """Return whether the rows that a proof stands in for are deleted from a log with these erasures."""
        return proof.erasure is not None and erasures.get(proof.erasure[0]) == proof.erasure[1]

    def of_fold(self, fold_id: str, erasures: Mapping[int, datetime]) -> FoldRemainders:
        """Return what stands in for the rows of a fold that are gone from a log with these erasures.

        Raises:
            SnapshotError: something that was kept is not there, or is not what it was.
        """
        proofs = sorted(self.in_force(erasures).items())
        names = [_name(fold_id, proof.token) for _, proof in proofs if (of := proof.folds.get(fold_id)) and of.kept]
        try:
            return FoldRemainders([RemainderReader(self._objects.get(name)) for name in names])
        except (ObjectMissing, ObjectDamaged) as error:
            raise SnapshotError(f"what remains of forgotten users cannot be read: {error}") from error

    def keep(self, proof: Proof) -> None:
        """Keep a proof, in place of what it said before."""
        with self.folder() as folder:
            (folder / _PROOF).write_text(proof.model_dump_json())
            self._objects.replace(f"{_ERASURE}{proof.token}", folder)

    def keep_remainders(self, fold_id: str, token: str, folder: Path) -> None:
        """Keep what `RemainderWriter` wrote."""
        self._objects.replace(_name(fold_id, token), folder)

    def confirm(self, proof: Proof, erasure: int, time: datetime) -> None:
        """Let a proof count as soon as the log has the note that the rows are deleted, at a position and a time."""
        self.keep(proof.model_copy(update={"erasure": (erasure, time)}))

    def finish(self, user_id: str) -> None:
        """Forget whom the proof of a user is of, as their rows are deleted; it goes if there were none."""
        for proof in self._all():
            if proof.is_of(user_id) and proof.erasure:
                self.keep(proof.model_copy(update={"asked": None}))
            elif proof.is_of(user_id):
                self._objects.delete(f"{_ERASURE}{proof.token}")

    def prune(self, before: datetime) -> None:
        """Drop what is kept of folds whose last step was made before a time, and what killed captures have left."""
        needed = set[str]()
        for proof in self._all():
            folds = {fold_id: fold for fold_id, fold in proof.folds.items() if fold.until >= before}
            if proof.learned and not folds:
                self._objects.delete(f"{_ERASURE}{proof.token}")
            elif len(folds) < len(proof.folds):
                self.keep(proof.model_copy(update={"folds": folds}))
            needed.update(_name(fold_id, proof.token) for fold_id, fold in folds.items() if fold.kept)
        for name in self._objects.names():
            if name.startswith(_FOLD) and name not in needed:
                self._objects.delete(name)
        for folder in self._objects.cache.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give an empty folder to fill, which is gone afterwards."""
        self._objects.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._objects.cache, prefix=_TEMPORARY) as temporary:
            yield Path(temporary)

    def _all(self) -> Iterator[Proof]:
        for name in self._objects.names():
            if name.startswith(_ERASURE):
                try:
                    yield Proof.model_validate_json((self._objects.get(name) / _PROOF).read_bytes())
                except (ObjectMissing, ObjectDamaged, OSError, ValidationError) as error:
                    log.warning("the proof %s counts no more: %s", name, error)


def _name(fold_id: str, token: str) -> str:
    return f"{_FOLD}{fold_id}-{token}"
