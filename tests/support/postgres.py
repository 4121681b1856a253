"""PostgreSQL for tests: clusters of their own in temporary folders, of the Debian package `postgresql`."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from tests.support.packages import postgres_programs
from tests.support.ports import free_port

USER: Final = "raycommend"
_START_S = 60.0


@dataclass
class Cluster:
    """A server in a folder. It trusts whoever reaches its socket, or its port of this machine."""

    folder: Path
    port: int = field(default_factory=free_port)
    address: str = "127.0.0.1"
    """Where else it listens, for who knows the password of its user (`admit`)."""
    standby: "Cluster | None" = None
    """Who follows it: see `followed`."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self, **options: str) -> str:
        """Make a database and return its URL."""
        name = f"log{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} " + " ".join(f"{key} {value}" for key, value in options.items()))
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement outside of any transaction, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def initialise(self, **settings: str) -> None:
        """Make the cluster."""
        self.run(
            "initdb", "-D", self.data, "-U", USER, "--auth=trust", "-E", "UTF8", "--no-locale", "--no-instructions"
        )
        self.set(**settings)

    def copy(self, folder: Path) -> "Cluster":
        """Return a standby that follows this cluster, not started yet."""
        _give(folder)
        standby = Cluster(folder, address=self.address)
        self.run("pg_basebackup", "-D", standby.data, "-d", self.url(), "-R", "-X", "stream", "-c", "fast")
        return standby

    def set(self, **settings: str) -> None:
        """Set what the server is told at its next start or reload."""
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def admit(self, network: str, password: str) -> None:
        """Let its user in from a network, such as 10.0.0.0/24, by a password."""
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write(f"host all {USER} {network} scram-sha-256\n")
        self.execute(f"ALTER ROLE {USER} PASSWORD '{password}'")
        self.reload()

    def reload(self) -> None:
        self.run("pg_ctl", "-D", self.data, "reload")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        addresses = ",".join({"127.0.0.1", self.address})
        options = f"-c port={self.port} -c listen_addresses={addresses} -c unix_socket_directories='{self.folder}'"
        log = ("-l", self.folder / "server.log", "-o", options)
        self.run("pg_ctl", "-D", self.data, "-w", "-t", str(int(_START_S)), *log, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """Kill the server and all of its processes at once, as a machine that fails."""
        server = self.pid
        family = [server, *_children(server)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _START_S
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            assert time.monotonic() < deadline, "the killed server is still there"
            time.sleep(0.01)

    def fail_over(self) -> None:
        """Kill the server, and promote its standby a second later, as whoever watches over them does."""
        assert self.standby is not None, "nobody follows it"
        self.kill()
        time.sleep(1.0)
        self.standby.promote()

    def promote(self) -> None:
        """Make a standby the server that is written to."""
        self.run("pg_ctl", "-D", self.data, "-w", "promote")

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    @property
    def runs(self) -> bool:
        return self.data.exists() and not self.run("pg_ctl", "-D", self.data, "status", check=False).returncode

    def run(self, program: str, *arguments: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a program of the package as the user whose the cluster is: the server refuses to be root."""
        command = [str(postgres_programs() / program), *map(str, arguments)]
        user = _user()
        done = subprocess.run(
            command,
            check=False,
            text=True,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,  # what it starts would keep a pipe
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",
            env=_environment(),
        )
        assert not check or done.returncode == 0, (
            f"{program}: {done.stderr or (self.folder / 'server.log').read_text()}"
        )
        return done


@contextmanager
def cluster(address: str = "127.0.0.1", **settings: str) -> Iterator[Cluster]:
    """Make and start a cluster, and remove it at the end."""
    with folder() as path:
        made = Cluster(path, address=address)
        made.initialise(**settings)
        try:
            made.start()
            yield made
        finally:
            if made.runs:
                made.stop("immediate")


@contextmanager
def followed(primary: Cluster, url: str) -> Iterator[str]:
    """Let a synchronous standby follow a server, and yield the URL of both for the one of a database.

    `primary.standby` is it meanwhile.
    """
    with folder() as path:
        standby = primary.standby = primary.copy(path / "standby")
        standby.start()
        try:
            primary.set(synchronous_standby_names="*")
            primary.reload()
            host = f"127.0.0.1:{primary.port}"
            yield url.replace(host, f"{host},127.0.0.1:{standby.port}")
        finally:
            if standby.runs:
                standby.stop("immediate")


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for a cluster, with a short path: that of a socket may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="raycommend-pg-", dir="/tmp"))
    try:
        _give(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _give(path: Path) -> None:
    """Give a folder to the user whose the server is."""
    path.mkdir(exist_ok=True, mode=0o700)
    if user := _user():
        os.chown(path, user.pw_uid, user.pw_gid)


def _user() -> pwd.struct_passwd | None:
    """Return whom the server runs as where this process is root, None where it is not."""
    return pwd.getpwnam("postgres") if os.getuid() == 0 else None


def _environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
