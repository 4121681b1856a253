"""Commands that visitors start: each in a process of its own, recorded in files, so that any page finds it again.

A folder of the home has one for each run: what was asked for by whom (`run.json`), what it has said (`out`, `err`), and
how it has ended (`status`). The process goes on when the console is restarted. It holds a lock while it runs: a run
without `status` whose lock is free was killed.
"""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from pydantic import ValidationError

from data.atomic import lock, replace_file
from data.errors import RecommenderError
from data.settings import Settings
from serve.console.work.runs import LOCK, PROCESS, RUN, Asked, Run, is_locked, read_run

_ROOT: Final = Path(__file__).parents[3]
_MOST: Final = 20
"""Runs of a kind that are kept."""
_BEGUN_S: Final = 10.0
"""Within which a process that was started says which it is."""


class CommandRefused(RecommenderError):  # noqa: N818 - a state that passes
    """A command cannot be started, as another one of its kind runs, or not be stopped yet."""


class Commands:
    """Those of a home. All methods block."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] | None = None) -> None:
        """Take where everything lies; what the processes see of the environment, is by default as it is here."""
        self._home = settings.home.absolute()
        self._folder = self._home / "console"
        self._environment = environment
        self._processes = dict[str, subprocess.Popen[bytes]]()

    def start(self, kind: str, module: str, arguments: Sequence[str], by: str, about: Mapping[str, Any]) -> Run:
        """Start `python -m MODULE ARGUMENTS`.

        Raises:
            CommandRefused: one of this kind runs.
        """
        with lock(self._folder / f".{kind}.lock", lambda _: CommandRefused("another one is being started")):
            return self._start(kind, module, arguments, by, about)

    def _start(self, kind: str, module: str, arguments: Sequence[str], by: str, about: Mapping[str, Any]) -> Run:
        if (last := self.last(kind)) is not None and last.state == "running":
            raise CommandRefused(
                f"{last.asked.by} has started one at {last.asked.began:%H:%M:%S} UTC, which still runs"
            )
        began = datetime.now(UTC)
        name = f"{kind}-{began:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"  # names sort as they began
        asked = Asked(kind=kind, module=module, arguments=tuple(arguments), by=by, began=began, about=dict(about))
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True)
        with replace_file(folder / RUN) as new:
            new.write_text(asked.model_dump_json())
        # Locked here, and held by the process after this one lets go: nobody takes it for lost in between.
        with (folder / LOCK).open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "serve.console.work.runner", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[held.fileno()],
                env=self._make_environment(),
            )
        self._tidy(kind)
        return read_run(folder)

    def last(self, kind: str) -> Run | None:
        """Return the run of a kind that runs, or the newest: a clock may have been set back meanwhile."""
        folders = self._folders(kind)
        running = [folder for folder in folders if is_locked(folder)]
        return next((run for folder in (*running, *folders) if (run := self.find(folder.name)) is not None), None)

    def list(self, kind: str, limit: int = _MOST) -> Sequence[Run]:
        """Return the newest runs of a kind, the newest first."""
        runs = (self.find(folder.name) for folder in self._folders(kind))
        return list(islice((run for run in runs if run is not None), limit))

    def find(self, name: str) -> Run | None:
        """Return a run; None: there is none of this name, or its record is damaged."""
        folder = self._folder / name
        if folder.parent != self._folder:
            return None
        if (process := self._processes.get(name)) is not None and process.poll() is not None:
            del self._processes[name]
        try:
            return read_run(folder)
        except (OSError, ValidationError):
            return None

    def stop(self, name: str) -> Run | None:
        """Interrupt a run, as Ctrl-C does; it ends when it has cleaned up. One that has just begun is waited for.

        Raises:
            CommandRefused: it has not begun within some seconds.
        """
        deadline, process = monotonic() + _BEGUN_S, self._folder / name / PROCESS
        while (run := self.find(name)) is not None and run.state == "running":
            if process.exists():
                with suppress(OSError):  # it has ended meanwhile
                    os.killpg(int(process.read_text()), signal.SIGINT)
                break
            if monotonic() > deadline:
                raise CommandRefused(f"it has not begun within {_BEGUN_S:g} s: stop it again")
            sleep(0.05)
        return run

    def _folders(self, kind: str) -> Sequence[Path]:
        return sorted(self._folder.glob(f"{kind}-*"), key=lambda folder: folder.name, reverse=True)

    def _tidy(self, kind: str) -> None:
        for folder in self._folders(kind)[_MOST:]:
            if not is_locked(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _make_environment(self) -> dict[str, str]:
        environment = dict(os.environ if self._environment is None else self._environment)
        paths = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment.pop("RAYCOMMEND_API_KEY", None)  # no command of these asks over HTTP
        return environment | {"PYTHONPATH": os.pathsep.join(paths)}


def environment_of(settings: Settings, given_home: bool) -> dict[str, str]:
    """Return an environment in which a command finds what is here; `given_home`: the home is all of it, see config."""
    environment = dict(os.environ)
    if given_home:
        for name in ("RAYCOMMEND_STORE", "RAYCOMMEND_ARCHIVE"):
            environment.pop(name, None)
            environment.pop(f"{name}_FILE", None)
    return environment | {"RAYCOMMEND_HOME": str(settings.home.absolute())}
