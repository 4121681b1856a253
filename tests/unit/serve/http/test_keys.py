"""API keys: what is kept, who is let in, and how they end."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.log.current.keys import KeyRefused, create, list_keys, revoke, rotate
from data.log.errors import StoreUnavailable
from data.log.store import Store
from serve.http.keys import ANYONE, ENVIRONMENT, KeyRing, Principal
from serve.keys import main
from tests.support.clocks import Clock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def test_a_key_lets_in_whoever_has_it_under_each_header(store: Store, clock: Clock) -> None:
    token = create(store, "shop", "node")
    ring = KeyRing(store, clock=clock)
    principal = Principal(token.split("_")[1], "shop", "node")
    assert ring.authenticate(f"Bearer {token}") == principal
    assert ring.authenticate(f"bearer  {token}") == principal
    assert ring.authenticate(None, token) == principal
    assert ring.authenticate(None, None, token) == principal
    assert ring.authenticate("Basic dXNlcg==", None, token) == principal  # another proxy's: not ours to judge


def test_no_other_key_does(store: Store, clock: Clock) -> None:
    token = create(store, "shop", "node")
    other = create(store, "other", "admin")
    ring = KeyRing(store, clock=clock)
    mixed = "_".join([*token.split("_")[:2], other.split("_", 2)[2]])
    for wrong in (None, "", "rk_", "rk__", token[:-1], token + "x", token.upper(), mixed, "right", "\udcff"):
        assert ring.authenticate(None, wrong) is None
    assert ring.authenticate(f"Bearer {mixed}", token) is None  # the first header that is there counts


@given(authorization=st.text(), key=st.text(), subscription=st.text())
def test_no_header_breaks_it_and_none_is_a_key(authorization: str, key: str, subscription: str) -> None:
    ring = KeyRing(admin_key="a key that no header is")
    assert ring.authenticate(authorization, key, subscription) is None


def test_only_a_hash_is_kept(store: Store, tmp_path: Path) -> None:
    secret = create(store, "shop", "node").split("_", 2)[2]
    assert len(secret) == 43  # 256 bits
    store.close()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_service_without_keys_is_open_and_one_whose_last_was_revoked_is_not(store: Store, clock: Clock) -> None:
    ring = KeyRing(store, clock=clock)
    assert ring.authenticate() == ANYONE
    token = create(store, "shop", "node")
    assert ring.authenticate() == ANYONE  # it has not looked yet
    ring.refresh()
    assert ring.authenticate() is None
    revoke(store, "shop")
    ring.refresh()
    assert ring.authenticate() is None
    assert ring.authenticate(f"Bearer {token}") is None


def test_the_key_of_the_environment_is_an_admin_beside_the_others(store: Store, clock: Clock) -> None:
    token = create(store, "shop", "reader")
    ring = KeyRing(store, "right", clock)
    assert ring.authenticate("Bearer right") == ENVIRONMENT
    assert ring.authenticate(f"Bearer {token}") == Principal(token.split("_")[1], "shop", "reader")
    assert ring.authenticate("Bearer wrong") is None
    assert KeyRing(admin_key="clé").authenticate("Bearer clé") == ENVIRONMENT


def test_rotated_both_work_until_the_grace_is_over(store: Store, clock: Clock) -> None:
    old = create(store, "shop", "node")
    clock.now += timedelta(days=1)
    new = rotate(store, "shop", timedelta(hours=2))
    ring = KeyRing(store, clock=clock)

    def let_in() -> tuple[bool, bool]:
        return ring.authenticate(None, old) is not None, ring.authenticate(None, new) is not None

    assert let_in() == (True, True)
    clock.now += timedelta(hours=2) - timedelta(microseconds=1)
    assert let_in() == (True, True)
    clock.now += timedelta(microseconds=1)
    assert let_in() == (False, True)


def test_rotating_does_not_prolong_a_life_and_the_new_key_lives_as_long(store: Store, clock: Clock) -> None:
    create(store, "shop", "node", timedelta(days=30))
    clock.now += timedelta(days=29, hours=12)
    rotate(store, "shop", timedelta(days=1))
    rotate(store, "shop", timedelta())
    ends = [key.expires_at for key in list_keys(store)]
    assert sorted(ends, key=str) == [clock.now, clock.now, clock.now + timedelta(days=30)]
    assert {key.role for key in list_keys(store)} == {"node"}


def test_a_revoked_key_ends_at_once_and_one_of_two_by_its_id(store: Store, clock: Clock) -> None:
    old = create(store, "shop", "node")
    new = rotate(store, "shop")
    ring = KeyRing(store, clock=clock)
    assert revoke(store, old.split("_")[1]) == 1
    ring.refresh()
    assert (ring.authenticate(None, old), ring.authenticate(None, new) is not None) == (None, True)
    assert revoke(store, "shop") == 1
    ring.refresh()
    assert ring.authenticate(None, new) is None


def test_what_cannot_be_done_is_refused_with_the_reason(store: Store) -> None:
    key_id = create(store, "shop", "node").split("_")[1]
    with pytest.raises(KeyRefused, match="'shop' lives already: rotate it"):
        create(store, "shop", "admin")
    with pytest.raises(KeyRefused, match="no key named 'till' lives: create it"):
        rotate(store, "till")
    with pytest.raises(KeyRefused, match="no key named"):
        rotate(store, key_id)  # a name is what goes on
    with pytest.raises(KeyRefused, match="no living key"):
        revoke(store, "till")
    with pytest.raises(KeyRefused, match="0 or more"):
        rotate(store, "shop", timedelta(hours=-1))
    with pytest.raises(KeyRefused, match="more than 0"):
        create(store, "till", "node", timedelta())
    for name in ("", "a\nb", "x" * 65):
        with pytest.raises(KeyRefused, match="1 to 64 printable"):
            create(store, name, "node")
    revoke(store, "shop")
    create(store, "shop", "admin")


def test_an_ended_name_does_not_come_back_by_rotation(store: Store, clock: Clock) -> None:
    create(store, "shop", "node", timedelta(days=1))
    clock.now += timedelta(days=1)
    with pytest.raises(KeyRefused, match="no key named 'shop' lives"):
        rotate(store, "shop")


def test_when_the_store_does_not_answer_the_known_keys_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    token = create(store, "shop", "node")
    ring = KeyRing(store, clock=lambda: NOW)

    def fail(query: object) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(store, "read_once", fail)
    with pytest.raises(StoreUnavailable):
        ring.refresh()
    assert ring.authenticate(None, token) is not None


def test_roles() -> None:
    node, reader, admin = (Principal("", "", role) for role in ("node", "reader", "admin"))
    assert (node.may("node"), node.may("reader"), node.may("node", "reader"), node.may()) == (True, False, True, False)
    assert (reader.may("node"), reader.may("node", "reader")) == (False, True)
    assert (admin.may("node"), admin.may()) == (True, True)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    assert main(["create", "shop", "--role", "node", "--days", "1"]) == 0
    old = capsys.readouterr().out.strip()
    assert main(["rotate", "shop", "--grace", "0.5"]) == 0
    new = capsys.readouterr().out.strip()
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    first, second = (json.loads(line) for line in listed.splitlines())
    assert [first["key_id"], second["key_id"]] == [token.split("_")[1] for token in (old, new)]
    assert (first["name"], first["role"], first["lives"]) == ("shop", "node", True)
    assert datetime.fromisoformat(first["expires_at"]) < datetime.fromisoformat(second["expires_at"])
    assert not any(token.split("_", 2)[2] in listed for token in (old, new))
    assert main(["revoke", "shop"]) == 0
    assert capsys.readouterr().out == "2 ended\n"
    assert main(["revoke", "shop"]) == 2
    assert capsys.readouterr().err == "serve.keys: no living key has the name or id 'shop'\n"
    assert main(["create", "till", "--role", "node", "--days", "nan"]) == 2
    assert main(["--store", "mysql://h/d", "list"]) == 2
    assert "expected sqlite" in capsys.readouterr().err


@pytest.mark.heavy
def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    command = [sys.executable, "-m", "serve.keys", "--store", url, "create", "shop", "--role", "reader"]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    store = Store.open(url)
    ring = KeyRing(store)
    store.close()
    found = ring.authenticate(f"Bearer {token}")
    assert found is not None
    assert found.role == "reader"
