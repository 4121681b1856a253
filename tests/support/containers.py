"""The container definition, read; and its steps carried out in root folders of this machine, where no engine is.

The base is Debian of the same release with its own Python, and nothing else of Python: as the image that is named.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Final

from tests.support.cluster_files import ROOT

FILE: Final = ROOT / "serve" / "deploy" / "Containerfile"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LENT = ("/etc/resolv.conf", "/etc/hosts")  # of this machine: where names are looked up


@dataclass(frozen=True)
class Step:
    """An instruction with its argument, lines joined."""

    name: str
    argument: str


def steps(text: str) -> list[Step]:
    """Return the instructions of a definition."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line]


@dataclass
class Image:
    """A root folder, and how what runs there is started."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH, "HOME": "/root"})
    workdir: str = "/"
    user: str = "0"

    def run(self, command: str, more: Mapping[str, str] = MappingProxyType({})) -> "subprocess.CompletedProcess[str]":
        """Run a command of its shell there, with processes of its own."""
        lent = [*_LENT, *_pip_files()]
        for path in lent:
            self._make_place(Path(path))
        mounts = [f"mount --bind {shlex.quote(path)} {shlex.quote(str(self.root) + path)}" for path in lent] + [
            f"mount -t proc proc {self.root}/proc",
            f"mount --rbind /dev {self.root}/dev",
            f"mount -t tmpfs tmpfs {self.root}/dev/shm",
        ]
        variables = [f"{name}={value}" for name, value in {**_pip_variables(), **self.environment, **more}.items()]
        inner = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), "env", "-i", *variables]
        inner += ["sh", "-c", f"cd {self.workdir} && {command}"]
        spaces = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        return subprocess.run(
            ["unshare", *spaces, "bash", "-ec", f"{' && '.join(mounts)}; exec {shlex.join(inner)}"],
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def copy(self, sources: Sequence[Path], target: str) -> None:
        """Copy files, or what is in folders, to a path there."""
        place = self.root / os.path.join(self.workdir, target).lstrip("/")
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
            else:
                shutil.copy(source, place / source.name if target.endswith("/") else place)

    def _make_place(self, path: Path) -> None:
        place = self.root / path.relative_to("/")
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


def build(folder: Path, arguments: Mapping[str, str]) -> Image:
    """Carry the steps out, and return the last stage.

    Args:
        folder: for the root folders.
        arguments: what `--build-arg` would give.

    Raises:
        AssertionError: a step has failed, and says what it had printed.
    """
    outer: dict[str, str] = {}  # what stands before the first FROM is for all of them, and for nothing else
    given: dict[str, str] = {}
    stages: dict[str, Image] = {}
    image = None
    for step in steps(FILE.read_text()):
        words = step.argument.split()
        if step.name == "ARG":
            name, _, value = step.argument.partition("=")
            (outer if image is None else given)[name] = arguments.get(name, value)
        elif step.name == "FROM":
            name = words[-1] if "AS" in words else "last"
            image = stages[name] = Image(_base(folder, name, Template(words[0]).substitute(outer)))
            given = {}
        else:
            assert image is not None
            _carry_out(step, image, stages, given)
    return stages["last"]


def _carry_out(step: Step, image: Image, stages: Mapping[str, Image], given: Mapping[str, str]) -> None:
    words = step.argument.split()
    match step.name:
        case "RUN":
            done = image.run(step.argument, given)
            assert done.returncode == 0, f"{step.argument}\n{done.stdout[-4_000:]}"
        case "WORKDIR":
            image.workdir = step.argument
            (image.root / step.argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "COPY" if words[0].startswith("--from="):  # no stage is used after another has taken of it
            source = stages[words[0].removeprefix("--from=")].root / words[1].lstrip("/")
            shutil.move(source, image.root / os.path.join(image.workdir, words[2]).lstrip("/"))
        case "COPY":
            image.copy([ROOT / word for word in words[:-1]], words[-1])
        case "ENV":
            for name, value in (word.split("=", 1) for word in shlex.split(step.argument)):
                image.environment[name] = Template(value).safe_substitute(image.environment)
        case "USER":
            image.user = step.argument
            (home,) = re.findall(rf"^\w+:x:{image.user}:.*:([^:]+):[^:]+$", _passwd(image), re.MULTILINE)
            image.environment["HOME"] = home
        case "CMD" | "EXPOSE" | "HEALTHCHECK":
            pass  # they make no files
        case other:
            raise AssertionError(f"nobody has said how to carry out {other}")


def _passwd(image: Image) -> str:
    return (image.root / "etc" / "passwd").read_text()


def _base(folder: Path, name: str, reference: str) -> Path:
    """Return a new root folder of the release and the Python of an image such as python:3.11.18-slim-bookworm."""
    version, suite = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-([a-z]+)", reference).groups()  # type: ignore[union-attr]
    first = folder / "base"
    if not first.exists():
        packages = f"ca-certificates,python{version},python{version}-venv"
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={packages}", suite, str(first)]
        done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-4_000:]
    subprocess.run(["cp", "-a", first, folder / name], check=True)
    return folder / name


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "config", *arguments]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def _pip_files() -> list[str]:
    """Return what pip reads on this machine: its settings, and the folders of packages that these name."""
    read = re.findall(r"^\s+(/.*), exists: True$", _pip("debug"), re.MULTILINE)
    named = re.findall(r"(?:file://|[' ])(/[^\s']+)", _pip("list"))
    paths = [path.removesuffix("/simple") for path in (*read, *named)]  # an index is beside the files that it names
    return sorted({path for path in paths if os.path.exists(path)})


def _pip_variables() -> dict[str, str]:
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower() in proxies}
