"""Closed-loop load by wrk: so many connections, each asking again as soon as it is answered, kept alive."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """What came of one turn."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    """Connections that failed, and answers that were not 2xx or 3xx or came too late."""

    @property
    def requests_s(self) -> float:
        """Return requests a second."""
        return self.requests / self.seconds


def need_wrk() -> None:
    """End the bench where wrk is missing, saying how to get it."""
    if shutil.which("wrk") is None:
        print("this bench needs wrk, an HTTP load generator: apt-get install wrk", file=sys.stderr)
        sys.exit(2)


def load(url: str, bodies: Path, connections: int, seconds: float) -> Load:
    """Post the lines of a file in turn for some whole seconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(_SCRIPT), url]
    done = subprocess.run([*command, "--", str(bodies)], check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
    return Load(**json.loads(line.removeprefix("JSON ")))
