"""A server that is killed, hangs, is full, is replaced, hands over to its standby: what was acknowledged is there."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import psycopg.errors
import pytest

from data.log.errors import StoreError, StoreLost, StoreUnavailable, StoreUnconfirmed
from data.log.postgres import driver
from data.log.postgres.driver import error_kind
from data.log.store import Store
from data.log.writer.process import WriterProcess
from data.schema import Event
from tests.support.packages import needs_package
from tests.support.ports import free_port
from tests.support.postgres import Cluster, cluster, folder, followed
from tests.support.services import wait_for

pytestmark = [pytest.mark.heavy, needs_package("postgresql")]


ENDLESS = """
from itertools import count
from data.log.store import Store
from data.schema import Event
store = Store.open("{url}")
for number in count():
    store.insert([Event(node_id="other", event_id=str(number))])
"""


def has_written(store: Store, number: int) -> bool:
    return len(store.events("other")) >= number


def event(number: int) -> Event:
    return Event(node_id="n", event_id=str(number))


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server that these tests may kill."""
    with cluster(max_connections="20", superuser_reserved_connections="3") as running:
        yield running


@pytest.fixture
def store(own: Cluster) -> Iterator[Store]:
    with closing(Store.open(own.new_database())) as store:
        yield store


@dataclass
class Traffic:
    """Somebody who writes all the time; what is acknowledged, and what is answered when it is not."""

    store: Store
    acknowledged: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    _number: int = 0

    def send(self) -> None:
        """Send an event until it is acknowledged, as a client would; each failure is one that may be tried again."""
        while True:
            try:
                [stored] = self.store.insert([event(self._number)])
            except StoreUnavailable as error:
                self.failures.append(error)
                time.sleep(0.05)
            else:
                assert stored.inserted or self.failures
                self.acknowledged.append(str(self._number))
                self._number += 1
                return

    @contextmanager
    def flowing(self) -> Iterator[None]:
        ended, faults = threading.Event(), list[BaseException]()

        def flow() -> None:
            try:
                while not ended.is_set():
                    self.send()
            except BaseException as error:
                faults.append(error)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(120)
        assert not thread.is_alive()
        assert not faults

    def wait(self, number: int = 20) -> None:
        """Wait until so many more are acknowledged."""
        until, deadline = len(self.acknowledged) + number, time.monotonic() + 120
        while len(self.acknowledged) < until:
            assert time.monotonic() < deadline, f"nothing is acknowledged any more: {self.failures[-1:]}"
            time.sleep(0.02)


def stored(store: Store) -> list[str]:
    return [found.event_id for _, found in store.events("n")]


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_has_what_was_acknowledged(own: Cluster, store: Store) -> None:
    traffic = Traffic(store)
    with traffic.flowing():
        for _ in range(3):
            traffic.wait()
            own.kill()
            with pytest.raises(StoreUnavailable):
                store.last_decision()
            time.sleep(0.5)
            own.start()
            traffic.wait()
    assert stored(store) == traffic.acknowledged
    assert traffic.failures


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_stopped_and_started_is_gone_on_with(own: Cluster, store: Store, mode: str) -> None:
    traffic = Traffic(store)
    with traffic.flowing():
        traffic.wait()
        own.stop(mode)
        own.start()
        traffic.wait()
    assert stored(store) == traffic.acknowledged


def test_the_process_that_writes_goes_on_too(own: Cluster) -> None:
    url = own.new_database()

    async def commit() -> None:
        writer = WriterProcess(url)
        assert (await writer.commit([event(0)]))[0].inserted
        pid = writer.pid
        own.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await writer.commit([event(1)])
        own.start()
        for _ in range(100):
            try:
                [row] = await writer.commit([event(1)])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
        assert row.seq > 1
        assert writer.pid == pid
        await writer.close()

    asyncio.run(commit())


def test_a_connection_that_is_ended_by_an_operator_is_replaced(own: Cluster, store: Store) -> None:
    traffic = Traffic(store)
    traffic.send()
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'raycommend'"
    assert (True,) in own.execute(ended)
    with pytest.raises(StoreUnavailable, match=r"administrator|closed"):
        store.insert([event(1)])
    traffic.send()
    assert stored(store) == ["0", "1"][: len(traffic.acknowledged)]


class Hanging:
    """A server that is stopped in the middle of everything: it neither answers nor ends its connections."""

    def __init__(self, own: Cluster) -> None:
        self._family = [own.pid, *map(int, Path(f"/proc/{own.pid}/task/{own.pid}/children").read_text().split())]

    def __enter__(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._family:
            with suppress(ProcessLookupError):  # an autovacuum worker may have ended meanwhile
                os.kill(pid, number)


@pytest.mark.slow
def test_nobody_waits_for_ever_for_a_server_that_hangs(
    own: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.Connection, "answer_s", 1.0)
    store.insert([event(0)])
    began = time.monotonic()
    with Hanging(own):
        with pytest.raises(StoreUnavailable, match="did not answer for 1 s"):
            store.last_decision()
        with pytest.raises(StoreUnavailable):  # a new connection is waited for as long as the URL says
            store.insert([event(1)])
    assert time.monotonic() - began < 15
    assert store.insert([event(1)])[0].inserted


def test_a_commit_that_is_not_answered_is_neither_told_as_stored_nor_as_lost(
    own: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert([event(0)])
    monkeypatch.setattr(driver.Connection, "answer_s", 1.0)
    hanging = Hanging(own)  # before there is one more connection

    def commit() -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM users")
            own_pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            hanging._family.append(own_pid)
            hanging.__enter__()

    try:
        with pytest.raises(StoreUnconfirmed, match="did not confirm a commit: the server did not answer for 1 s"):
            commit()
    finally:
        hanging.__exit__()
    assert store.insert([event(1)])[0].inserted


def test_a_writer_that_is_stopped_with_the_lock_holds_nobody_up_for_ever(own: Cluster, store: Store) -> None:
    with closing(psycopg.connect(own.url(store.name.split()[0]), autocommit=True)) as other:
        other.execute(driver.WRITE.replace("10s", "1s").encode())
        began = time.monotonic()
        assert store.insert([event(0)])[0].inserted
        assert 0.5 < time.monotonic() - began < 10


def test_a_process_that_is_stopped_while_it_writes_has_no_lock(own: Cluster) -> None:
    """What a commit needs is in one message: whoever stops has sent all of it, or none that the server works at."""
    url = own.new_database()
    with closing(Store.open(f"{url}?options=-c%20statement_timeout%3D2s")) as store:
        writing = subprocess.Popen([sys.executable, "-c", ENDLESS.format(url=url)])
        try:
            for number in range(20):
                wait_for(partial(has_written, store, len(store.events("other")) + 20), 60)
                writing.send_signal(signal.SIGSTOP)
                assert store.insert([event(number)])[0].inserted
                writing.send_signal(signal.SIGCONT)
        finally:
            writing.kill()
            writing.wait()


def test_a_lock_that_is_not_to_be_had_is_told(own: Cluster) -> None:
    url = own.new_database()
    with closing(Store.open(url)) as holder, closing(Store.open(f"{url}?options=-c%20statement_timeout%3D1s")) as store:
        with holder.writing(), pytest.raises(StoreUnavailable, match="statement timeout"):
            store.insert([event(0)])
        assert store.insert([event(0)])[0].inserted


def test_a_server_with_no_connection_left_is_unavailable(own: Cluster, store: Store) -> None:
    store.close()
    crowd = [psycopg.connect(own.url()) for _ in range(17)]
    own.execute("CREATE ROLE plain LOGIN")
    try:
        own.execute(f"GRANT ALL ON DATABASE {store.name.split()[0]} TO plain")
        with pytest.raises(StoreUnavailable, match=r"connection slots|too many"):
            Store.open(own.url(store.name.split()[0]).replace("raycommend@", "plain@"))
    finally:
        for connection in crowd:
            connection.close()
        own.execute(f"REVOKE ALL ON DATABASE {store.name.split()[0]} FROM plain")
        own.execute("DROP ROLE plain")
    assert store.insert([event(0)])[0].inserted


def test_a_server_that_has_become_read_only_is_left(own: Cluster, store: Store) -> None:
    store.insert([event(0)])
    name = store.name.split()[0]
    own.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    def write() -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("SET transaction_read_only = on")  # as one that was made a standby
            connection.exec_driver_sql("DELETE FROM users")

    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        write()
    with pytest.raises(StoreUnavailable, match="session is read-only"):  # a new connection, to one that takes writes
        store.insert([event(1)])
    own.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert store.insert([event(1)])[0].inserted


def test_another_database_in_its_place_is_not_written_to(own: Cluster) -> None:
    url = own.new_database()
    with closing(Store.open(url)) as store:
        store.insert([event(0)])
        own.execute(f"DROP DATABASE {store.name.split()[0]} WITH (FORCE)")
        with pytest.raises(StoreUnavailable):
            store.insert([event(1)])
        with pytest.raises(StoreUnavailable, match="does not exist"):
            store.insert([event(1)])
        assert not is_replaced(store)
        own.execute(f"CREATE DATABASE {store.name.split()[0]}")
        with pytest.raises(StoreLost, match="another database answers as"):
            store.insert([event(1)])
        assert is_replaced(store)
        with pytest.raises(StoreLost):
            Store.open(url, expected=store.identity)
    with closing(Store.open(url)) as store:
        assert stored(store) == []


def is_replaced(store: Store) -> bool:
    return store.replaced


def test_the_successor_of_a_writing_process_writes_to_no_other_database(own: Cluster) -> None:
    url = own.new_database()
    name = url.rpartition("/")[2]

    async def commit() -> None:
        writer = WriterProcess(url)
        assert (await writer.commit([event(0)]))[0].inserted
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        own.execute(f"DROP DATABASE {name} WITH (FORCE)")
        own.execute(f"CREATE DATABASE {name}")
        with pytest.raises(StoreUnavailable):
            await writer.commit([event(1)])
        with pytest.raises(StoreLost):
            await writer.commit([event(1)])
        await writer.close()

    asyncio.run(commit())
    with closing(Store.open(url)) as store:
        assert stored(store) == []


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A server and the standby whose answer each of its commits waits for."""
    with cluster() as primary, followed(primary, primary.url()):
        assert primary.standby is not None
        yield primary, primary.standby


def test_a_standby_that_takes_over_has_what_was_acknowledged(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    primary.execute("CREATE DATABASE log")
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    with closing(Store.open(f"postgresql://raycommend@{hosts}/log")) as store:
        traffic = Traffic(store)
        with traffic.flowing():
            traffic.wait()
            primary.kill()
            time.sleep(0.5)
            standby.promote()
            traffic.wait()
        assert stored(store) == traffic.acknowledged
        assert {type(error) for error in traffic.failures} <= {StoreUnavailable, StoreUnconfirmed}


def test_a_commit_that_the_standby_does_not_confirm_is_not_acknowledged(
    pair: tuple[Cluster, Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = pair
    with closing(Store.open(primary.new_database())) as store:
        store.insert([event(0)])
        standby.stop()
        cancelling = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        cancel = threading.Timer(0.5, primary.execute, [cancelling])
        cancel.start()
        with pytest.raises(StoreUnconfirmed, match="canceling wait for synchronous replication"):
            store.insert([event(1)])
        cancel.join()
        monkeypatch.setattr(driver.Connection, "answer_s", 1.0)
        with pytest.raises(StoreUnconfirmed, match="the server did not answer for 1 s"):
            store.insert([event(2)])
        monkeypatch.setattr(driver.Connection, "answer_s", 30.0)
        standby.start()
        # Sent again, they are known: the one server had them.
        assert [row.inserted for row in store.insert([event(1), event(2)])] == [False, False]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with folder() as path:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=777", "tmpfs", path], check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_told_and_gone_on_with_when_there_is_room(small_disk: Path) -> None:
    with cluster() as server:
        place, filler, acknowledged = small_disk / "tablespace", small_disk / "filler", list[str]()
        place.mkdir()
        os.chown(place, server.data.stat().st_uid, server.data.stat().st_gid)
        server.execute(f"CREATE TABLESPACE small LOCATION '{place}'")

        def fill() -> None:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 65_536)

        def write() -> None:
            for number in range(10_000):
                small.insert([event(number)])
                acknowledged.append(str(number))

        with closing(Store.open(server.new_database(TABLESPACE="small"))) as small:
            with pytest.raises(OSError, match="No space"):
                fill()
            with pytest.raises(StoreUnavailable, match="No space left on device"):
                write()
            assert stored(small) == acknowledged
            filler.unlink()
            assert small.insert([event(10_000)])[0].inserted
            assert stored(small) == [*acknowledged, "10000"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", "disconnected"),
        ("57P01", "disconnected"),
        ("57P03", "disconnected"),
        ("53100", "unavailable"),
        ("53300", "unavailable"),
        ("57014", "unavailable"),
        ("40001", "unavailable"),
        ("25006", "unavailable"),
        ("55P03", "unavailable"),
        ("58030", "unavailable"),
        ("XX001", "damaged"),
        ("42P01", "refused"),
        ("42501", "refused"),
        ("22003", "refused"),
    ],
)
def test_what_an_error_means(code: str, kind: str) -> None:
    assert error_kind(psycopg.errors.lookup(code)()) == kind


def test_an_error_without_a_code_is_a_lost_connection_or_a_mistake() -> None:
    assert error_kind(psycopg.OperationalError("connection refused")) == "disconnected"
    assert error_kind(psycopg.ProgrammingError("no result")) == "refused"


def test_a_server_that_does_not_answer_is_unavailable_not_refused() -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot open log on 127\.0\.0\.1 as a log: .*refused") as failure:
        Store.open(f"postgresql://raycommend@127.0.0.1:{free_port()}/log")
    assert "sqlalche" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_what_is_no_log_is_refused(own: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreError, match=r"needs a database in UTF8, log.* is in SQL_ASCII"):
        Store.open(own.new_database(ENCODING="'SQL_ASCII'", TEMPLATE="template0"))
    url = own.new_database()
    own.execute("CREATE TABLE orders (id bigint PRIMARY KEY)", url.rpartition("/")[2])
    with pytest.raises(StoreError, match=r"no log of revision .* a database of version 0 with 2 tables and indexes"):
        Store.open(url)
    with pytest.raises(StoreError, match=r"none that PostgreSQL's library reads: .*invalid"):
        Store.open("postgresql://host/log?no_such_parameter=1")
    with pytest.raises(StoreError, match=r"expected sqlite:///path or postgresql://, got postgresql\+psycopg2"):
        Store.open("postgresql+psycopg2://host/log")


@pytest.mark.parametrize("form", [lambda url: url, lambda url: url.replace("postgresql:", "postgresql+psycopg:")])
def test_a_password_is_in_no_message_and_no_command_line(own: Cluster, form: Callable[[str], str]) -> None:
    url = form(own.new_database().replace("raycommend@", "raycommend:geheim@"))

    async def commit() -> None:
        writer = WriterProcess(url)
        assert (await writer.commit([event(0)]))[0].inserted
        assert b"geheim" not in Path(f"/proc/{writer.pid}/cmdline").read_bytes()
        await writer.close()

    asyncio.run(commit())
    with closing(Store.open(url)) as store:
        assert "geheim" not in store.name


def test_a_commit_is_on_the_disk_whatever_the_account_is_set_to(own: Cluster) -> None:
    url = own.new_database()
    own.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    with closing(Store.open(url)) as store, store.writing() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
