"""Programs of Debian packages that some tests run: `python -m tests.support.packages` names the packages that lack.

Where one lacks, its tests are skipped with the package's name; where `RAYCOMMEND_TEST_PACKAGES` is `required`, as in
`.ci/run`, which installs them before, they fail.
"""

import os
from collections.abc import Mapping
from shutil import which
from typing import Final

import pytest

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "g++": ("g++",),  # compiles networks (torch.compile)
    "npm": ("npm", "node"),  # the JavaScript clients of Personalizer
    "openssl": ("openssl",),  # makes the certificate of a test
}
"""By package."""


def missing(package: str) -> bool:
    """Say whether a program of a package is not on the path."""
    return any(which(program) is None for program in PROGRAMS[package])


def needs_package(package: str) -> pytest.MarkDecorator:
    """Return the mark of a test that runs a package's programs."""
    skipped = missing(package) and os.environ.get("RAYCOMMEND_TEST_PACKAGES") != "required"
    return pytest.mark.skipif(skipped, reason=f"needs the Debian package {package}: apt-get install {package}")


if __name__ == "__main__":
    print("\n".join(package for package in PROGRAMS if missing(package)))
