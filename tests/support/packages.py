"""Programs of Debian packages that some tests run: `python -m tests.support.packages` names the packages that lack.

Where one lacks, its tests are skipped with the package's name; where `RAYCOMMEND_TEST_PACKAGES` is `required`, as in
`.ci/run`, which installs them before, they fail.
"""

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Final

import pytest

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "chromium": ("chromium",),  # the console, as people see it
    "faketime": ("faketime",),  # clocks of a host's processes that are off
    "g++": ("g++",),  # compiles networks (torch.compile)
    "iproute2": ("ip",),  # networks between hosts
    "mmdebstrap": ("mmdebstrap",),  # a clean Debian, for the steps of the container
    "npm": ("npm", "node"),  # the JavaScript clients of Personalizer
    "openssh-client": ("ssh", "ssh-keygen"),
    "openssh-server": ("sshd",),  # hosts of their own on one machine
    "openssl": ("openssl",),  # makes the certificate of a test
    "postgresql": ("initdb", "pg_ctl", "pg_basebackup"),  # the log's other database
    "prometheus": ("prometheus", "promtool"),  # metrics, alerts and dashboards
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
    "redis-server": ("redis-server",),  # where the head of a cluster may keep what it knows
    "rsync": ("rsync",),  # how Ray gives hosts their files
}
"""By package."""


FAKETIME: Final = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/faketime/libfaketime.so.1"
"""The library of the package `faketime`, for LD_PRELOAD."""


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs, the newest: Debian puts them beside the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return versions[-1] if versions else Path("/usr/bin")


def missing(package: str) -> bool:
    """Say whether a program of a package is neither on the path nor among PostgreSQL's."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(postgres_programs())])
    return any(which(program, path=path) is None for program in PROGRAMS[package])


def needs_package(package: str) -> pytest.MarkDecorator:
    """Return the mark of a test that runs a package's programs."""
    skipped = missing(package) and os.environ.get("RAYCOMMEND_TEST_PACKAGES") != "required"
    return pytest.mark.skipif(skipped, reason=f"needs the Debian package {package}: apt-get install {package}")


if __name__ == "__main__":
    print("\n".join(package for package in PROGRAMS if missing(package)))
