"""The console's story in a real browser: log in, be a customer, click and buy, see it learn, log out."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import USER, Showroom, Window, window
from tests.support.packages import needs_package

pytestmark = [pytest.mark.slow, needs_package("chromium")]


def enter(shown: Window, showroom: Showroom) -> Page:
    """Log in and become the customer whose id is searched for."""
    shown.log_in(showroom.url, showroom.keys["admin"])
    page = shown.page
    page.goto(f"{showroom.url}/shop")
    page.get_by_label("Search by id").fill(USER[1:])
    page.get_by_role("link", name=re.compile(USER)).click()
    expect(page.locator(".card:not(.waiting)")).to_have_count(8)
    page.get_by_label("Answered by").select_option("linear_thompson")
    act(page, "role=button[name='Visit']")
    expect(page.locator(".card:not(.waiting)")).to_have_count(8)
    return page


def act(page: Page, button: str, within_s: float = 5.0) -> None:
    """Press a button of a card, and wait for the list that it leads to."""
    before = page.locator("#slate .facts a").get_attribute("href")
    page.locator(button).click()
    expect(page.locator("#slate .facts a")).not_to_have_attribute("href", before or "", timeout=within_s * 1_000)


def expected(page: Page, name: str) -> float:
    """Return the reward that a card says it expects of its item."""
    return float(page.locator(".card").filter(has_text=name).locator(".belief b").first.inner_text())


def test_a_wrong_key_is_refused_and_the_right_one_lets_in(showroom: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        page = shown.page
        page.goto(f"{showroom.url}/shop")
        expect(page).to_have_url(re.compile(r"/console/login\?next="))
        page.get_by_label("API key").fill("rk_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert").filter(has_text="no key of this service")).to_be_visible()
        page.get_by_label("API key").fill(showroom.keys["reader"])
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(re.compile("/console/shop$"))  # where it was going
        assert page.evaluate("document.cookie") == ""  # scripts do not see the session
        assert [one for one in shown.complaints if "401" not in one] == []


def test_ten_acts_move_the_list_and_the_curves(showroom: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        page = enter(shown, showroom)
        names = page.locator(".card h3")
        first = names.all_inner_texts()
        assert len(set(first)) == 8
        assert not [name for name in first if name.isdigit()]  # they are called something
        wanted, acts, bought = first[0], 0, 0
        expected_before = expected(page, wanted)
        while acts < 10 or bought < 8:  # at first it may not be shown for a while
            shelf = names.all_inner_texts()
            place = shelf.index(wanted) + 1 if wanted in shelf else None
            act(page, f"#buy-{place}" if place else "#click-8")
            acts, bought = acts + 1, bought + (place is not None)
            assert acts < 40, "what is bought is hardly ever shown"
        expect(page.locator(".news .tag")).to_have_text("learned")
        assert wanted in names.all_inner_texts()[:3]
        card = page.locator(".card").filter(has_text=wanted)
        assert card.locator("polygon.now").get_attribute("points") != card.locator("polygon.before").get_attribute(
            "points"
        )
        worth = page.locator(".trail polyline").get_attribute("points")
        assert worth is not None
        heights = [point.split(",")[1] for point in worth.split()]
        assert len(heights) == acts + 1
        assert len(set(heights)) > 1
        assert expected(page, wanted) > expected_before  # of the whole list it may be less: the rest was passed by
        card.locator("summary").click()
        expect(card.locator(".reasons table")).to_be_visible()
        page.locator("#slate .facts a").click()
        expect(page.get_by_text("the same, bit by bit")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        page.goto(f"{showroom.url}/shop")
        expect(page).to_have_url(re.compile("/login"))
        assert shown.complaints == []


def test_by_keyboard_alone(showroom: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        page = enter(shown, showroom)
        page.keyboard.press("Escape")
        page.locator("body").press("Tab")
        page.goto(page.url)
        expect(page.locator(".card:not(.waiting)")).to_have_count(8)
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "buy-2":
                break
        before = page.locator("#slate .facts a").get_attribute("href")
        page.keyboard.press("Enter")
        expect(page.locator("#slate .facts a")).not_to_have_attribute("href", before or "")
        expect(page.locator("#buy-2")).to_be_focused()  # one goes on from where one was


def test_times_and_numbers_are_the_readers(showroom: Showroom, browser: Browser) -> None:
    with window(browser, locale="de-DE") as shown:
        page = enter(shown, showroom)
        expect(page.locator(".price").first).to_have_text(re.compile(r"^\d+,\d\d\s£$"))
        assert shown.complaints == []


def test_what_was_chosen_as_theme_stays(showroom: Showroom, browser: Browser) -> None:
    with window(browser, theme="dark") as shown:
        shown.log_in(showroom.url, showroom.keys["reader"])
        assert shown.page.evaluate("document.documentElement.dataset.theme") == "dark"
        shown.page.get_by_role("button", name="Switch between light and dark").click()
        shown.page.goto(f"{showroom.url}/decision")
        assert shown.page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_service_goes_in_the_middle_and_comes_back(showroom: Showroom, browser: Browser) -> None:
    with window(browser) as shown:
        page = enter(shown, showroom)
        showroom.stop()
        try:
            page.locator("#buy-1").click()
            expect(page.locator("#notice")).to_contain_text(re.compile("cannot be reached|try again"))
            expect(page.locator(".card")).to_have_count(8)  # what was there stays
            expect(page.locator(".live")).to_contain_text("no", timeout=20_000)
        finally:
            showroom.start()
        expect(page.locator(".live .dot.on")).to_be_visible(timeout=30_000)
        act(page, "#buy-1", within_s=30)  # without logging in again
        expect(page.locator("#notice")).to_be_empty()
