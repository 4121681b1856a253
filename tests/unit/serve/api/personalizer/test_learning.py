"""What the Personalizer loop learns: rewards by slot and window, modes, configuration that changes, model and log."""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data.schema import Decision
from data.settings import Settings
from serve.audit.run import Audit, audit
from serve.decisions.served import Served, make_writable
from tests.support.clocks import Clock
from tests.support.personalizers import HEADERS, Loop, actions, personalizer_loop
from tests.support.rows import count_rows

LATEST = "?api-version=2022-09-01-preview"
SERVICE, POLICY, MODEL, LOGS = (
    f"/personalizer/{name}{LATEST}" for name in ("configurations/service", "configurations/policy", "model", "logs")
)


@dataclass
class Shop:
    """One who asks and reports, with a clock of its own."""

    loop: Loop
    client: TestClient
    clock: Clock
    events: int = 0

    def rank(self, *ids: str, context: str = "x", **more: Any) -> Decision:
        self.events += 1
        event = more.setdefault("eventId", f"event {self.events}")
        body = {"actions": actions(*ids), "contextFeatures": [{"where": context}], **more}
        path = f"/personalizer/multislot/rank{LATEST}" if "slots" in more else f"/personalizer/rank{LATEST}"
        response = self.client.post(path, json=body)
        assert response.status_code == 201, response.text
        self.clock.advance(0.001)
        decision = self.loop.store.decision(f"personalizer:{event}")
        assert decision is not None
        return decision

    def reward(self, decision: Decision, value: float) -> None:
        path = f"/personalizer/events/{decision.decision_id.removeprefix('personalizer:')}/reward{LATEST}"
        assert self.client.post(path, json={"value": value}).status_code == 204
        self.clock.advance(0.001)

    def configure(self, **change: Any) -> None:
        response = self.client.put(SERVICE, json={**self.client.get(SERVICE).json(), **change})
        assert response.status_code == 200, response.text
        self.clock.advance(0.001)

    def expected(self, action: str, context: str = "x") -> float:
        """Return what the policy expects of an action, once all is learned; asked without being logged."""
        self.loop.learn()
        decision = self.rank(action, context=context, deferActivation=True)
        return decision.scores[0]

    def model(self, **more: str) -> bytes:
        response = self.client.get(MODEL + "".join(f"&{name}={value}" for name, value in more.items()))
        assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
        return bytes(response.content)

    def begin_with(self, blob: bytes) -> Any:
        response = self.client.put(MODEL, content=blob, headers={"content-type": "application/octet-stream"})
        self.clock.advance(0.001)
        return response


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    clock = Clock()
    with personalizer_loop(tmp_path, clock) as loop:
        yield Shop(loop, TestClient(loop.app, headers=HEADERS), clock)


@pytest.mark.heavy
def test_it_learns_which_action_is_right_where(shop: Shop) -> None:
    shop.configure(explorationPercentage=0.1)
    right = {"north": "a", "south": "b"}
    for _ in range(60):
        for context, action in right.items():
            decision = shop.rank("a", "b", "c", context=context)
            shop.reward(decision, float(decision.slate[0] == action))
        shop.loop.learn()
    for context, action in right.items():
        decision = shop.rank("a", "b", "c", context=context)
        probabilities = dict(zip(decision.candidates, decision.probabilities, strict=True))
        assert probabilities[action] > 0.85
        assert min(probabilities.values()) == pytest.approx(0.1 / 3, abs=0.03)


def test_it_learns_on_from_what_came_from_another_process(shop: Shop) -> None:
    buffers: list[pickle.PickleBuffer] = []
    blob = pickle.dumps(shop.loop.loops.news({}), protocol=5, buffer_callback=buffers.append)
    news = pickle.loads(blob, buffers=[bytes(buffer) for buffer in buffers])  # arrays that cannot be written, as Ray's
    other = Served({"personalizer": {"personalizer": 1.0}})
    other.take(make_writable(news))
    for number in range(3):
        shop.reward(shop.rank("a", context=str(number)), 1)
        shop.loop.loops.poll()
    other.take(shop.loop.loops.news(other.steps()))
    shop.loop.learn()
    policies = [
        one.at("personalizer").artefact("personalizer").policy.state_dict() for one in (other, shop.loop.served)
    ]
    assert policies[0].keys() == policies[1].keys()
    for name, array in policies[0].items():
        assert array.tolist() == policies[1][name].tolist()


def test_it_learns_without_a_context_too(shop: Shop) -> None:
    for _ in range(5):
        for action, earned in (("a", 1), ("b", 0)):
            shop.reward(shop.rank(action, contextFeatures=None), earned)
        shop.loop.learn()
    assert shop.rank("a", contextFeatures=None).scores[0] > 0.5
    assert shop.rank("b", contextFeatures=[]).scores[0] < 0.5


def test_a_reward_that_comes_before_its_rank_counts(shop: Shop) -> None:
    path = f"/personalizer/events/early/reward{LATEST}"
    assert shop.client.post(path, json={"value": 1}).status_code == 204
    assert shop.expected("a") == 0
    shop.rank("a", eventId="early")
    assert shop.expected("a") > 0.1


def test_slots_earn_their_own_rewards_in_any_order(shop: Shop) -> None:
    path, slots = f"/personalizer/multislot/events/m/reward{LATEST}", [{"id": "1"}, {"id": "2"}]
    reward = {"reward": [{"slotId": "2", "value": 1}, {"slotId": "no such", "value": 1}]}
    assert shop.client.post(path, json=reward).status_code == 204
    places = [{**slot, "baselineAction": base} for slot, base in zip(slots, ("a", "b"), strict=True)]
    shop.configure(learningMode="Apprentice")
    decision = shop.rank("a", "b", eventId="m", slots=places)
    assert decision.slate == ("a", "b")
    assert shop.expected("b") > 0.05
    assert shop.expected("b") > shop.expected("a")


def test_without_a_reward_the_default_counts_when_the_window_has_closed(shop: Shop) -> None:
    shop.configure(defaultReward=-1)
    shop.rank("a")
    assert shop.expected("a") == 0
    shop.clock.advance(601)
    assert shop.expected("a") < -0.1


def test_a_late_reward_does_not_count(shop: Shop) -> None:
    decision = shop.rank("a")
    shop.clock.advance(601)
    shop.reward(decision, 1)
    assert shop.expected("a") == 0


def test_a_deferred_event_counts_when_it_was_activated(shop: Shop) -> None:
    decision = shop.rank("a", deferActivation=True, eventId="e")
    shop.reward(decision, 1)
    assert shop.expected("a") == 0
    assert shop.client.post(f"/personalizer/events/e/activate{LATEST}").status_code == 204
    assert shop.expected("a") > 0.1


@pytest.mark.heavy
def test_the_same_reward_counts_once_and_others_follow_the_aggregation(shop: Shop) -> None:
    decision = shop.rank("a")
    for value in (0.25, 0.25, 1.0, 0.25):
        shop.reward(decision, value)
    expected = {}
    for aggregation in ("earliest", "sum", "average", "median", "min", "max"):
        shop.configure(rewardAggregation=aggregation)
        expected[aggregation] = shop.expected("a")
    one = expected["earliest"] / 0.25
    rewards = {"earliest": 0.25, "sum": 1.25, "average": 0.625, "median": 0.625, "min": 0.25, "max": 1.0}
    assert expected == pytest.approx({name: one * value for name, value in rewards.items()})


@pytest.mark.heavy
def test_configuration_changes_without_losing_what_was_learned(shop: Shop) -> None:
    for _ in range(20):
        shop.reward(shop.rank("a"), 1)
    before = shop.expected("a")
    assert before > 0.7
    shop.configure(explorationPercentage=0.5, modelExportFrequency="PT1M")
    assert shop.expected("a") == pytest.approx(before)
    probabilities = shop.rank("a", "b").probabilities
    assert min(probabilities) >= 0.25
    assert shop.loop.loops.problems == {}


@pytest.mark.heavy
def test_another_learning_policy_learns_the_log_anew(shop: Shop) -> None:
    for _ in range(10):
        shop.reward(shop.rank("a"), 1)
    before, exported = shop.expected("a"), shop.model(signed="true")
    other = {"name": "other", "arguments": "--cb_explore_adf --epsilon 0.2 -q :: --noise_sd 3"}
    assert shop.client.put(POLICY, json=other).status_code == 200
    assert 0 < shop.expected("a") < before - 0.1
    response = shop.begin_with(exported)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "InvalidModelImportFormat")
    assert shop.client.delete(POLICY).status_code == 200
    assert shop.expected("a") == pytest.approx(before)


def test_what_is_only_logged_is_not_learned_and_an_apprentice_learns(shop: Shop) -> None:
    shop.configure(learningMode="LoggingOnly")
    shop.reward(shop.rank("a", "b"), 1)
    assert shop.expected("a") == 0
    shop.configure(learningMode="Apprentice")
    shop.reward(shop.rank("a", "b"), 1)
    assert shop.expected("a") > 0.1


def test_metrics_of_the_apprentice_mode(shop: Shop) -> None:
    assert "latestApprenticeModeMetrics" not in shop.client.get(SERVICE).json()
    shop.reward(shop.rank("a"), 1)  # not in that mode
    shop.configure(learningMode="Apprentice")
    since = shop.client.get(SERVICE).json()["lastConfigurationEditDate"]
    for value in (1.0, 0.5):
        shop.reward(shop.rank("a", "b"), value)
    shop.rank("a", "b")
    assert "latestApprenticeModeMetrics" not in shop.client.get(SERVICE).json()  # no window has closed
    shop.clock.advance(700)
    shop.reward(shop.rank("a", "b"), 1)
    metrics = shop.client.get(SERVICE).json()["latestApprenticeModeMetrics"]
    assert (metrics["numberOfEvents"], metrics["sumOfRewards"]) == (3, 1.5)
    assert datetime.fromisoformat(metrics["startTime"]) == datetime.fromisoformat(since)
    assert "latestApprenticeModeMetrics" not in shop.client.get("/personalizer/v1.0/configurations/service").json()
    shop.configure(learningMode="Online")
    assert "latestApprenticeModeMetrics" not in shop.client.get(SERVICE).json()


@pytest.mark.heavy
def test_a_model_that_was_exported_can_be_imported_again(shop: Shop) -> None:
    for _ in range(10):
        shop.reward(shop.rank("a"), 1)
    before = shop.expected("a")
    exported = shop.model(signed="true")
    for _ in range(10):
        shop.reward(shop.rank("a"), -1)
    assert shop.expected("a") < before - 0.3
    assert shop.begin_with(exported).status_code == 204
    assert shop.expected("a") == pytest.approx(before)
    shop.configure(explorationPercentage=0.4)
    assert shop.expected("a") == pytest.approx(before)
    shop.reward(shop.rank("a"), -1)
    assert shop.expected("a") < before - 0.01  # it goes on learning


@pytest.mark.heavy
def test_a_model_is_forgotten_and_begins_anew(shop: Shop) -> None:
    for _ in range(10):
        shop.reward(shop.rank("a"), 1)
    properties = f"/personalizer/model/properties{LATEST}"
    created = shop.client.get(properties).json()["creationTime"]
    assert shop.client.delete(MODEL).status_code == 204
    shop.clock.advance(0.001)
    assert shop.expected("a") == 0
    again = shop.client.get(properties).json()["creationTime"]
    assert datetime.fromisoformat(again) > datetime.fromisoformat(created)
    shop.configure(rewardAggregation="sum")
    assert shop.expected("a") == 0
    shop.reward(shop.rank("a"), 1)
    assert shop.expected("a") > 0.1


@pytest.mark.heavy
def test_what_is_no_model_of_ours_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.reward(shop.rank("a"), 1)
    before = shop.expected("a")
    signed, unsigned = shop.model(signed="true"), shop.model()
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert set(parts) == {"policy.json", "arrays.safetensors", "signature"}
    other = json.loads(parts["policy.json"])
    other["policy"]["noise_sd"] = 1.0
    signature, form = "InvalidModelImportSignature", "InvalidModelImportFormat"
    refused = [
        (unsigned, signature),
        (_zip({**parts, "policy.json": json.dumps(other).encode()}), signature),
        (_zip({**parts, "signature": b"0" * 64}), signature),
        (_zip({**parts, "signature": "é".encode()}), signature),
        (_zip({"policy.json": b"{}"}), form),
        (_zip({**parts, "more": b""}), form),
        (_zip(parts, zipfile.ZIP_DEFLATED), form),
        (signed[:-30], form),
        (b"vw model", form),
        (b"", form),
    ]
    with personalizer_loop(tmp_path / "other") as elsewhere:
        foreign = TestClient(elsewhere.app, headers=HEADERS).get(MODEL + "&signed=true").content
    refused.append((foreign, signature))
    for blob, code in refused:
        response = shop.begin_with(blob)
        assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert shop.expected("a") == before


def _zip(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return blob.getvalue()


@pytest.mark.heavy
def test_the_log_is_deleted_and_the_model_keeps_what_it_has_learned(shop: Shop) -> None:
    properties = f"/personalizer/logs/properties{LATEST}"
    assert shop.client.get(properties).json()["error"]["code"] == "LogsPropertiesNotFound"
    first = shop.rank("a")
    shop.reward(first, 1)
    for _ in range(9):
        last = shop.rank("a")
        shop.reward(last, 1)
    dates = shop.client.get(properties).json()["dateRange"]
    assert [datetime.fromisoformat(dates[name]) for name in ("from", "to")] == [first.time, last.time]
    before = shop.expected("a")
    assert shop.client.delete(LOGS).status_code == 204
    shop.clock.advance(0.001)
    counts = count_rows(shop.loop.store)
    assert (counts["decisions"], counts["feedback"]) == (0, 0)
    assert shop.client.get(properties).status_code == 404
    assert shop.expected("a") == pytest.approx(before)
    shop.configure(explorationPercentage=0.3)
    assert shop.expected("a") == pytest.approx(before)
    assert shop.client.delete(LOGS).status_code == 204


@pytest.mark.heavy
def test_an_audit_makes_every_decision_again(shop: Shop, tmp_path: Path) -> None:
    def some() -> None:
        slots = [{"id": "1", "baselineAction": "a", "excludedActions": ["b"]}, {"id": "2", "baselineAction": "b"}]
        for number in range(6):
            decision = shop.rank(*"abc", context=str(number % 2), excludedActions=["c"] * (number % 3 == 0))
            shop.reward(decision, float(decision.slate[0] == "a"))
            shop.reward(shop.rank(*"abc", slots=slots), 0.5)
            if number % 2:
                shop.loop.learn()

    def audited() -> Audit:
        day = timedelta(days=1)
        home = Settings(home=tmp_path, store=None, archive=None)
        return audit(shop.loop.store, home, shop.clock.now - day, shop.clock.now + day)

    some()
    shop.configure(explorationPercentage=0.05, rewardAggregation="sum")
    some()
    shop.configure(learningMode="Apprentice")
    some()
    shop.configure(learningMode="Online")
    assert shop.begin_with(shop.model(signed="true")).status_code == 204
    some()
    found = audited()
    assert (found.decisions, found.mismatches) == (48, [])
    assert shop.client.delete(LOGS).status_code == 204
    shop.clock.advance(0.001)
    shop.loop.learn()
    some()
    found = audited()
    assert (found.decisions, found.mismatches) == (12, [])


def test_model_properties_say_when_it_last_learned(shop: Shop) -> None:
    path = f"/personalizer/model/properties{LATEST}"
    begun = shop.clock.now
    assert shop.client.get(path).json() == dict.fromkeys(("creationTime", "lastModifiedTime"), _written(begun))
    decision = shop.rank("a")
    shop.clock.advance(5)
    rewarded = shop.clock.now
    shop.reward(decision, 1)
    shop.loop.learn()
    assert shop.client.get(path).json() == {"creationTime": _written(begun), "lastModifiedTime": _written(rewarded)}


def _written(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
