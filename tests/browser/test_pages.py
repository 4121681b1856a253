"""Every page, in both themes and two widths: nothing serious for axe-core, no complaint, no jump; a picture is kept."""

import pytest
from playwright.sync_api import Browser

from tests.support.browsers import PAGES, PICTURES, WIDTHS, Showroom, window
from tests.support.packages import needs_package

pytestmark = [pytest.mark.slow, needs_package("chromium")]
_JUMP = 0.1


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_can_be_used_by_everybody(showroom: Showroom, browser: Browser, theme: str, size: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with window(browser, size, theme) as shown:
        page, found = shown.page, dict[str, object]()
        for name, path in PAGES.items():
            if name != "login" and name == list(PAGES)[1]:
                shown.log_in(showroom.url, showroom.keys["admin"])
            page.goto(showroom.url + path)
            shown.settle()
            if name == "customer":  # with something to see: what a purchase has moved
                page.locator("#buy-1").click()
                page.locator(".card.acted, .news .tag").first.wait_for()
                shown.settle()
            page.screenshot(path=PICTURES / f"{name}-{theme}-{size}.png", full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            faults = {"serious": shown.serious(), "jump": shown.shift() > _JUMP, "scrolls sideways": wide}
            found |= {f"{name}: {fault}": what for fault, what in faults.items() if what}
        page.goto(f"{showroom.url}/decision")
        page.locator("td a").first.click()
        shown.settle()
        page.screenshot(path=PICTURES / f"decision-{theme}-{size}.png", full_page=True)
        found |= {"decision": serious} if (serious := shown.serious()) else {}
        page.goto(f"{showroom.url}/nowhere")
        page.screenshot(path=PICTURES / f"problem-{theme}-{size}.png", full_page=True)
        found |= {"problem": serious} if (serious := shown.serious()) else {}
        assert found == {}
        assert [one for one in shown.complaints if "404" not in one] == []
