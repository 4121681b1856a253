"""The right to be forgotten, in what was derived: trained policies that know their customers, tables of transitions.

A customer is taken out of an encoder: their id, vector and purchases. All others are encoded as before, so what was
served keeps its digest, and their decisions can still be audited; what is yet to be served gets a new one. What weights
have learned from many customers stays until the policy is trained anew. Transitions as numbers name nobody; tables with
a column `user_id` do.

The registry's own copies (MLflow's) are not changed, as their hashes are what is checked: register anew, and delete the
versions that were trained on them.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.archive.objects import Objects
from data.atomic import complete_replacements, is_unfinished, replace_file
from data.settings import Settings
from rl.artefacts.artefact import DESCRIPTION, load, read_sha256, save
from rl.artefacts.shelf import open_shelf
from rl.encoders.customers import CustomerEncoder

_NOBODY = ""
"""Stands in the place of a forgotten customer; no request can have it as an id."""


def erase_from_artefacts(settings: Settings, user_id: str) -> dict[str, int]:
    """Take a customer out of the artefacts in the home and of those that were served, and of tables of transitions.

    May be run again, and completes what a run that was killed has begun.

    Returns:
        The number of artefacts that knew them, and of rows about them.

    Raises:
        ArtefactError, PolicyError: an artefact is damaged; those before it are done.
        DataError: the archive, where those lie that were served, does not answer.
    """
    artefacts, policies = 0, settings.home / "policies"
    complete_replacements(policies)
    for folder in sorted(path.parent for path in policies.glob(f"*/{DESCRIPTION}")):
        if not is_unfinished(folder):  # else it is replaced by the next that is saved
            artefacts += _erase_from_artefact(folder, folder, user_id)
    shelf = open_shelf(settings)
    for digest in shelf.names():
        artefacts += _erase_from_shelf(shelf, digest, user_id)
    tables = sorted((settings.home / "transitions").glob("**/*.parquet"))
    return {"artefacts": artefacts, "transitions": sum(_erase_from_table(table, user_id) for table in tables)}


def without_customer(encoder: CustomerEncoder, user_id: str) -> CustomerEncoder:
    """Return an encoder to which a customer is unknown, and that encodes all others as this one does.

    Raises:
        ValueError: it does not know them.
    """
    index = encoder.users.index(user_id)
    vectors, segments = encoder.user_vectors.copy(), encoder.user_segments.copy()
    vectors[index + 1], segments[index + 1] = 0.0, 0
    others = encoder.pair_keys // len(encoder.popularity) != index + 1
    keys, counts = encoder.pair_keys[others], encoder.pair_counts[others]
    return replace(
        encoder,
        users=(*encoder.users[:index], _NOBODY, *encoder.users[index + 1 :]),
        user_vectors=vectors,
        user_segments=segments,
        pair_keys=keys if len(keys) else np.zeros(1, dtype=np.int64),  # searchsorted needs a non-empty array
        pair_counts=counts if len(keys) else np.zeros(1),
    )


def _erase_from_shelf(shelf: Objects, digest: str, user_id: str) -> bool:
    folder = shelf.get(digest)
    with TemporaryDirectory(dir=folder.parent, prefix="erasure-") as temporary:
        new = Path(temporary) / digest
        erased = _erase_from_artefact(folder, new, user_id, read_sha256(folder))
        shelf.replace(digest, new if erased else folder)  # in any case without what a killed replacement has left
        return erased


def _erase_from_artefact(folder: Path, into: Path, user_id: str, erased_from: str | None = None) -> bool:
    artefact = load(folder)
    encoder = artefact.encoder
    if not isinstance(encoder, CustomerEncoder) or user_id not in encoder.users:
        return False
    encoder = without_customer(encoder, user_id)
    save(replace(artefact, encoder=encoder), into, erased_from)
    return True


def _erase_from_table(path: Path, user_id: str) -> int:
    if "user_id" not in pq.read_schema(path).names:
        return 0
    table = pq.read_table(path, partitioning=None)
    of_user = pc.equal(table["user_id"], user_id).fill_null(False)
    if count := int(pc.sum(of_user).as_py() or 0):
        with replace_file(path, durable=True) as new:
            pq.write_table(table.filter(pc.invert(of_user)), new)
    return count
