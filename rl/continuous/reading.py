"""The step `ingest`: files become events, closed days go to the archive, and what the run sees is settled."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.compute as pc

from data.archive.run import archive_days
from data.attribution.columns import microseconds
from data.attribution.join import GRACE
from data.errors import DataError
from data.fields import to_us
from data.ingest.run import ingest as ingest_files
from data.log.archived.parts import Part, parts_between
from data.log.bulk import decisions_between, divide
from data.log.following import last_feedback, to_time
from data.log.store import Store
from data.log.tables import DECISIONS
from data.nodes.node import load_node
from data.reward import RewardSpec
from rl.artefacts.artefact import load
from rl.continuous.work import Work
from rl.downloads import fetch
from rl.policy.arrays import IntArray
from rl.registry import CHAMPION, resolve
from rl.trials import served_reward

_TASK_ROWS = 200_000
_FILES = 200  # of the archive that are named one by one


@dataclass(frozen=True)
class Closed:
    """Decisions whose wait windows have closed, in log order."""

    seqs: IntArray
    """[n] positions."""
    times_us: IntArray
    """[n] when they were made."""


def read_closed(store: Store, loop: str, reward: RewardSpec, after: int = 0, since: datetime | None = None) -> Closed:
    """Return the decisions of a loop that are due to be learned: after a log position, and after a time.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    until = to_us(store.now() - timedelta(seconds=reward.wait_s) - GRACE)
    seqs, times = list[IntArray](), list[IntArray]()
    for first, last in divide(store, _TASK_ROWS):
        if last <= after:
            continue
        rows = decisions_between(store, max(first, after + 1), last, ("time", "mode"), loop)
        made = microseconds(rows["time"])
        due = np.asarray(pc.not_equal(rows["mode"], "log")) & (made <= until)
        if since is not None:
            due &= made > to_us(since)
        seqs.append(rows["seq"].to_numpy()[due])
        times.append(made[due])
    empty = np.zeros(0, dtype=np.int64)
    return Closed(np.concatenate([empty, *seqs]), np.concatenate([empty, *times]))


def ingest(work: Work) -> dict[str, Any]:
    """Bring in what is new, and settle which decisions are learned from, and which judge."""
    spec, settings, store = work.spec, work.settings, work.store
    version = resolve(settings, CHAMPION, spec.model)
    artefact = load(fetch(settings, version))
    result: dict[str, Any] = {"champion": {"version": version.version, "digest": version.digest}}
    if spec.ingest.paths:
        node = load_node(spec.ingest.node)
        result["events"] = ingest_files(spec.ingest.paths, node, settings.archive_uri).model_dump(mode="json")
    if spec.ingest.archive:
        archived = archive_days(store, settings)
        result["archived"] = archived.model_dump(mode="json", include={"closed_until", "moved", "days", "bytes"})
    reward = spec.reward or served_reward(store, spec.gate.loop, spec.gate.objective) or artefact.reward
    since = artefact.learned_until if spec.training.start == "champion" else None
    closed = read_closed(store, spec.gate.loop, reward, since=since)
    seqs, times = closed.seqs[-spec.data.most :], closed.times_us[-spec.data.most :]
    if len(seqs) < spec.data.least:
        raise DataError(
            f"{len(seqs)} decisions of loop {spec.gate.loop} have closed that the champion has not learned, fewer than "
            f"the {spec.data.least} of data.least: serve more, or wait until their windows of {reward.wait_s:g} s close"
        )
    split = int(np.quantile(times, 1.0 - spec.data.held_out, method="lower"))
    work.say(f"{len(seqs):,} new decisions, positions {seqs[0]:,} to {seqs[-1]:,}")
    return result | {
        "reward": reward.model_dump(mode="json"),
        "loop": spec.gate.loop,
        "decisions": len(seqs),
        "first": int(seqs[0]),
        "last": int(seqs[-1]),
        "feedback": last_feedback(store, spec.gate.loop),
        "since": to_time(int(times.min())).isoformat(),
        "split": to_time(split).isoformat(),
        "until": to_time(int(times.max())).isoformat(),
        "archive": list(_files(store, int(seqs[0]), int(seqs[-1]))),
    }


def _files(store: Store, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield which files of the archive have decisions between two positions; they are never changed, but replaced."""
    with store.reading() as connection:
        parts: list[Part] = [part for part in parts_between(connection, DECISIONS, first - 1, last)]
    for part in parts[-_FILES:]:
        yield {"path": part.path, "entry": part.seq, "rows": part.rows, "bytes": part.bytes}
