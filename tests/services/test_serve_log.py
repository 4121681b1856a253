"""What becomes of the log's file while the service runs, over real HTTP: it is said at once, and nothing is lost."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.ledger import Ledger
from tests.support.modes import open_to_others
from tests.support.services import Running, wait_for


def ask(server: Running, decision_id: str) -> httpx.Response:
    return server.client.post("/v1/recommend", json={"k": 1, "decision_id": decision_id})


def missing(path: Path, *ledgers: Ledger) -> list[str]:
    """Return what was acknowledged, and is not in the log."""
    return [row for ledger in ledgers for row in ledger.compare(f"sqlite:///{path}")[0]]


def acknowledged(server: Running, name: str, during_s: float) -> tuple[Ledger, list[httpx.Response]]:
    """Ask for some seconds; returns what was acknowledged, and the refusals."""
    ledger, refused, end = Ledger(), list[httpx.Response](), time.monotonic() + during_s
    while time.monotonic() < end:
        decision_id = f"{name}-{len(ledger.decisions) + len(refused)}"
        answer = ask(server, decision_id)
        if answer.status_code == 200:
            ledger.decisions.add(decision_id)
        else:
            refused.append(answer)
            time.sleep(0.05)
    return ledger, refused


def test_home_and_log_are_their_owners_alone(server: Running) -> None:
    assert ask(server, "first").status_code == 200
    assert open_to_others(server.home) == []


@pytest.mark.slow
def test_a_hung_writer_is_replaced_and_nothing_that_was_acknowledged_is_lost(server: Running) -> None:
    writers = server.find("data.log.writer.process")
    assert len(writers) == 2
    for writer in writers:
        os.kill(writer.pid, signal.SIGSTOP)
    ledger, refused = acknowledged(server, "hung", 20)
    assert refused
    assert {(answer.status_code, answer.headers.get("Retry-After")) for answer in refused} == {(503, "1")}
    assert len(ledger.decisions) > 10
    assert missing(server.home / "store.db", ledger) == []
    assert not any(_runs(writer) for writer in writers)


@pytest.mark.slow
def test_a_log_that_is_taken_away_is_said_at_once_and_gone_on_with_when_it_is_back(server: Running) -> None:
    assert ask(server, "first").status_code == 200
    away = server.home.parent / f"{server.home.name}-away"
    away.mkdir()
    for file in server.home.glob("store.db*"):
        file.rename(away / file.name)
    ledger, refused = acknowledged(server, "away", 5)
    assert ledger.decisions == set()
    errors: list[dict[str, Any]] = [answer.json()["error"] for answer in refused]
    assert {error["code"] for error in errors} == {"store_unavailable"}
    assert all("log was deleted or replaced" in error["message"] for error in errors)
    assert not (server.home / "store.db").exists()
    for file in away.iterdir():
        file.rename(server.home / file.name)
    ledger, _ = acknowledged(server, "back", 2)
    assert len(ledger.decisions) > 10
    assert missing(server.home / "store.db", ledger, Ledger({"first"})) == []


@pytest.mark.slow
def test_another_log_in_its_place_is_begun_with_anew(server: Running) -> None:
    path = server.home / "store.db"
    assert ask(server, "before the backup").status_code == 200
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(server.home / "backup.db")) as copy:
        source.backup(copy)
    assert ask(server, "after the backup").status_code == 200
    for file in server.home.glob("store.db*"):
        file.unlink()
    shutil.move(server.home / "backup.db", path)
    assert ask(server, "nowhere").status_code == 503

    def answered() -> bool:
        try:
            return ask(server, "new").status_code == 200
        except httpx.TransportError:  # the replica that was asked has ended, and no other has begun
            return False

    wait_for(answered, 180)
    ledger, _ = acknowledged(server, "anew", 5)
    assert missing(path, ledger, Ledger({"before the backup", "new"})) == []
    assert missing(path, Ledger({"after the backup"}))


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
