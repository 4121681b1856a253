"""The right to be forgotten in the archive: a user's events, and the rejects that name them, out of its files.

It may be run again, and completes what a run that was killed has begun.
"""

import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.archive.parquet import KINDS, Archive, Kind, write_part
from data.atomic import sync
from data.errors import DataError
from data.nodes.naming import names_user, user_headers


def erase_from_archive(archive: Archive, user_id: str) -> dict[str, int]:
    """Rewrite the files of the archive that have rows of a user, each at once.

    What killed ingestions have left unfinished is removed. On object storage, ingest nothing meanwhile.

    Returns:
        The number of rows by kind.

    Raises:
        NodeInUse: a node is being ingested; run it again when that has ended.
        DataError: the archive does not answer, or a file of it cannot be read; run it again when that is mended.
    """
    counts = dict.fromkeys(KINDS, 0)
    try:
        for node_id in archive.nodes():
            with archive.lock(node_id), archive.staging(node_id, f"erasure{uuid.uuid4().hex[:8]}") as staging:
                for kind in KINDS:
                    for _, path in archive.parts(kind, node_id):
                        counts[kind] += _rewrite(archive, kind, node_id, path, user_id, staging)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"the archive {archive.root} does not answer: {' '.join(str(error).split())}") from error
    return {f"archive_{kind}": count for kind, count in counts.items()}


def _rewrite(archive: Archive, kind: Kind, node_id: str, path: str, user_id: str, staging: str) -> int:
    """Replace a file by one without a user's rows; returns how many it had."""
    with archive.filesystem.open_input_file(path) as stream:
        file = pq.ParquetFile(stream)
        if kind == "events":
            erased = pc.equal(file.read(["user_id"])["user_id"], user_id).fill_null(False)
        else:
            headers = user_headers(node_id)
            rejects = file.read(["record", "column", "value"]).to_pylist()
            erased = pa.array(
                [names_user(row["record"], row["column"], row["value"], headers, user_id) for row in rejects],
                pa.bool_(),
            )
        count: int = pc.sum(erased).as_py() or 0
        if not count:
            return 0
        rest = file.read().filter(pc.invert(erased))
    if rest.num_rows:
        write_part(rest, f"{staging}/rest.parquet", f"{kind.removesuffix('s')}_id", archive)
        archive.publish(f"{staging}/rest.parquet", path)
    else:
        archive.filesystem.delete_file(path)
    if archive.is_local:
        sync(archive.folder(kind, node_id))
    return count
