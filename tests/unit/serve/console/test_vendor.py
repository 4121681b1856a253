"""The browser's libraries are those of their packages, byte by byte, and each has its licence beside it."""

import tomllib
from hashlib import sha256

from serve.console.formatting import STATIC

FOLDER = STATIC / "vendor"
PACKAGES = tomllib.loads((FOLDER / "packages.toml").read_text())["package"]


def test_every_file_is_the_one_that_is_named_with_its_hash() -> None:
    named = {name: file["sha256"] for package in PACKAGES for name, file in package["files"].items()}
    found = {
        str(path.relative_to(FOLDER)): sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.rglob("*")
        if path.suffix in {".js", ".css", ".svg"}
    }
    assert found == named


def test_every_package_has_a_version_and_its_licence() -> None:
    for package in PACKAGES:
        assert package["version"].replace(".", "").isdigit()
        assert package["licence"] in {"0BSD", "MIT", "ISC AND MIT"}
        assert len((FOLDER / f"{package['name']}.LICENSE").read_text()) > 300
