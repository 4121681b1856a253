"""What must be there for hosts of their own on this machine."""

import subprocess
from functools import cache

import pytest

from tests.support.packages import needs_package

_PACKAGES = ("iproute2", "openssh-client", "openssh-server", "rsync")


def needs_hosts() -> list[pytest.MarkDecorator]:
    """Return the marks of a module whose tests start hosts: it is skipped where they cannot be, and says why."""
    spaces = pytest.mark.skipif(not _has_spaces(), reason="needs root, and namespaces of the network and of processes")
    return [spaces, *map(needs_package, _PACKAGES)]


@cache
def _has_spaces() -> bool:
    try:
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]
        return not subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        return False  # no Linux
