"""Closed days of the log go to the archive: `python -m data.archive --help`.

A day of UTC is closed when the longest wait window of its decisions is over, under every objective of every loop, and
every fold that runs has learned it. Its decisions, their feedback, the events, rejects and steps of folds move from the
log's database to Parquet files in the archive, oldest first. All who read the log go on to see them.

It may be killed at any moment and run again, beside a service or without one. What it did is told as a JSON object.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from data.archive.objects import SERVED, Objects
from data.command import DONE, argument_parser, command
from data.errors import DataError
from data.log.archiving.closing import closed_until
from data.log.archiving.moving import Mover, Watch
from data.log.archiving.retention import Retention, expire, old_artefacts
from data.log.store import Store
from data.private import keep_private
from data.settings import Settings

KINDS = ("decisions", "feedback", "events", "rejects", "old_steps")


class Summary(BaseModel):
    """What one run did."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    archive: str
    closed_until: str
    """Midnight of the first day that is not closed."""
    wait_s: float
    """The longest wait window."""
    waits_for: tuple[str, ...]
    """Folds that have not learned what would be closed otherwise: LOOP/OBJECTIVE (FOLD)."""
    not_waited_for: tuple[str, ...]
    """Folds that have not either, and have made no step for a week."""
    moved: dict[str, int]
    """Rows by table."""
    left: dict[str, int]
    """Rows of closed days that stay in the log, by table: feedback without a decision, rows that are damaged, the first
    and the last step of each fold."""
    days: tuple[str, ...]
    """Those that rows were moved of."""
    bytes: int
    """Of the files that were written."""
    expired: dict[str, int]
    """What was deleted as its time of retention is over: rows by table, and artefacts."""
    given_back: int | None
    """Bytes by which the log's file has shrunk; null: its database keeps the room for new rows."""
    seconds: float


def archive_days(
    store: Store,
    settings: Settings,
    retention: Retention | None = None,
    wait_s: float | None = None,
    keep_days: int = 0,
    watch: Watch = lambda what, rows: None,
) -> Summary:
    """Move the closed days of a log to an archive.

    Args:
        store: the log.
        settings: where the archive is.
        retention: how long what is archived is kept.
        wait_s: the longest wait window; None: as the folds say.
        keep_days: closed days that stay in the log.
        watch: is told what is done.

    Raises:
        StoreUnavailable: the log did not answer, or another process archives it.
        DataError: the archive cannot be read or written to.
    """
    began = time.monotonic()
    with store.exclusively("archive"):
        mover = Mover(store, settings.archive_uri, watch)
        mover.tidy()
        closed = closed_until(store, wait_s, keep_days)
        moved = mover.move(closed.until)
        retention = retention or Retention()
        expired = expire(store, retention, closed.until)
        expired["artefacts"] = _expire_artefacts(store, settings, retention)
    return Summary(
        archive=settings.archive_uri,
        closed_until=closed.until.isoformat(),
        wait_s=closed.wait_s,
        waits_for=closed.waits_for,
        not_waited_for=closed.not_waited_for,
        moved=moved.rows,
        left=moved.left,
        days=tuple(map(str, sorted(moved.days))),
        bytes=moved.bytes,
        expired={name: rows for name, rows in expired.items() if rows},
        given_back=store.give_back(),
        seconds=round(time.monotonic() - began, 3),
    )


def _expire_artefacts(store: Store, settings: Settings, retention: Retention) -> int:
    """Delete the artefacts of old folds, that no other fold has; returns how many."""
    served = Objects.at(settings.archive_uri, SERVED, settings.home / "cache")
    old = [digest for digest in sorted(old_artefacts(store, retention, store.now())) if served.has(digest)]
    for digest in old:
        served.delete(digest)
    return len(old)


@command("data.archive")
def main(arguments: Sequence[str]) -> int:
    """Run the command: the summary as JSON on standard output."""
    parser = argument_parser("data.archive", __doc__)
    parser.add_argument("--home", type=Path, default=None, help="default: RAYCOMMEND_HOME")
    parser.add_argument("--wait-s", type=float, default=None, help="the longest wait window; default: as the folds say")
    parser.add_argument("--keep-days", type=int, default=0, help="closed days that stay in the log; default: 0")
    for kind in KINDS:
        field = Retention.model_fields[kind]
        parser.add_argument(
            f"--retain-{kind.replace('_', '-')}", metavar="DAYS", default=field.default, help=field.description
        )
    options = parser.parse_args(arguments)
    settings = Settings(home=options.home, store=None, archive=None) if options.home else Settings()
    keep_private(settings.home)
    try:
        retention = Retention.model_validate({kind: _days(getattr(options, f"retain_{kind}")) for kind in KINDS})
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--retain-{first['loc'][0]}".replace("_", "-")
        raise DataError(f"{option}: {first['msg']}, got {first['input']!r}") from error
    with closing(Store.open(settings.store_url, make=False)) as store, _bar() as watch:
        done = archive_days(store, settings, retention, options.wait_s, options.keep_days, watch)
    print(done.model_dump_json())
    return DONE


def _days(given: str | int | None) -> str | int | None:
    return None if given == "null" else given


@contextmanager
def _bar() -> Iterator[Watch]:
    """Show on a terminal how far a run is."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, disable=not sys.stderr.isatty()
    ) as bar:
        rows, task = dict[str, int](), bar.add_task("looking for closed days")

        def watch(what: str, number: int) -> None:
            rows[what] = rows.get(what, 0) + number
            bar.update(task, description=" · ".join(f"{word} {count:,}" for word, count in rows.items()))

        yield watch
