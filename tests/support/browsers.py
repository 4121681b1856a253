"""Debian's chromium with the console before it: what it shows, what it complains about, how far its layout jumps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import psutil
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from data.log.current import keys
from data.log.store import Store
from tests.support.ports import free_port
from tests.support.showroom import furnish

PICTURES = Path("var/console")
"""Where pictures of all pages are kept: whoever changes a page looks at them."""
USER = "12001"
PAGES = {
    "login": "/login",
    "shop": "/shop",
    "customer": f"/shop?user={USER}&policy=linear_thompson",
    "decisions": "/decision",
    "learning": "/learning",
    "experiments": "/experiments",
    "data": "/data",
}
"""Paths by the names of their pictures."""
WIDTHS = {"wide": (1366, 900), "phone": (390, 844)}
_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""


@dataclass
class Showroom:
    """A real service with its console, whose log has a key of each role."""

    home: Path
    port: int = field(default_factory=free_port)
    jobs: bool = False
    """Its Ray takes jobs."""
    process: "subprocess.Popen[str] | None" = None

    def __post_init__(self) -> None:
        furnish(self.home)
        store = Store.open(f"sqlite:///{self.home / 'store.db'}")
        roles: tuple[keys.Role, ...] = ("admin", "reader", "node")
        self.keys: dict[str, str] = {role: keys.create(store, role, role) for role in roles}
        store.close()

    @property
    def service(self) -> str:
        """Where `/v1` is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.service}/console"

    def start(self) -> None:
        """Start it, and wait until the console answers."""
        command = [sys.executable, "-m", "tests.support.showroom", str(self.home), str(self.port), "jobs" * self.jobs]
        log = (self.home / "said.log").open("a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(os.environ))
        assert self.process.stdout is not None
        said = (self.home / "said.log").read_text
        assert any(line == "ready\n" for line in self.process.stdout), said()[-3_000:]
        deadline = time.monotonic() + 30
        while httpx.get(f"{self.url}/login").status_code != 200:
            assert time.monotonic() < deadline, said()[-3_000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """End it with all that it started."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        for left in psutil.wait_procs(family, timeout=20)[1]:
            left.kill()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Window:
    """One browser window, with what it has complained about."""

    page: Page
    complaints: list[str]

    def shift(self) -> float:
        """Return how far what was shown has jumped by itself (cumulative layout shift); .1 is what people bear."""
        return float(self.page.evaluate("window.shift"))

    def log_in(self, url: str, key: str) -> None:
        """Log in on the login page."""
        self.page.goto(f"{url}/login")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("button", name="Log out").wait_for()

    def settle(self) -> None:
        """Wait until the page has all that it asks for."""
        self.page.wait_for_function("() => !document.querySelector('[aria-busy=true], .htmx-request')")
        self.page.wait_for_timeout(400)

    def serious(self) -> list[str]:
        """Return what axe-core finds that is serious or critical, in words."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        worst = [one for one in found if one["impact"] in ("serious", "critical")]
        return [f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']]}" for one in worst]


@contextmanager
def window(browser: Browser, size: str = "wide", theme: Any = "light", locale: str = "en-GB") -> Iterator[Window]:
    """Yield a new window, without cookies."""
    width, height = WIDTHS[size]
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, locale=locale, reduced_motion="reduce"
    )
    context.add_init_script(_SHIFTS)
    page, complaints = context.new_page(), list[str]()

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield Window(page, complaints)
    context.close()
