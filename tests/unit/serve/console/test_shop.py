"""The shop, over a service that learns in the same process: what is shown is logged, what is done is learned."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Response

from data.log.current import keys
from data.log.current.items import Item, upsert
from data.log.store import Store
from serve.console.pages import shop
from tests.support.consoles import Browser, LearningDesk, browsing
from tests.support.shops import small_market

pytestmark = pytest.mark.heavy
USER = "12001"


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> LearningDesk:
    goods = [Item(item_id=item, features={"name": f"Thing {item}", "kind": "kitchen", "price": 2.5}) for item in ITEMS]
    upsert(store, goods)
    desk = LearningDesk(store, tmp_path / "home")
    desk.service.items.refresh()
    return desk


ITEMS = small_market()[0].items


@pytest.fixture
def browser(store: Store, desk: LearningDesk) -> Iterator[Browser]:
    with browsing(store, desk=desk) as browser:
        yield browser


def kept(answer: Response) -> dict[str, str]:
    """Return the fields that the next request of a page takes along."""
    form = answer.text.partition('<form id="visit"')[2].partition("</form>")[0]
    return {name: html.unescape(value) for name, value in re.findall(r'name="([a-z]+)" value="([^"]*)"', form)}


def cards(answer: Response) -> list[tuple[str, str]]:
    """Return decision and item of each card's button for buying."""
    found = re.findall(r"hx-vals='([^']*)' aria-label=\"Buy", answer.text)
    return [(one["decision"], one["item"]) for one in map(json.loads, map(html.unescape, found))]


def act(browser: Browser, answer: Response, kind: str, place: int = 0) -> Response:
    decision, item = cards(answer)[place]
    return browser.post("/shop/act", {**kept(answer), "decision": decision, "item": item, "kind": kind})


def test_a_slate_is_a_logged_decision_of_the_console(browser: Browser, store: Store) -> None:
    answer = browser.post("/shop/slate", {"user": USER, "day": "2011-12-01"})
    assert answer.status_code == 200
    [(_, decision)] = store.decisions()
    assert (decision.user_id, decision.node_id, decision.context["time"]) == (
        USER,
        "console",
        "2011-12-01T12:00:00+00:00",
    )
    assert cards(answer) == [(decision.decision_id, item) for item in decision.slate]
    assert len(decision.slate) == 8
    for item, propensity in zip(decision.slate, decision.propensities, strict=True):
        assert f"Thing {item}" in answer.text
        assert f'<data value="{propensity}" data-form="percent"' in answer.text
    assert '<data value="2.5" data-form="money" data-currency="GBP">' in answer.text


def test_what_is_bought_is_learned_before_the_next_list_and_shown_as_moved(browser: Browser, store: Store) -> None:
    first = browser.post("/shop/slate", {"user": USER})
    _, item = cards(first)[0]
    second = act(browser, first, "purchase")
    assert "learned</span>" in second.text
    [report] = [report for reports in store.feedback_of([cards(first)[0][0]]).values() for report in reports]
    assert (report.kind, report.item_id) == ("purchase", item)
    before, now = (json.loads(kept(answer)["before"])[item] for answer in (first, second))
    assert now[0] > before[0] + 0.01  # the mean goes up,
    assert now[1] < before[1]  # and is surer
    assert f'expected <data value="{before[0]}"' in second.text
    assert 'class="before bell"' in second.text
    assert 'class="before bell"' not in first.text
    assert len(json.loads(kept(second)["trail"])) == 2
    assert 'class="trail"' in second.text


def test_ten_acts_move_the_list_towards_what_was_bought(browser: Browser) -> None:
    answer = browser.post("/shop/slate", {"user": USER})
    wanted = cards(answer)[0][1]
    for _ in range(10):
        place = next((place for place, (_, item) in enumerate(cards(answer)) if item == wanted), None)
        answer = act(browser, answer, "purchase", place) if place is not None else act(browser, answer, "click", 7)
    assert wanted in [item for _, item in cards(answer)][:3]
    worth = json.loads(kept(answer)["trail"])
    assert len(worth) == 11
    assert worth[-1] > worth[0] + 1


def test_a_learner_that_does_not_come_is_said_and_loses_nothing(
    browser: Browser, desk: LearningDesk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "_FRESH_S", 0.05)
    desk.learns = False
    answer = act(browser, browser.post("/shop/slate", {"user": USER}), "click")
    assert "in the log</span>" in answer.text
    again = re.search(r"hx-vals='([^']*\"?tries[^']*)'", answer.text)
    assert again is not None
    fields = json.loads(html.unescape(again[1]))
    assert fields == {"after": 1, "tries": 1}
    desk.learn()
    assert "load delay:800ms" not in browser.post("/shop/slate", {**kept(answer), **fields}).text
    last = browser.post("/shop/slate", {**kept(answer), "after": 99, "tries": 5})
    assert "load delay:800ms" not in last.text  # it does not ask for ever
    assert (
        sum(map(len, store.feedback_of([cards(answer)[0][0], *(d.decision_id for _, d in store.decisions())]).values()))
        == 1
    )


def test_what_was_on_the_screen_is_reported_as_seen_to_its_last_item(browser: Browser, store: Store) -> None:
    answer = browser.post("/shop/slate", {"user": USER})
    decision, last = cards(answer)[-1]
    asked = re.search(r"/shop/seen\".*?hx-vals='([^']*)'", answer.text)
    assert asked is not None
    fields = json.loads(html.unescape(asked[1]))
    assert fields == {"decision": decision, "item": last}
    assert browser.post("/shop/seen", fields).status_code == 204
    assert [report.kind for report in store.feedback_of([decision])[decision]] == ["view"]


def test_customers_are_found_by_a_part_of_their_id_and_by_segment(browser: Browser) -> None:
    def found(query: str) -> list[str]:
        return re.findall(r"\?user=([^&\"]*)", browser.get(f"/shop/customers?{query}").text)

    assert found("") == list(small_market()[1].users)
    assert found("contains=01") == [user for user in small_market()[1].users if "01" in user]
    by_segment = {segment: found(f"segment={segment}") for segment in ("Q1", "Q2", "Q3", "Q4")}
    assert sorted(user for users in by_segment.values() for user in users) == sorted(small_market()[1].users)
    assert min(map(len, by_segment.values())) > 0
    assert "Nobody has such an id" in browser.get("/shop/customers?contains=nobody").text
    assert browser.get("/shop/customers?segment=Q9").status_code == 422


def test_a_newcomer_is_found_again(browser: Browser) -> None:
    newcomer = re.search(r"\?user=(visitor-[0-9a-f]{8})", browser.get("/shop").text)
    assert newcomer is not None
    assert "new here" in browser.post("/shop/slate", {"user": newcomer[1]}).text
    assert newcomer[1] in browser.get("/shop/customers?contains=visitor").text


@pytest.mark.parametrize(("role", "status"), [("admin", 200), ("node", 200), ("reader", 403)])
def test_only_who_may_decide_over_v1_may_decide_here(
    browser: Browser, store: Store, role: keys.Role, status: int
) -> None:
    token = keys.create(store, role, role)
    browser.keys.refresh()
    browser.log_in(token)
    shop = browser.get(f"/shop?user={USER}")
    assert shop.status_code == 200
    assert ("This key only reads" in shop.text) == (role == "reader")
    answer = browser.post("/shop/slate", {"user": USER}, **{"x-token": page_token(shop)})
    assert answer.status_code == status
    assert len(store.decisions()) == (status == 200)


def page_token(answer: Response) -> str:
    found = re.search(r"X-Token\": \"([0-9a-f]+)\"", answer.text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"user": ""},
        {"user": USER, "day": "yesterday"},
        {"user": USER, "before": "{"},
        {"user": USER, "before": '{"a": ["x", 1]}'},
        {"user": USER, "trail": "[NaN]"},
        {"user": USER, "policy": "unknown"},
        {"user": USER, "unknown": "1"},
    ],
    ids=str,
)
def test_a_form_that_is_wrong_is_refused_and_nothing_is_logged(
    browser: Browser, store: Store, fields: dict[str, str]
) -> None:
    answer = browser.post("/shop/slate", fields)
    assert answer.status_code == 422
    assert 'id="problem"' in answer.text
    assert not store.decisions()


def test_a_decision_is_shown_made_again_explained_and_with_what_it_earned(browser: Browser) -> None:
    answer = browser.post("/shop/slate", {"user": USER})
    decision, item = cards(answer)[0]
    act(browser, answer, "purchase")
    page = browser.get(f"/decision/{decision}")
    assert page.status_code == 200
    assert f"Thing {item}" in page.text
    assert "purchase" in page.text
    explained = browser.get(f"/decision/{decision}/explanation")
    assert "the same, bit by bit" in explained.text
    assert "made again from the log" in explained.text  # what has decided has learned since
    newest = browser.get("/decision")
    assert f"/decision/{decision}" in newest.text
    assert browser.get(f"/decision?id={decision}").headers["location"] == f"/decision/{decision}"
