"""Consoles without Ray: the pages over a service that is in the same process."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi.testclient import TestClient
from httpx import Response

from data.log.store import Store
from serve.config import ConsoleConfig
from serve.console.application import create_console
from serve.console.desk import ServiceDesk
from serve.decisions.service import Service
from serve.http.keys import KeyRing
from tests.support.shops import shop_service

URL = "https://console.test"


class Browser:
    """A client that keeps cookies, and sends what forms have."""

    def __init__(self, service: Service, store: Store, root: str = "", **config: Any) -> None:
        self.keys = KeyRing(store, clock=store.now)
        console = create_console(ServiceDesk(service), store, self.keys, ConsoleConfig(**config))
        self.client: httpx.Client = TestClient(console, base_url=URL, root_path=root, follow_redirects=False)
        self.root = root

    def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        return self.client.get(self.root + path, headers=headers)

    def token(self, path: str = "/login") -> str:
        """Return the token of the forms of a page."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Response:
        """Send a form as a page's script does, with the token in a header, unless headers are given."""
        return self.client.post(self.root + path, data=fields, headers=headers or {"x-token": self.token()})

    def log_in(self, key: str, next_path: str = "/") -> Response:
        """Send the form of the login page."""
        return self.client.post(self.root + "/login", data={"token": self.token(), "key": key, "next": next_path})


@contextmanager
def browsing(store: Store, root: str = "", **config: Any) -> Iterator[Browser]:
    """Yield a browser of a console of a small shop; each test has a service of its own."""
    browser = Browser(shop_service(store), store, root, **config)
    with browser.client:
        yield browser
