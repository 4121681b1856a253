"""Hosts on this machine: each a network, process and mount space of its own, a home, /tmp and /dev/shm, and an sshd."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.hosts.network import Network, ip, unplug

CHECKOUT: Final = Path(__file__).parents[3]
_INIT = Path(__file__).parent / "init.py"
_SPACES = ("--mount", "--pid", "--net", "--uts", "--ipc")
_SSHD = """
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
HostKey /run/key
MaxStartups 100
MaxSessions 100
"""


@dataclass
class Host:
    """A running host. Who holds the network's key may log in as root."""

    name: str
    address: str
    folder: Path
    """Of its files: `home` and `tmp` are what it has at its own home and /tmp."""
    pid: int
    """Of its first process, as this machine counts; when that dies, the kernel ends all others."""
    link: str
    """The machine's end of its interface."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return Path.home()

    def run(
        self, command: str, *, check: bool = True, timeout_s: float = 300, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of bash in the checkout, with little in its environment; its output is kept as one text.

        Raises:
            AssertionError: it failed, and says what it had printed.
        """
        done = subprocess.run(
            self._command(command, environment),
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.returncode}\n{done.stdout[-6_000:]}"
        return done

    def start(self, command: str, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a command of bash that goes on; it ends with the host, if nothing ends it before."""
        with log.open("wb") as file:
            return subprocess.Popen(
                self._command(command, environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes of this host by their number on this machine."""
        found = {}
        own = _space(self.pid)
        for path in Path("/proc").iterdir():
            if path.name.isdigit() and _space(int(path.name)) == own:
                try:
                    found[int(path.name)] = path.joinpath("cmdline").read_text(errors="replace").replace("\0", " ")
                except OSError:
                    continue  # it has ended
        return found

    def find(self, *words: str) -> list[int]:
        """Return the processes of this host whose command line has all the words."""
        return [pid for pid, line in self.processes().items() if all(word in line for word in words)]

    def files_with(self, word: str, folder: str) -> list[Path]:
        """Return the files in a folder of its /tmp that have a word in them."""
        paths = [path for path in (self.folder / "tmp" / folder).rglob("*") if path.is_file() and not path.is_symlink()]
        return [path for path in paths if word.encode() in path.read_bytes()]

    def cut(self) -> None:
        """Take the host from the network; its processes go on."""
        ip(f"link set {self.link} down")

    def mend(self) -> None:
        """Connect it again."""
        ip(f"link set {self.link} up")

    def _command(self, command: str, environment: Mapping[str, str]) -> Sequence[str]:
        clean = {"HOME": str(self.home), "USER": "root", "PATH": _path(), "LANG": "C.UTF-8"}
        variables = [f"{name}={value}" for name, value in {**clean, **self.environment, **environment}.items()]
        return [
            *("nsenter", f"--target={self.pid}", *_SPACES, f"--wdns={CHECKOUT}", "--"),
            *("env", "-i", *variables, "bash", "-c", command),
        ]


@contextmanager
def host(
    net: Network, number: int, name: str, folder: Path, key: Path, *, shm: str = "50%", **environment: str
) -> Iterator[Host]:
    """Start a host, and end it with all that runs on it.

    Args:
        net: where it is plugged in.
        number: of its address there.
        name: of the host.
        folder: for its files, which are removed at the end.
        key: public key of who may log in as root.
        shm: size of its /dev/shm: of which Ray wants 30 % of the memory.
        environment: of all commands that are run on it, but by ssh.
    """
    place = folder / name
    _write_files(place, net.address(number), key)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        process = subprocess.Popen(
            [
                *("unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc", "--propagation=private"),
                *map(str, (sys.executable, "-S", "-E", _INIT, place, Path.home(), shm, *_kept_paths())),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        stack.callback(process.wait, 30)
        stack.callback(process.kill)
        pid = _first_child(process)
        link = net.plug(number, pid)
        stack.callback(unplug, link)
        print("plugged in", file=process.stdin, flush=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", f"{name} did not start"
        yield Host(name, net.address(number), place, pid, link, environment)


def make_key(folder: Path) -> Path:
    """Make a key pair, and return the path of the private key; the public one is beside it."""
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", path], check=True)
    return path


def _write_files(place: Path, address: str, key: Path) -> None:
    home = place / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    (home / ".ssh" / "authorized_keys").write_text(key.read_text())
    for name in (".bashrc", ".profile"):
        shutil.copy(Path("/etc/skel") / name, home / name)
    with (home / ".profile").open("a") as file:
        file.write(f"\nPATH={Path(sys.base_prefix) / 'bin'}:$PATH\n")  # who has Python of their own has it there
    (place / "hosts").write_text(f"127.0.0.1 localhost\n{address} {place.name}\n")
    (place / "resolv.conf").write_text("")
    (place / "sshd_config").write_text(_SSHD)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)


def _kept_paths() -> list[Path]:
    """Return what hosts need of this machine beside what is in no home: Python, its packages, the checkout."""
    paths = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, CHECKOUT)}
    return sorted(path for path in paths if not any(path != other and path.is_relative_to(other) for other in paths))


def _path() -> str:
    return os.pathsep.join([f"{sys.prefix}/bin", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])


def _first_child(process: "subprocess.Popen[str]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
    raise RuntimeError(f"unshare ended with {process.returncode}")


def _space(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None  # it has ended
