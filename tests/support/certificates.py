"""Certificates for tests, by the Debian package `openssl`: an authority, and what it vouches for."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files in PEM."""

    certificate: Path
    key: Path


def make_authority(folder: Path) -> Certificate:
    """Make an authority in a folder."""
    return _make(folder, "authority", ["-subj", "/CN=Tests"])


def make_certificate(authority: Certificate, names: Sequence[str]) -> Certificate:
    """Make a certificate beside an authority's, for names such as `DNS:localhost` and `IP:127.0.0.1`."""
    by = ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
    extensions = [f"subjectAltName={','.join(names)}", "basicConstraints=CA:FALSE"]
    added = [word for extension in extensions for word in ("-addext", extension)]
    return _make(authority.certificate.parent, "node", ["-subj", "/CN=node", *added, *by])


def _make(folder: Path, name: str, options: Sequence[str]) -> Certificate:
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files = ["-keyout", made.key, "-out", made.certificate]
    command = ["openssl", "req", "-x509", "-days", "2", *_KEY, *files, *options]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return made
