"""How PostgreSQL is connected to, and what its errors mean: durable commits, one writer at a time, no wait for ever."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic, OperationalError

from data.log.backend import ErrorKind
from data.log.tables import ANY_ARCHIVED

STATEMENT_S: Final = 30
"""How long the server works at a statement or waits for a lock."""
_ANSWER_S = 40.0
"""How long an answer is waited for: longer than the server may take. A server that hangs sends none at all."""
_STUCK_S = 10
"""How long a writer may keep the lock without asking anything: a process that was stopped holds up all others."""
_POOL = 4
"""Connections that a process keeps, and as many more at a time."""
LOCK = 0x7261_7963  # of the log's writers, among the advisory locks of the database
_DEFAULTS: Final[Mapping[str, str]] = {
    "client_encoding": "utf8",
    "application_name": "raycommend",
    "target_session_attrs": "read-write",  # of several hosts the one that is not a standby
    "connect_timeout": "5",  # of each host
    "keepalives_idle": "5",  # a host that is gone is noticed within 11 s
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_OPTIONS = (
    f"-c statement_timeout={STATEMENT_S}s -c jit=off -c max_parallel_workers_per_gather=0 -c enable_seqscan=off "
    # The server notices as soon that we are gone or read no answer, and gives back what we have locked.
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)
"""All statements are short: what the planner would do for long ones takes longer than they do.

A statement is planned once, in a new log while the tables are small, and that plan is kept until the server has looked
at them again: one that reads all of a table would take longer with every row meanwhile. All have an index to go by.
"""
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WRITE = (
    # Each statement sees what was committed before it: after the lock all that others have written.
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle_in_transaction_session_timeout = '{_STUCK_S}s'; "
    f"SELECT pg_advisory_xact_lock({LOCK})"
)
TIME: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The server's, in microseconds since 1970."""
_READ_ONLY = "25006"  # a standby
_UNAVAILABLE = {
    "08",  # connections
    "28",  # who may connect
    "40",  # serialization, deadlocks
    "53",  # insufficient resources: disk, memory, connections
    "57",  # the operator's doing: shutdown, a statement's time
    "58",  # the system's errors, such as I/O
}
"""Classes of codes of what another try may find otherwise. A table or column that is missing is none of them."""
_ALSO_UNAVAILABLE = {
    "3D000",  # no such database: it is being restored
    _READ_ONLY,
    "25P03",  # a writer that kept the lock for too long
    "55P03",  # the lock was not to be had
}
_DISCONNECTED = {"57P01", "57P02", "57P03", "57P05", "25P03", "40003"}
_DAMAGED = {"XX001", "XX002"}
T = TypeVar("T")
Check: TypeAlias = Callable[["Connection"], None]


class UnconfirmedError(OperationalError):
    """A commit was answered, and is not what it should be."""


class Connection(psycopg.Connection[Any]):
    """A connection that waits for no answer for ever, and takes a warning at a commit for none."""

    answer_s = _ANSWER_S
    _warned = ""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for what a generator is waiting for, for a time at most; then the connection is closed."""
        try:
            return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise OperationalError(f"the server did not answer for {self.answer_s:g} s") from error

    def commit(self) -> None:
        """Commit; a commit that did not wait for the standby that it should have waited for is none that counts."""
        self._warned = ""
        super().commit()
        self._confirm()

    def execute_and_commit(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Run a statement outside of any transaction, which commits it, and return its rows; see `commit`."""
        self._warned = ""
        rows = self.execute(statement.encode(), values).fetchall()
        self._confirm()
        return rows

    def _confirm(self) -> None:
        if self._warned:
            raise UnconfirmedError(self._warned)

    def note(self, notice: Diagnostic) -> None:
        """Take note of a notice of the server's."""
        if notice.severity_nonlocalized == "WARNING":
            self._warned = notice.message_primary or "warning"


def parameters(url: str) -> dict[str, Any]:
    """Return the parameters of a connection, from libpq's own form of a URL (`postgresql://h1,h2/db?...`).

    Raises:
        psycopg.ProgrammingError: it is none.
    """
    given = conninfo_to_dict(f"postgresql:{url.partition(':')[2]}")
    options = f"{_OPTIONS} {given.pop('options', '') or ''}".strip()
    return {**_DEFAULTS, **given, "options": options}


def connect(given: Mapping[str, Any], check: Check) -> Connection:
    """Return a new connection that `check` has found good; no transaction begins by itself."""
    connection = Connection.connect(**given, autocommit=True)
    try:
        connection.add_notice_handler(connection.note)
        check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def create_engine(given: Mapping[str, Any], check: Check) -> sa.Engine:
    """Return the engine of a database; each transaction begins as the option `begin` says."""
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(given, check),
        pool_size=_POOL,
        max_overflow=_POOL,
        use_native_hstore=False,
    )
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "handle_error", _leave)
    return engine


def for_writing(engine: sa.Engine) -> sa.Engine:
    """Return the same engine with transactions that hold the writers' lock from their beginning.

    Positions are drawn with the lock held, and it is given back after the commit: so they become visible in order.
    """
    return engine.execution_options(begin=WRITE)


def _begin(connection: sa.Connection) -> None:
    if statement := connection.get_execution_options().get("begin", _READ):
        connection.exec_driver_sql(statement)


def begin_by_driver(connection: Connection) -> tuple[int, bool]:
    """Begin a transaction that holds the writers' lock, in one message; returns its time and if a name is archived."""
    cursor = connection.execute(f"{WRITE}; SELECT ({TIME}), EXISTS ({ANY_ARCHIVED})")
    while cursor.nextset():  # of each statement
        pass
    row: tuple[int, bool] = cursor.fetchall()[0]
    return row


def _leave(context: sa.engine.ExceptionContext) -> None:
    """Leave a server that has become a standby: the next connection is to the one that is none."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def ends_connection(error: BaseException) -> bool:
    """Return whether the connection that an error came by is lost, or to a standby."""
    return getattr(error, "sqlstate", None) == _READ_ONLY or error_kind(error) == "disconnected"


def error_kind(error: BaseException) -> ErrorKind:
    """Return what an error of the driver says of the database."""
    code = getattr(error, "sqlstate", None)
    if isinstance(error, UnconfirmedError) or code in _DISCONNECTED or (code or "").startswith("08"):
        return "disconnected"
    if code is None:
        return "disconnected" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else "refused"
    if code[:2] in _UNAVAILABLE or code in _ALSO_UNAVAILABLE:
        return "unavailable"
    return "damaged" if code in _DAMAGED else "refused"
