"""Experiments and data in chromium: promote, roll back, change shares, try a bad file; axe finds nothing serious."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from data.log.store import Store
from data.settings import Settings
from rl.registry import resolve_alias
from serve.abtests.changes import find_test
from tests.support.browsers import PICTURES, WIDTHS, window
from tests.support.experiments import console_of, fill, serving
from tests.support.packages import needs_package

pytestmark = [pytest.mark.slow, needs_package("chromium")]
_JUMP = 0.1
_BAD = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n" + "".join(
    f"{number},{code},tea,{pieces},12/1/2010 8:26,2.5,{customer},France\n"
    for number, (code, pieces, customer) in enumerate(
        [("22423", 1, "17850"), ("POST", 1, "17850"), ("22423", -3, "17850"), ("22423", 2, ""), ("22423", 2, "17851")]
    )
)
PAGES = {
    "experiments": "/experiments",
    "abtest": "/experiments/tests/greener",
    "shares": "/experiments/tests/greener/shares?share.old=50&share.new=50",
    "force": "/experiments/promote?version=3&force=true",
    "start": "/experiments/start",
    "data": "/data",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("RAYCOMMEND_HOME", str(home))
        fill(home)
        yield home


@pytest.fixture(scope="module")
def store(home: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{home / 'store.db'}")) as store:
        yield store


@pytest.fixture(scope="module")
def url(home: Path, store: Store) -> Iterator[str]:
    with serving(console_of(home, store)) as url:
        yield url


def champion(home: Path) -> int:
    found = resolve_alias(Settings(home=home, store=None, archive=None))
    assert found is not None
    return found.version


def open_registry(page: Page, url: str) -> None:
    page.goto(f"{url}/experiments")
    expect(page.locator(".champion .large")).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_can_be_used_by_everybody(url: str, browser: Browser, theme: str, size: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with window(browser, size, theme) as shown:
        page, found = shown.page, dict[str, object]()
        open_registry(page, url)
        report = page.get_by_role("link", name="The report").first.get_attribute("href")
        for name, path in (PAGES | {"report": str(report)}).items():
            page.goto(url + path)
            shown.settle()
            page.screenshot(path=PICTURES / f"{name}-{theme}-{size}.png", full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            faults = {"serious": shown.serious(), "jump": shown.shift() > _JUMP, "scrolls sideways": wide}
            found |= {f"{name}: {fault}": what for fault, what in faults.items() if what}
        assert found == {}
        assert shown.complaints == []


def test_a_challenger_goes_through_the_gate_and_is_taken_back_by_keyboard_alone(
    url: str, browser: Browser, home: Path
) -> None:
    assert champion(home) == 1
    with window(browser) as shown:
        page = shown.page
        open_registry(page, url)
        page.get_by_role("link", name="Promote through the gate").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^Promote version 2 \(learner, \w+\)\?$"))
        expect(page.get_by_text("Nothing has changed yet.")).to_be_visible()
        assert champion(home) == 1
        page.get_by_role("button", name="Ask the gate, and promote").focus()
        page.keyboard.press("Enter")
        gate = page.locator("#gate")
        expect(gate).to_contain_text("The gate tries version 2 on champion 1")
        page.reload()  # it is still shown
        expect(gate).to_contain_text("version 2")
        expect(gate).to_contain_text("Version 2 was promoted", timeout=120_000)
        expect(page.locator(".champion .large")).to_have_text("Version 2 learner")  # without a reload
        assert champion(home) == 2
        page.get_by_role("link", name="Roll back to version 1").click()
        row = page.get_by_role("row", name=re.compile("^Champion"))
        expect(row).to_have_text(re.compile(r"version 2 \(learner.*version 1 \(chance", re.DOTALL))
        page.get_by_role("link", name="Leave it as it is").click()
        assert champion(home) == 2
        page.get_by_role("link", name="Roll back to version 1").click()
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator(".champion .large")).to_have_text("Version 1 chance", timeout=20_000)
        assert champion(home) == 1
        assert shown.complaints == []


def test_who_is_not_better_is_promoted_by_force_only_and_with_a_reason(url: str, browser: Browser, home: Path) -> None:
    with window(browser) as shown:
        page = shown.page
        open_registry(page, url)
        page.get_by_role("link", name="by force…").last.click()
        page.get_by_role("button", name="Promote by force").click()
        assert page.url.endswith("force=true")  # the reason lacks: the browser asks for it
        page.get_by_label("Reason").fill("the <shop> asked for it")
        page.get_by_role("button", name="Promote by force").click()
        expect(page.locator("#gate")).to_contain_text("Version 3 was promoted by force", timeout=120_000)
        expect(page.locator(".champion")).to_contain_text("the <shop> asked for it")
        assert champion(home) == 3
        page.get_by_role("link", name="Roll back to version 1").click()
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator(".champion .large")).to_have_text("Version 1 chance", timeout=20_000)


def test_shares_change_after_a_question(url: str, browser: Browser, store: Store) -> None:
    with window(browser) as shown:
        page = shown.page
        page.goto(f"{url}/experiments/tests/greener")
        page.get_by_label("Share of old in percent").fill("60")
        page.get_by_label("Share of new in percent").fill("40")
        page.get_by_label("Why (for the history)").fill("it does better")
        page.get_by_role("button", name="See what other shares change").click()
        expect(page.get_by_text("20 % of all users move from old to new.")).to_be_visible()
        assert find_test(store, "greener").shares == {"old": 0.8, "new": 0.2}
        page.get_by_role("button", name="Change the shares").click()
        expect(page.get_by_text("changed the shares by anyone: it does better")).to_be_visible()
        assert find_test(store, "greener").shares == {"old": 0.6, "new": 0.4}
        assert shown.complaints == []


def test_a_bad_file_is_tried_and_nothing_is_stored(url: str, browser: Browser, home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(_BAD)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "long.csv").write_text(_BAD + "9,22423,tea,1,12/1/2010 8:26,2.5,17850,France\n" * 40_000)
    with window(browser) as shown:
        page = shown.page
        page.goto(f"{url}/data")
        page.get_by_label("Node", exact=True).select_option("online_retail_csv")
        tried = page.locator("#tried")
        for name, says in (
            ("bad.csv", "3 of 5 rows would not become events; 2 would."),
            ("wrong.csv", "wrong.csv lacks columns 'InvoiceNo', 'StockCode'"),
            ("long.csv", "Of this file its beginning was tried."),
            ("bad.csv", "3 of 5 rows would not become events; 2 would."),
        ):
            page.get_by_label(re.compile("^File")).set_input_files(tmp_path / name)
            page.get_by_role("button", name="Try it").click()
            expect(tried).to_contain_text(says, timeout=20_000)
        rows = tried.get_by_role("region", name="Rows that would be rejected").get_by_role("row")
        expect(rows).to_have_count(4)
        for row, says in ((1, "2 goods code"), (2, "3 quantity > 0"), (3, "4 customer present")):
            expect(rows.nth(row)).to_contain_text(re.compile(says.replace(" ", r"\s*", 1)))
        expect(tried).to_contain_text("python -m data.ingest --node online_retail_csv bad.csv")
        page.screenshot(path=PICTURES / "tried.png", full_page=True)
        assert shown.serious() == []
        assert [*(home / "archive").rglob("*.parquet")] == []
        assert [one for one in shown.complaints if "409" not in one] == []


def test_a_look_for_drift_is_followed_to_its_end(url: str, browser: Browser) -> None:
    with window(browser) as shown:
        page = shown.page
        page.goto(f"{url}/data")
        page.get_by_role("button", name=re.compile("^Look at the newest")).click()
        drift = page.locator("#drift")
        expect(drift).to_contain_text(re.compile("nothing has changed|changed:"), timeout=120_000)
        expect(drift.get_by_role("row")).not_to_have_count(0)
