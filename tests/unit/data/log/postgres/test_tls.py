"""TLS to the database, as serve/SECURITY.md says: who is not the server that was named is not talked to."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from data.log.errors import StoreError
from data.log.store import Store
from data.schema import Event
from tests.support.certificates import make_authority, make_certificate
from tests.support.packages import needs_package
from tests.support.postgres import Cluster, folder

pytestmark = [pytest.mark.heavy, needs_package("postgresql"), needs_package("openssl")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of who vouches for the server; beside it is the server's own, for 127.0.0.1."""
    made = make_authority(tmp_path_factory.mktemp("tls"))
    make_certificate(made, ["IP:127.0.0.1"])
    return made.certificate


@pytest.fixture(scope="module")
def url(authority: Path) -> Iterator[str]:
    with folder() as place:
        server = Cluster(place)
        server.initialise(ssl="on", ssl_cert_file="node.pem", ssl_key_file="node.key")
        for name in ("node.pem", "node.key"):
            shutil.copy(authority.parent / name, server.data)
            os.chown(server.data / name, place.stat().st_uid, place.stat().st_gid)
            (server.data / name).chmod(0o600)
        rules = server.data / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("host ", "hostssl "))
        server.start()
        try:
            yield server.new_database()
        finally:
            server.stop("immediate")


def test_the_log_is_written_over_tls_to_the_server_that_was_named(url: str, authority: Path) -> None:
    with closing(Store.open(f"{url}?sslmode=verify-full&sslrootcert={authority}")) as store:
        assert store.insert([Event(node_id="n", event_id="1")])[0].inserted


def test_another_name_and_another_authority_are_refused(url: str, authority: Path, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path).certificate
    for other in (
        f"{url.replace('127.0.0.1', 'localhost')}?sslmode=verify-full&sslrootcert={authority}",
        f"{url}?sslmode=verify-full&sslrootcert={stranger}",
    ):
        with pytest.raises(StoreError, match="certificate"):
            Store.open(other)


def test_without_tls_the_server_lets_nobody_in(url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(f"{url}?sslmode=disable")
