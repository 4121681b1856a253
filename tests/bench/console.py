"""What the console costs and how soon it answers: `python -m tests.bench.console [--turns N] [--seconds S]`.

50 requests a second at a constant rate ask `/v1/recommend` of two replicas. In every other turn somebody uses the
console beside them: opens each page, and clicks and buys in the shop. `page_p95_s` is the 95th percentile, of the worst
page, of the time until its HTML is there; `click_p95_s` of a click until the list that has learned it is there (one
that has not yet counts with the next ones that it asks for). `recommend_p99_ratio` is the 99th percentile of
the requests' times in a turn with somebody at the console over that in a turn without, the median of each.
`axe_serious` counts what axe-core calls serious or critical on all pages, in Debian's chromium, in both themes.
"""

import argparse
import asyncio
import html
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from tests.bench.common import finish, plot, say
from tests.bench.service.processes import running
from tests.bench.service.steady import quantile_ms, steady
from tests.support.browsers import PAGES, USER, chromium, window
from tests.support.showroom import furnish

RATE = 50.0
PAUSE_S = 0.5  # of a person who looks
_FIELDS = re.compile(r'name="([a-z]+)" value="([^"]*)"')
_ASKS_AGAIN = re.compile(r'/shop/slate" hx-trigger="load delay:(\d+)ms".*?hx-vals=\'([^\']*)\'', re.DOTALL)


class Person:
    """Somebody at the console, as far as HTTP goes."""

    def __init__(self, url: str) -> None:
        self.pages: dict[str, list[float]] = defaultdict(list)
        self.clicks = list[float]()
        self.late = 0
        """Lists that had not learned the click when they came."""
        self._url, self._client = f"{url}/console", httpx.AsyncClient(timeout=30)

    async def use(self, until: float) -> None:
        """Look at each page, click after each, until a time of `time.perf_counter`."""
        token = await self._token()
        slate = await self._post("/shop/slate", {"user": USER, "policy": "linear_thompson"}, token)
        number = 0
        while time.perf_counter() < until:
            for name, path in PAGES.items():
                began = time.perf_counter()
                (await self._client.get(self._url + path)).raise_for_status()
                self.pages[name].append(time.perf_counter() - began)
                slate = await self._click(slate, ("click", "purchase")[number % 2], token)
                number += 1
                await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _token(self) -> str:
        page = (await self._client.get(f"{self._url}/decision")).text
        found = re.search(r'X-Token": "([0-9a-f]+)"', page)
        assert found, page[:500]
        return found[1]

    async def _click(self, slate: str, kind: str, token: str) -> str:
        found = re.findall(r"hx-vals='([^']*)' aria-label=\"Buy", slate)
        act = json.loads(html.unescape(found[len(self.clicks) % len(found)])) | {"kind": kind}
        began = time.perf_counter()
        answer = await self._post("/shop/act", {**_kept(slate), **act}, token)
        while again := _ASKS_AGAIN.search(answer):
            self.late += 1
            await asyncio.sleep(int(again[1]) / 1e3)
            answer = await self._post("/shop/slate", {**_kept(answer), **json.loads(html.unescape(again[2]))}, token)
        self.clicks.append(time.perf_counter() - began)
        return answer

    async def _post(self, path: str, fields: Mapping[str, Any], token: str) -> str:
        answer = await self._client.post(self._url + path, data=dict(fields), headers={"x-token": token})
        answer.raise_for_status()
        return answer.text


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="with somebody at the console, and as many without")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        furnish(Path(folder))
        command = [sys.executable, "-m", "tests.support.showroom", folder, "{port}"]
        with running(command, "/console/login") as service:
            used, still, person = asyncio.run(_turns(service.url, options.turns, options.seconds))
            serious = _serious(f"{service.url}/console")
    pages = {name: float(np.quantile(seconds, 0.95)) for name, seconds in person.pages.items()}
    say(f"{len(person.clicks)} clicks, {person.late} lists came before their click was learned; pages: {pages}")
    figures = {
        "page_p95_s": round(max(pages.values()), 4),
        "click_p95_s": round(float(np.quantile(person.clicks, 0.95)), 4),
        "axe_serious": len(serious),
        "recommend_p99_ratio": round(median(used) / median(still), 3),
    }
    peers = {"recommend_p99_ms_still": round(median(still), 1), "recommend_p99_ms_used": round(median(used), 1)}
    for fault in serious:
        say(fault)
    shares = [float(share) for share in np.linspace(0, 1, 101)]
    times = {"a click": person.clicks, **person.pages}
    curves = {name: (np.quantile(seconds, shares).tolist(), shares) for name, seconds in times.items()}
    plot("console", curves, "seconds", "share that is there")
    finish("console", figures, peers, seeds=1)


async def _turns(url: str, turns: int, seconds: float) -> tuple[list[float], list[float], Person]:
    """Return the p99 in ms of turns with somebody at the console, and without, and who it was."""

    def request(number: int) -> tuple[str, Any]:
        return "/v1/recommend", {"user_id": str(12_000 + number % 200), "k": 8, "policy": "linear_thompson"}

    numbers, person = range(int(seconds * RATE)), Person(url)
    await steady(url, request, range(int(3 * RATE)), RATE)
    await person.use(time.perf_counter())
    used, still = list[float](), list[float]()
    for _ in range(turns):
        answers = await steady(url, request, numbers, RATE)
        still.append(quantile_ms(answers, 0.99))
        until = time.perf_counter() + seconds
        answers, _ = await asyncio.gather(steady(url, request, numbers, RATE), person.use(until))
        used.append(quantile_ms(answers, 0.99))
        failed = [answer for answer in answers if answer.status != 200]
        assert not failed, failed[:3]
        say(f"p99 {still[-1]:.0f} ms without, {used[-1]:.0f} ms with somebody at the console")
    await person.close()
    return used, still, person


def _kept(slate: str) -> dict[str, str]:
    form = slate.partition('<form id="visit"')[2].partition("</form>")[0]
    return {name: html.unescape(value) for name, value in _FIELDS.findall(form)}


def _serious(url: str) -> list[str]:
    found = list[str]()
    with chromium() as browser:
        for theme in ("light", "dark"):
            with window(browser, theme=theme) as shown:
                for name, path in PAGES.items():
                    shown.page.goto(url + path)
                    shown.settle()
                    found += [f"{name}, {theme}: {fault}" for fault in shown.serious()]
    return found


if __name__ == "__main__":
    main()
