"""A/B tests over HTTP: what cannot be read out is a refusal that says so."""

import pytest
from fastapi.testclient import TestClient

from data.log.store import Store
from serve.abtests.changes import start
from serve.abtests.specification import ABTest
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from tests.support.clocks import Clock
from tests.support.records import decision
from tests.support.writers import StoreWriter


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(store: Store) -> Service:
    return Service(Served({"v1": {"p": 1.0}}), store, StoreWriter(store), {}, ServiceConfig(), "replica-1")


def test_an_interleaved_slate_that_does_not_say_who_has_filled_it_is_a_409(
    client: TestClient, store: Store, clock: Clock
) -> None:
    variants = {"old": {"policy": "p"}, "new": {"policy": "q"}}
    test = ABTest.model_validate({"name": "t", "kind": "interleaving", "variants": variants, "control": "old"})
    start(store, test, by="me")
    assert client.get("/v1/abtests/t").json()["results"] is None
    usual = {"abtest": "t", "policy": "p+q"}
    store.insert([decision("1", teams=("q", "p"), **usual), decision("2", variant="old", **usual)])
    clock.advance(10_000)
    answer = client.get("/v1/abtests/t")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "conflict"
    assert error["message"] == (
        "the results of A/B test t cannot be read: an interleaved decision has a row for each of the two variants"
    )
    assert client.get("/v1/abtests").json()["tests"][0]["test"]["name"] == "t"  # the replica lives
