"""The page Learning over a service in the same process: what it shows, and who may do what."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from data.features.rfm import N_STATES, state_codes
from data.log.current import keys
from data.log.errors import StoreUnavailable
from data.log.store import Store
from rl.evaluation.board.items import read_board
from rl.evaluation.board.tally import Arm, Shown, Tally
from rl.policy.queries import Impressions
from serve.console.learning.drawing import HEIGHT, WIDTH, find_axis, sparkline
from serve.console.learning.listing import PAGE, Listing, SortKey, find_items, list_rows
from serve.console.learning.states import DAYS, MONTHS, Moment, moment_of, number_of
from serve.console.learning.tallying import PlaceTally
from serve.contracts.errors import Refused
from serve.explanations.boards import ItemEstimate, read_state
from tests.support.clocks import Clock
from tests.support.consoles import Browser, browsing
from tests.support.logs import Written
from tests.support.shops import recommender, small_market, untrained


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def browser(store: Store, tmp_path: Path) -> Iterator[Browser]:
    with browsing(store, home=str(tmp_path)) as browser:
        yield browser


def settled(browser: Browser, path: str) -> str:
    """Return a page when the log is read."""
    for _ in range(100):
        page = browser.get(path)
        assert page.status_code == 200, page.text
        if "Reading the log" not in page.text:
            return page.text
        time.sleep(0.05)
    raise AssertionError(page.text)


def test_an_empty_log_says_what_to_do(browser: Browser) -> None:
    assert "Nothing was decided yet" in settled(browser, "/learning")
    assert "No A/B test has answered anybody yet" in settled(browser, "/learning?by=variant")
    assert "No item was shown yet" in settled(browser, "/learning/items")


def test_reward_items_and_versions_are_shown(browser: Browser, store: Store, clock: Clock) -> None:
    log = Written(store, clock)
    for number in range(240):
        decision = log.decide(policy=("linear_thompson", "rfm_bandit")[number % 2], policy_version="abc.f.1")
        clock.advance(1)
        if number % 2 == 0:
            log.report(decision, "click")
    page = settled(browser, "/learning")
    assert re.search(r'<data value="120"[^>]*>120</data>', page)
    assert "Beside <b>linear_thompson</b>" in page
    assert '<td class="code">abc</td>' in page
    board = settled(browser, "/learning/items?policy=linear_thompson")
    for item in ("20000", "20004"):
        assert f'<th scope="row">{item}</th>' in board
    assert "by <b>linear_thompson</b>" in board
    assert "No item was found" in settled(browser, "/learning/items?search=nothing")


@pytest.mark.parametrize(("error", "status"), [(StoreUnavailable("the log is away"), 503), (ZeroDivisionError(), 500)])
def test_while_the_log_cannot_be_read_the_page_says_so_and_then_goes_on(
    browser: Browser, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    Written(store, clock).decide()

    def fail(tally: PlaceTally) -> bool:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(PlaceTally, "step", fail)
        found = {browser.get("/learning").status_code for _ in range(4)}
    assert status in found
    for _ in range(100):
        answer = browser.get("/learning")
        if answer.status_code == 200 and "Where it stands" in answer.text:
            return
        time.sleep(0.05)
    raise AssertionError(answer.text)


def test_where_nothing_has_changed_nothing_is_sent(browser: Browser, store: Store, clock: Clock) -> None:
    log = Written(store, clock)
    log.decide()
    page = settled(browser, "/learning/items")
    found = re.search(r'hx-get="([^"]*seen=[0-9a-f]{16})"', page)
    assert found is not None
    address = found[1].replace("&amp;", "&")
    assert browser.client.get(address, headers={"hx-request": "true"}).status_code == 204
    log.decide()
    for _ in range(100):
        answer = browser.client.get(address, headers={"hx-request": "true"})
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    assert answer.text.lstrip().startswith('<div id="board"')
    assert "<html" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "by=me",
        "place=v1/none",
        "nothing=1",
        "items?sort=price",
        "items?page=0",
        "states?policy=random",
        "states?state=840",
        "states?segment=Q9",
        "states?month=13",
    ],
)
def test_a_query_that_means_nothing_is_refused_in_words(browser: Browser, query: str) -> None:
    path = "/learning/" + query if "?" in query else "/learning?" + query
    answer = browser.get(path)
    assert answer.status_code in (404, 422)
    assert 'id="problem"' in answer.text


def test_states_are_what_the_bandit_calls_them() -> None:
    for state in (0, 167, 168, 500, N_STATES - 1):
        assert number_of(moment_of(state)) == state
    time_of = datetime(2026, 8, 3)  # a Monday
    moment = Moment("Q1", MONTHS[7][0], 1, DAYS[0][0])
    assert number_of(moment) == state_codes(np.array([1]), [time_of])[0]
    with pytest.raises(Refused, match="segment must be one of"):
        number_of(Moment("Q9", 1, 1, 0))


def test_a_states_table_has_values_means_and_times(browser: Browser) -> None:
    encoder = small_market()[1]
    artefact = untrained(encoder, "rfm_bandit")
    state = number_of(Moment("Q2", 3, 2, 4))
    items = encoder.item_positions(encoder.items[:2])
    shown = np.array([items[0], items[0], items[1]])
    one = np.ones(3)
    artefact.policy.update(
        Impressions(
            features=np.zeros((3, encoder.n_features)),
            state=np.array([state, state, state + 1]),
            items=shown,
            rewards=np.array([2.0, 4.0, 9.0]),
            counts=one,
            squares=np.array([4.0, 16.0, 81.0]),
        )
    )
    table = read_state(recommender({"rfm_bandit": artefact}, {"rfm_bandit": 1.0}), "rfm_bandit", state)
    rows = {row.item: row for row in table.rows}
    first, second, third = (rows[item] for item in encoder.items[:3])
    assert (first.mean, first.count, first.in_segment) == (3.0, 2.0, 2.0)
    assert (second.mean, second.count, second.in_segment) == (None, 0.0, 1.0)
    assert table.total == 2.0
    assert table.name == "Q2, March 16 on, Friday"
    assert table.busiest[0][:2] == (state, table.name)
    mean, weight = 15.0 / 3, 30.0  # of all; the shrinkage
    everyone = (6.0 + weight * mean) / (2 + weight)
    of_segment = (6.0 + weight * everyone) / (2 + weight)
    assert first.value == pytest.approx((6.0 + weight * of_segment) / (2 + weight))
    assert third.value == pytest.approx(mean)
    assert [row.value for row in table.rows] == sorted((row.value for row in table.rows), reverse=True)
    with pytest.raises(Refused, match="keeps no table"):
        read_state(recommender({"random": untrained(encoder, "random")}, {"random": 1.0}), "random", None)


def board_of(count: int) -> Tally:
    tally = Tally()
    rng = np.random.default_rng(0)
    items = np.array([tally.item(f"i{n:03}") for n in range(count)]).repeat(np.arange(1, count + 1))
    n, arm = len(items), tally.arm(Arm("p"))
    rewards = rng.normal(size=n)
    ones = np.ones(n)
    tally.add(Shown(np.zeros(n, int), np.full(n, arm), rewards, np.arange(n), items, rewards, ones, ones * np.nan))
    return tally


@pytest.mark.parametrize("sort", get_args(SortKey))
@pytest.mark.parametrize("order", ["up", "down"])
def test_the_board_is_sorted_by_each_column_and_paged(sort: SortKey, order: str) -> None:
    board = read_board(board_of(60), [0])
    estimates = {item: ItemEstimate(float(int(item[1:]) * 7 % 60), 1.0) for item in board.items}
    found, seen = find_items(board, ""), list[tuple[str, float, float, float | None]]()
    for page in range(1, 4):
        wanted = Listing.model_validate({"sort": sort, "order": order, "page": page})
        rows = list_rows(board, found, wanted, estimates, 500)
        assert (rows.pages, rows.page, rows.found) == (3, page, 60)
        assert len(rows.rows) == (PAGE if page < 3 else 60 - 2 * PAGE)
        seen += [(row.item, row.share, row.reward, row.estimate) for row in rows.rows]
    column = [row[("item", "share", "reward", "estimate").index(sort)] for row in seen]
    assert column == sorted(column, reverse=order == "down")  # type: ignore[type-var]
    assert len({row[0] for row in seen}) == 60


def test_a_page_beyond_the_last_is_the_last_and_search_finds_parts_of_ids() -> None:
    board = read_board(board_of(60), [0])
    rows = list_rows(board, find_items(board, "I05"), Listing(page=99), {}, 500)
    assert {row.item for row in rows.rows} == {f"i05{n}" for n in range(10)}
    assert rows.page == rows.pages == 1


def test_whoever_may_not_start_a_training_is_refused(store: Store, tmp_path: Path) -> None:
    tokens = {role: keys.create(store, role, role) for role in ("admin", "reader")}
    with browsing(store, home=str(tmp_path)) as browser:
        browser.log_in(tokens["reader"])
        page = browser.get("/learning/training").text
        assert "needs a key of role admin" in page
        form = {"experiment": "shipped/coffee"}
        assert browser.post("/learning/training", form).status_code == 403
        assert browser.post("/learning/training/raycommend-train-1/stop", {}).status_code == 403
        browser.log_in(tokens["admin"])
        assert '<option value="shipped/coffee"' in browser.get("/learning/training").text
        assert browser.post("/learning/training", form, **{"x-token": "forged"}).status_code == 403
        for wrong in ("shipped/none", "own/../../etc/passwd", "/etc/passwd", "shipped/coffee; reboot"):
            answer = browser.post("/learning/training", {"experiment": wrong})
            assert (answer.status_code, "there is no experiment" in answer.text) == (422, True)
        both = {"experiment": "shipped/search/shop_14k", "challenger": "on"}
        assert browser.post("/learning/training", both).status_code == 422
        assert browser.post("/learning/training", form).status_code == 503  # there is no Ray here


def test_pictures_are_drawn_within_their_frames() -> None:
    points = [tuple(map(float, point.split(","))) for point in sparkline(np.array([0.0, 2.0, np.nan, 1.0])).split()]
    assert points == [(0.0, HEIGHT - 2), (pytest.approx(WIDTH / 3, abs=0.01), 2.0), (WIDTH, HEIGHT / 2)]
    assert sparkline(np.array([np.nan])) == ""
    axis = find_axis([-1.0, None, 3.0, float("nan")])
    assert (axis.low < -1.0, axis.high > 3.0) == (True, True)
    assert 0.0 < axis.place(-1.0) < axis.place(0.0) < axis.place(3.0) < WIDTH
