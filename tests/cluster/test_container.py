"""The steps of serve/deploy/Containerfile, carried out in clean root folders. Slow."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.containers import Image, build
from tests.support.packages import needs_package

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="has the packages of another Python"),
    needs_package("mmdebstrap"),
]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """With the build of torch that is installed here, from where pip finds it here."""
    with tempfile.TemporaryDirectory(prefix="raycommend-image-") as folder:
        yield build(Path(folder), {"TORCH": f"torch=={version('torch')}", "INDEX": ""})


def test_what_runs_is_small_and_of_nobody_special(image: Image) -> None:
    said = image.run("id -u; command -v make gcc curl; python --version; touch /opt/raycommend/x; ls ~").stdout
    assert re.fullmatch(r"1000\nPython 3\.11\.\d+\ntouch: .*Permission denied\n", said)


def test_it_has_what_it_runs_with_and_no_tools_of_developers(image: Image) -> None:
    said = image.run("python -m pip check; python -c 'import torch, serve.app'; python -c 'import pytest'").stdout
    assert "No broken requirements found" in said
    assert said.strip().endswith("ModuleNotFoundError: No module named 'pytest'")
