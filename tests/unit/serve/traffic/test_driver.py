"""The same seed sends the same, whatever overtakes what; and the simulators that users can come from."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from data.errors import DataError
from rl.simulators.registry import make
from rl.simulators.shop.plus import LEVELS
from serve.traffic.disorder import Delay, Disorder, Shift
from serve.traffic.driver import FEEDBACK, Driver, Plan, Traffic, arrivals
from serve.traffic.summary import share_of_best, summarise
from serve.traffic.visits import People, people_of
from tests.support.answering import Answering, answered

pytestmark = pytest.mark.heavy

SMALL: dict[str, Any] = {"market": {"users": 20, "items": 12, "kinds": 3, "invoices": 200}, "k": 3}


def people(name: str, users: int = 5, **options: Any) -> People:
    one = partial(make, f"raycommend/{name}-v0", 1, **options)
    return people_of(one(), one, users)


def drive(service: Answering, of: People, plan: Plan, **options: Any) -> tuple[Traffic, dict[str, Any]]:
    async def run() -> tuple[Traffic, dict[str, Any]]:
        async with answered(service, attempts=2, pause=lambda attempts, last: 0.0) as client:
            driver = Driver(of, client, plan, **options)
            await driver.drive()
            return driver.traffic, summarise(driver.traffic, client, of.ceilings(), 1.0)

    return asyncio.run(run())


def by_id(service: Answering) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was asked and reported, by its id."""
    reports = {row["feedback_id"]: row for rows in service.reported for row in rows}
    return {body["decision_id"]: body for body in service.asked}, reports


ROUGH = Disorder(
    Delay("uniform", (0.0, 0.02)),
    late=0.2,
    late_by_s=0.02,
    duplicates=0.3,
    lost=0.1,
    shuffled=0.2,
    shuffled_within_s=0.03,
)


@pytest.mark.parametrize(
    "make_people",
    [
        pytest.param(lambda: people("Shop"), id="shop"),
        pytest.param(lambda: people("Ratings"), id="ratings"),
        pytest.param(lambda: people("Retail", **SMALL), id="retail"),
    ],
)
def test_the_same_seed_sends_the_same_whatever_overtakes_what(make_people: Callable[[], People]) -> None:
    plan = Plan(60, rate=2_000.0, seed=3, policies=("a", "b"), disorder=ROUGH, shifts=(Shift(30, 0.5),))
    steady, shaken = Answering(), Answering(jitter_s=0.02)
    first, _ = drive(steady, make_people(), plan)
    second, _ = drive(shaken, make_people(), plan)
    assert by_id(steady) == by_id(shaken)
    assert first.reports == second.reports
    assert [d["decision_id"] for d in shaken.asked] != sorted(by_id(shaken)[0]) or len(shaken.asked) < 60
    other = Answering()
    drive(other, make_people(), Plan(60, rate=2_000.0, seed=4, policies=("a", "b"), disorder=ROUGH))
    assert json.dumps(by_id(other), sort_keys=True) != json.dumps(by_id(steady), sort_keys=True)


def test_visits_come_at_the_rate_that_was_asked_for() -> None:
    due = [arrival.due_s for arrival in arrivals(Plan(2_000, rate=50.0), people("Shop"))]
    gaps = np.diff(due)
    assert abs(gaps.mean() * 50 - 1) < 4 / np.sqrt(2_000)
    assert abs(gaps.std() * 50 - 1) < 4 * np.sqrt(2 / 2_000)


def test_a_user_is_before_one_page_at_a_time_and_a_new_user_when_the_episode_ends() -> None:
    service = Answering(slate=lambda body: body["candidates"][:1], jitter_s=0.002)
    drive(service, people("Shop", users=1), Plan(45, rate=5_000.0))
    users = [body["user_id"] for body in service.asked]
    assert users == ["user-0"] * 20 + ["user-0.1"] * 20 + ["user-0.2"] * 5
    assert all(body["candidates"] == [str(number) for number in range(1, 11)] for body in service.asked)


def test_what_a_shop_earns_is_what_it_clicks() -> None:
    service = Answering()
    traffic, summary = drive(service, people("Shop", users=50), Plan(300, clients=4))
    clicks = sum(row["kind"] == "click" for rows in service.reported for row in rows)
    assert clicks == sum(done.response.reward for done in traffic.visits) > 0
    assert summary["reward"] == pytest.approx(clicks / 300, abs=1e-6)
    assert summary["reports"]["stored"] == summary["reports"]["made"] == 300 + clicks
    assert summary["requests"] == {"/v1/recommend": 300, FEEDBACK: 300}
    assert summary["failures"] == {}
    assert len(traffic.feedback) == 300 + clicks


def test_outcomes_of_the_other_shop_are_worth_what_its_card_says() -> None:
    traffic, _ = drive(Answering(), people("ShopPlus", users=50), Plan(300, clients=4))
    for done in traffic.visits:
        assert done.response.reward == pytest.approx(LEVELS[len(done.response.reports)])


def test_a_rating_is_that_of_the_user_who_was_asked_for_of_the_movie_that_was_shown() -> None:
    service = Answering()
    traffic, summary = drive(service, people("Ratings"), Plan(40, clients=1))
    factors = make("raycommend/Ratings-v0", 1)._factors  # type: ignore[attr-defined]
    movies = list(range(1, 21))
    asked, reports = by_id(service)
    for row in reports.values():
        context = asked[row["decision_id"]]["context"]
        rated = np.array([context[f"f{place}"] for place in range(20)]) @ factors[:, movies.index(int(row["item_id"]))]
        assert row["value"] == pytest.approx(rated)
    assert share_of_best(traffic.visits) == pytest.approx(summary["share_of_best"], abs=1e-6)
    assert summary["ceilings"]["oracle"] == pytest.approx(4.820, abs=5e-4)
    factors_of = {body["user_id"]: body["context"] for body in service.asked}
    assert len(factors_of) > 10
    assert all(body["context"] == factors_of[body["user_id"]] for body in service.asked)


def test_who_always_shows_the_best_earns_all_and_less_after_a_shift() -> None:
    env = make("raycommend/Ratings-v0", 1)
    factors, movies = env._factors, [str(movie) for movie in range(1, 21)]  # type: ignore[attr-defined]

    def best(body: dict[str, Any]) -> list[str]:
        worth = np.array([body["context"][f"f{place}"] for place in range(20)]) @ factors
        return [movies[int(worth.argmax())]]

    traffic, _ = drive(Answering(slate=best), people("Ratings"), Plan(200, clients=1, shifts=(Shift(100, 1.0),)))
    visits = sorted(traffic.visits, key=lambda done: done.number)
    assert share_of_best(visits[:100]) == pytest.approx(1.0)
    after = share_of_best(visits[100:])
    assert after is not None
    assert after < 0.8


def test_refusals_are_counted_and_the_others_go_on() -> None:
    from starlette.responses import JSONResponse, Response

    def refuse(path: str, number: int) -> Response | None:
        return JSONResponse({"error": "no"}, 422) if path == FEEDBACK else None

    traffic, summary = drive(Answering(refuse=refuse), people("Shop"), Plan(20, clients=2))
    assert summary["failures"] == {f"{FEEDBACK} 422": 20}
    assert summary["visits"] == 20
    assert traffic.feedback == {}
    assert len(summary["examples"]) == 5
    assert "answered 422" in summary["examples"][0]


def test_what_does_not_fit_a_request_is_refused() -> None:
    with pytest.raises(DataError, match="an item is twice among the candidates of a visit"):
        drive(Answering(), people("InterestEvolution"), Plan(20, clients=1))


@pytest.mark.parametrize("name", ["Retail", "Shop"])
def test_what_an_oracle_would_earn_is_reported_where_the_simulator_knows(name: str) -> None:
    service = Answering()
    traffic, _ = drive(service, people(name, **(SMALL if name == "Retail" else {})), Plan(20, oracle=True))
    said = sorted(row["value"] for rows in service.reported for row in rows if row["kind"] == "oracle")
    assert said == sorted(done.response.best for done in traffic.visits if done.response.best is not None)
    assert len(said) == (20 if name == "Retail" else 0)
