"""The page Learning in a real browser: it fills by itself, and a training is started, followed and stopped on it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browsers import PICTURES, WIDTHS, Showroom, Window, window
from tests.support.packages import needs_package

pytestmark = [pytest.mark.slow, needs_package("chromium")]
_VIEWS = {
    "reward": "/learning",
    "items": "/learning/items",
    "states": "/learning/states",
    "training": "/learning/training",
}
_JOB_MS = 240_000
_COFFEE = Path("rl/experiments/coffee.toml")


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showroom]:
    """A service whose Ray takes jobs, with decisions that have earned something, and two experiments of its own."""
    room = Showroom(Path(tmp_path_factory.mktemp("learning")), jobs=True)
    folder = room.home / "experiments"
    folder.mkdir()
    for name, steps in (("short", 2_000), ("endless", 500_000_000)):
        described = _COFFEE.read_text().replace('"coffee"', f'"{name}"').replace("10_000\nenvs", f"{steps}\nenvs")
        (folder / f"{name}.toml").write_text(described)
    room.start()
    decide(room, 40)
    yield room
    room.stop()


def decide(room: Showroom, count: int) -> None:
    """Let visitors be answered by both policies; some buy."""
    with httpx.Client(base_url=room.service, headers={"x-api-key": room.keys["node"]}, timeout=30) as client:
        for number in range(count):
            asked = {"user_id": f"u{number}", "k": 4, "policy": ("linear_thompson", "rfm_bandit")[number % 2]}
            answer = client.post("/v1/recommend", json=asked).raise_for_status().json()
            report = {"decision_id": answer["decision_id"], "kind": "click", "item_id": answer["items"][0]["item_id"]}
            client.post("/v1/feedback", json=report).raise_for_status()


def decisions(page: Page) -> int:
    shown = page.locator(".figures dd data").first.get_attribute("value")
    return int(float(shown or 0))


def test_the_curves_fill_by_themselves_and_the_board_sorts(learning: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        shown.log_in(learning.url, learning.keys["reader"])
        page = shown.page
        page.goto(f"{learning.url}/learning")
        expect(page.locator("#reward .chart canvas").first).to_be_visible()
        before = decisions(page)
        assert before >= 40
        decide(learning, 6)
        expect(page.locator(".figures dd data").first).to_have_attribute("value", str(before + 6), timeout=20_000)
        page.get_by_role("link", name="Items", exact=True).click()
        page.get_by_role("link", name="Item", exact=True).click()
        expect(page.locator("th[aria-sort=ascending]")).to_have_text(re.compile("Item"))
        names = page.locator(".board tbody th").all_inner_texts()
        assert names == sorted(names)
        page.get_by_role("searchbox", name="Item").fill(names[3])
        page.get_by_role("button", name="Find").click()
        expect(page.locator(".board tbody th")).to_have_text([names[3]])
        page.get_by_role("link", name="States").click()
        page.get_by_label("Segment").select_option("Q3")
        expect(page.locator("#table h2")).to_have_text(re.compile("^Q3, "))
        page.get_by_role("link", name="Training").click()
        expect(page.get_by_text("needs a key of role admin")).to_be_visible()
        assert shown.complaints == []


def start(shown: Window, learning: Showroom, experiment: str) -> Locator:
    """Start an experiment on the page of trainings; returns the rows of its jobs."""
    shown.page.goto(f"{learning.url}/learning/training")
    shown.page.get_by_label("Experiment").select_option(experiment)
    shown.page.get_by_role("button", name="Start").click()
    return shown.page.locator("#training tr").filter(has_text=experiment)


def test_a_training_is_started_outlives_a_reload_and_ends(learning: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        shown.log_in(learning.url, learning.keys["admin"])
        page, job = shown.page, start(shown, learning, "own/short")
        expect(job.locator(".tag")).to_have_text(re.compile("waits|runs"))
        page.reload()
        expect(job.locator(".tag")).to_have_text(re.compile("waits|runs|done"))
        expect(job.locator(".tag")).to_have_text(re.compile("done|failed|stopped"), timeout=_JOB_MS)
        job.get_by_role("button", name="What it says").click()
        expect(page.locator("#lines pre")).to_be_visible(timeout=15_000)
        assert job.locator(".tag").inner_text() == "done", (job.inner_text(), page.locator("#lines").inner_text())
        run = page.get_by_role("region", name="Runs").locator("tr").filter(has_text="short")
        expect(run.locator(".tag")).to_have_text("done", timeout=30_000)
        expect(page.locator("#training .chart canvas").first).to_be_visible()
        assert (learning.home / "policies" / "short" / "policy.json").exists()
        assert shown.complaints == []


def test_a_training_is_stopped(learning: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        shown.log_in(learning.url, learning.keys["admin"])
        page, job = shown.page, start(shown, learning, "own/endless")
        expect(job.locator(".tag")).to_have_text("runs", timeout=_JOB_MS)
        start(shown, learning, "own/endless")
        expect(page.get_by_text("runs already")).to_be_visible()
        page.goto(f"{learning.url}/learning/training")
        job.get_by_role("button", name="Stop").click()
        expect(job.locator(".tag")).to_have_text("stopped", timeout=_JOB_MS)
        expect(job.get_by_role("button", name="Stop")).to_have_count(0)


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_views_can_be_used_by_everybody(learning: Showroom, browser: Browser, theme: str, size: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with window(browser, size, theme) as shown:
        shown.log_in(learning.url, learning.keys["admin"])
        page, found = shown.page, dict[str, object]()
        for name, path in _VIEWS.items():
            page.goto(learning.url + path)
            page.wait_for_timeout(2_500)  # asked again by then
            page.screenshot(path=PICTURES / f"learning-{name}-{theme}-{size}.png", full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            faults = {"serious": shown.serious(), "jump": shown.shift() > 0.1, "scrolls sideways": wide}
            found |= {f"{name}: {fault}": what for fault, what in faults.items() if what}
        assert found == {}
        assert shown.complaints == []
