"""The service's log as tables of sessions: one to learn from, and one of other users to judge what was learned.

Ray Data attributes and joins; who is in which table, and what users had been shown before, is found user by user, some
users at a time, so that memory does not grow with the log.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.attribution.join import GRACE
from data.cluster import quiet_ray_data
from data.errors import DataError
from data.fields import to_us
from data.log.store import Store
from data.settings import Settings
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.checks import Columns
from rl.experience.from_log import convert_log
from rl.experience.logged import TransitionQuery, logged_transitions
from rl.experience.survey import Survey, survey
from rl.experience.transitions import write
from rl.online.history.histories import Histories, to_outcome
from rl.online.windows import MAX_WAIT_S
from rl.policy.arrays import IntArray
from rl.training.kinds.offline.experiment import OfflineExperiment

_CELLS = 500_000
"""Decisions times candidates that are converted at a time."""
_MOST_PARTS = 200
"""Files that are written at once."""
_REPORTED, _CLOSED, _DECIDED, _REPORTED_BEFORE = range(4)


@dataclass(frozen=True)
class LoggedTable:
    """What was made of a log."""

    survey: Survey
    encoder: CatalogueEncoder
    until: datetime
    """Decisions made later are not in it."""
    learned: str
    """Folder of the table that is learned from."""
    held_out: Sequence[Path]
    """Files of the one that judges."""
    rows: int
    """Of the one that is learned from."""


@contextmanager
def build_table(experiment: OfflineExperiment, settings: Settings) -> Iterator[LoggedTable]:
    """Make the tables of a log, which are there as long as the context is, or for good where a folder is given.

    Raises:
        DataError: there is nothing to learn in it yet, or the folder holds something.
        StoreError: it cannot be read.
    """
    spec, sessions = experiment.reward, experiment.sessions
    until = datetime.now(UTC) - timedelta(seconds=spec.wait_s) - GRACE
    Store.open(settings.store_url, make=False).close()  # brought up to date before many processes open it
    query = TransitionQuery(settings.store_url, spec, until, sessions.loop, sessions.discount, reports=True)
    found = survey(query)
    if not found.due:
        raise DataError(
            f"the log has no decision of loop {sessions.loop} to learn from that was made before "
            f"{until:%Y-%m-%d %H:%M:%S} UTC, when the last wait window of {spec.wait_s:g} s has closed: serve some "
            "first, wait, or give a shorter --reward.wait_s"
        )
    home = settings.home / "transitions"
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as scratch:
        folder = Path(experiment.table or scratch)
        learned, held_out = folder / "learned", folder / "held_out"
        for new in (learned, held_out):
            new.mkdir(parents=True, exist_ok=True)
            if any(new.iterdir()):
                raise DataError(f"{new} holds something: give a new folder as --table")
        parts = min(-(-found.due * max(found.candidates, 1) // _CELLS), _MOST_PARTS)
        encoder, rows = CatalogueEncoder(found.items), 0
        for number, part in enumerate(_divide(query, parts, Path(scratch) / "parts")):
            judges = np.array([_hash("held out", key) / 2**32 < sessions.held_out for key in _keys(part)], dtype=bool)
            for table, to in ((part.filter(pa.array(~judges)), learned), (part.filter(pa.array(judges)), held_out)):
                columns = _convert(table, encoder, found.candidates, experiment)
                if len(columns["rewards"]):
                    write(str(to / f"{number:05}.parquet"), columns, n_items=len(found.items))
                    rows += len(columns["rewards"]) if to == learned else 0
        if not rows:
            raise DataError("all users of the log are held out: serve more of them, or give a smaller share")
        yield LoggedTable(found, encoder, until, str(learned), sorted(held_out.iterdir()), rows)


def _divide(query: TransitionQuery, parts: int, folder: Path) -> Iterator[pa.Table]:
    """Yield the log's transitions in parts that have all of a user, each in log order."""
    folder.mkdir()
    writers = [pq.ParquetWriter(folder / f"{part}.parquet", query.schema) for part in range(parts)]
    with quiet_ray_data():
        blocks: Iterable[Any] = logged_transitions(query).iter_batches(batch_size=None, batch_format="pyarrow")
        for block in blocks:
            of = np.array([_hash("part", key) % parts for key in _keys(block)], dtype=np.int64)
            for part in np.unique(of).tolist():
                writers[part].write_table(block.filter(pa.array(of == part)).cast(query.schema))
    for writer in writers:
        writer.close()
    for part in range(parts):
        yield pq.read_table(folder / f"{part}.parquet")
        (folder / f"{part}.parquet").unlink()


def _keys(table: pa.Table) -> list[str]:
    """Return what transitions go together by: their users, or nobody else's where they have none."""
    pairs = zip(table["user_id"].to_pylist(), table["decision_id"].to_pylist(), strict=True)
    return [f"u{user}" if user is not None else f"d{decision}" for user, decision in pairs]


def _hash(salt: str, key: str) -> int:
    """Return a number below 2 ** 32 that is the same in every process."""
    return crc32(f"{salt} {key}".encode(errors="surrogatepass"))


def _convert(table: pa.Table, encoder: CatalogueEncoder, candidates: int, experiment: OfflineExperiment) -> Columns:
    histories = find_histories(table, encoder, experiment.sessions.history, experiment.reward.wait_s)
    return convert_log(table, encoder, candidates, histories, future=experiment.sessions.discount > 0)


def find_histories(table: pa.Table, encoder: CatalogueEncoder, length: int, wait_s: float) -> tuple[IntArray, IntArray]:
    """Return what the users had been shown and had done before each decision, and before their next one, [N, T, 3].

    As `rl.online.history.histories` had it then: what was reported later was not known yet.

    Args:
        table: transitions with `reports`, all of their users.
        encoder: of the items.
        length: T.
        wait_s: after which what nothing was reported of counts as ignored.
    """
    rows = table.select(["decision_id", "user_id", "time", "slate", "next_decision_id", "reports"]).to_pylist()
    before = np.zeros((len(rows), length, 3), dtype=np.int64)
    after, histories = np.zeros_like(before), Histories(length, max_users=len(rows) + 1)
    preceding = {row["next_decision_id"]: at for at, row in enumerate(rows) if row["next_decision_id"] is not None}
    for _, what, at, report in sorted(_list_events(rows, wait_s), key=lambda event: event[:2]):
        row = rows[at]
        if what == _DECIDED and row["user_id"] is not None:
            before[at] = histories.encode(row["user_id"], encoder)
            if (preceded := preceding.pop(row["decision_id"], None)) is not None:
                after[preceded] = before[at]
            histories.add_slate(row["user_id"], row["decision_id"], row["slate"])
        elif report is not None:
            if (outcome := to_outcome(report["kind"], report["value"])) is not None:
                histories.add_outcome(row["decision_id"], report["item_id"], outcome)
        elif what == _CLOSED:
            histories.close(row["decision_id"])
            if row["next_decision_id"] in preceding:  # which is none to learn from, or follows after the wait
                after[at] = histories.encode(row["user_id"], encoder)
    return before, after


def _list_events(
    rows: Sequence[dict[str, Any]], wait_s: float
) -> Iterator[tuple[int, int, int, dict[str, Any] | None]]:
    """Yield when what happened, to which row, and what was reported; at one time what has the lower number is first."""
    wait_us = int(min(wait_s, MAX_WAIT_S) * 1e6)
    for at, row in enumerate(rows):
        made = to_us(row["time"])
        yield made, _DECIDED, at, None
        yield made + wait_us, _CLOSED, at, None
        for report in row["reports"]:
            received = to_us(report["received_at"])
            yield max(made, received), _REPORTED if received > made else _REPORTED_BEFORE, at, report
