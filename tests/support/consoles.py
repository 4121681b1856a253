"""Consoles without Ray: the pages over a service that is in the same process, and learns when it is told to."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient
from httpx import Response

from data.log.store import Store
from data.schema import LOOP_V1
from rl.online.snapshots import SnapshotSettings
from serve.config import ConsoleConfig, ServiceConfig
from serve.console.application import create_console
from serve.console.desk import ServiceDesk
from serve.contracts.reports import FeedbackRequest, FeedbackResponse
from serve.decisions.served import Served, make_writable
from serve.decisions.service import Service
from serve.http.keys import KeyRing
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.shops import save_policies, shop_service, small_market
from tests.support.writers import StoreWriter

URL = "https://console.test"


class Browser:
    """A client that keeps cookies, and sends what forms have."""

    def __init__(self, desk: ServiceDesk, store: Store, root: str = "", **config: Any) -> None:
        self.keys, self.root = KeyRing(store, clock=store.now), root
        console = create_console(desk, store, self.keys, ConsoleConfig(**config))
        self.client: httpx.Client = TestClient(console, base_url=URL, root_path=root, follow_redirects=False)

    def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        return self.client.get(self.root + path, headers=headers)

    def token(self, path: str = "/login") -> str:
        """Return the token of the forms of a page."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, fields: dict[str, Any], **headers: str) -> Response:
        """Send a form as a page's script does, with the token in a header, unless headers are given."""
        return self.client.post(self.root + path, data=fields, headers=headers or {"x-token": self.token()})

    def log_in(self, key: str, next_path: str = "/") -> Response:
        """Send the form of the login page."""
        fields = {"token": self.token(), "key": key, "next": next_path}
        return self.client.post(self.root + "/login", data=fields)


class LearningDesk(ServiceDesk):
    """A desk of a service with an untrained linear Thompson policy, whose learner follows feedback at once."""

    def __init__(self, store: Store, home: Path) -> None:
        save_policies(home, small_market()[1])
        config = ServiceConfig(home=str(home), policies={"linear_thompson": 1.0, "rfm_bandit": 0.0})
        self.service = Service(Served({LOOP_V1: config.shares}), store, StoreWriter(store), {}, config)
        super().__init__(self.service)
        sources = [ConfiguredPlans(config, config.settings, store)]
        self._loops = Loops(store, config.settings, sources, lambda: datetime.now(UTC), SnapshotSettings())
        self.learns = True
        self.learn()

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """Log feedback, and learn it."""
        response = await super().feedback(reports)
        if self.learns:
            self.learn()
        return response

    def learn(self) -> None:
        """Learn what the log has."""
        self._loops.refresh()
        self._loops.poll()
        self.service.served.take(make_writable(self._loops.news(self.service.served.steps())))


@contextmanager
def browsing(store: Store, root: str = "", desk: ServiceDesk | None = None, **config: Any) -> Iterator[Browser]:
    """Yield a browser of a console; by default of a small shop that does not learn."""
    browser = Browser(desk or ServiceDesk(shop_service(store)), store, root, **config)
    with browser.client:
        yield browser
