"""MLflow's client, given up within seconds where nobody answers. Imports mlflow, which takes seconds, when called.

By itself the client tries for four minutes, and a database of MLflow's for an hour, without a word.
"""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from data.errors import RecommenderError
from data.log.database import SQL_ERRORS

ANSWER_WITHIN_S = 5.0
"""Seconds within which a server must answer at all."""
_TABLES_S = 120.0
"""For which another process may make the tables of a file."""
_SAID_AFTER_S = 2.0  # seconds of waiting before a line says so
_BOUNDS = {  # of a request to a server that did answer; the environment's own values win
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_CREDENTIALS = re.compile(r"^[^:/]*(:[^@]*)?@")  # of a database: a password may have the marks of a path in it
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

UNWRAPPED = (*SQL_ERRORS, OSError)
"""What MLflow lets through beside its own MlflowException: of a database that it cannot open, a network, a disk."""

log = logging.getLogger(__name__)


class NoAnswerError(RecommenderError, OSError):
    """Nobody answers at a tracking URI."""


def tracking_client(uri: str) -> Any:
    """Return an `MlflowClient` of a tracking URI, after seeing that somebody answers there.

    Raises:
        NoAnswerError: nobody does, or another process makes the tables of a file for minutes.
        mlflow.exceptions.MlflowException: it is no such URI; or one of `UNWRAPPED`.
    """
    for name, value in _BOUNDS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    check_answers(uri)
    with _making_tables(uri):
        return MlflowClient(uri, uri)


@contextmanager
def _making_tables(uri: str) -> Iterator[None]:
    """Keep others, also those of this process, from opening a file of MLflow's meanwhile.

    Who opens one first makes its tables, for seconds, and of two who do so at once one fails: MLflow takes no lock.
    """
    scheme, _, path = uri.partition("?")[0].partition(":///")
    if scheme != "sqlite" or not path:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=_TABLES_S):
            yield
    except Timeout:
        raise NoAnswerError(f"another process has been opening {path} for {_TABLES_S:g} s") from None


def check_answers(uri: str) -> None:
    """See whether a server answers at a tracking URI, whatever it says; files have no server.

    Raises:
        NoAnswerError: nobody does within `ANSWER_WITHIN_S`.
    """
    try:
        if uri.startswith(("http://", "https://")):
            _ask(uri)
        elif address := _database(uri):
            socket.create_connection(address, ANSWER_WITHIN_S).close()
    except OSError as error:  # which those of requests are
        reason = "no answer in time" if "timed out" in str(error) else type(error).__name__
        raise NoAnswerError(f"nobody answers there within {ANSWER_WITHIN_S:g} s ({reason})") from error


def _ask(uri: str) -> None:
    import requests  # MLflow's own, by the proxies that the environment names

    requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_WITHIN_S, stream=True).close()


def _database(uri: str) -> tuple[str, int] | None:
    """Return the address of a database server; None: there is no server, or it is not known how to reach it."""
    scheme, _, rest = uri.partition("://")
    try:
        url = urlsplit(f"//{_CREDENTIALS.sub('', rest)}")
        port = url.port or _PORTS.get(scheme.partition("+")[0])
    except ValueError:
        return None
    return (url.hostname, port) if url.hostname and port else None


@contextmanager
def waiting(uri: str) -> Iterator[None]:
    """Say which server is waited for, if it takes longer than one would think."""
    if uri.startswith("sqlite"):  # which is of this process: it computes
        yield
        return
    timer = Timer(_SAID_AFTER_S, lambda: log.warning("waiting for MLflow at %s", without_credentials(uri)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def without_credentials(uri: str, text: str | None = None) -> str:
    """Return a URI, or a text about it, without the user and the password that the URI may have."""
    credentials, at, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    said = uri if text is None else text
    return said.replace(credentials + at, "") if at else said
