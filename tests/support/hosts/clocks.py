"""A clock of a host's own, as its processes read it: the machine's, which stays, and what a file says on top."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.hosts.host import Host
from tests.support.packages import FAKETIME

_SOURCE: Final = Path(__file__).with_name("sleep.c")
_OFF: Final = "off"


def lend_clock(host: Host) -> Mapping[str, str]:
    """Return what must be in the environment of a host's processes to have its clock; see `set_clock`."""
    set_clock(host, 0)
    library = host.folder / "tmp" / "sleep.so"
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", _SOURCE, "-o", library], check=True)
    return {
        "LD_PRELOAD": f"/tmp/{library.name} {FAKETIME}",
        "RAY_LD_PRELOAD_ON_WORKERS": "1",
        "FAKETIME_TIMESTAMP_FILE": f"/tmp/{_OFF}",
        "FAKETIME_CACHE_DURATION": "1",  # seconds until it is read again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(host: Host, seconds: int) -> None:
    """Let the clock jump; it is so many seconds ahead of the machine's then."""
    (host.folder / "tmp" / _OFF).write_text(f"{seconds:+d}")
