"""DSJSON: what is exported is what is imported, VW reads it, others' lines come in, and what is wrong is said."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import vowpalwabbit

from data.attribution import attribute
from data.dsjson import default_spec, export, load, main
from data.errors import DataError
from data.schema import Decision, Features, Feedback, RewardSpec, Slot
from data.sources.dsjson import from_line
from data.store import Store

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = default_spec("personalizer")
FEATURES = Features(
    context=({"user": "Ann", "age": 33}, {"device": {"os": "ios", "sizes": [1, 2.5]}}),
    items=(({"hot": True},), ({"hot": False}, {"taste": {"sweet": 0.5}}), ()),
)


class Clock:
    def __init__(self) -> None:
        self.time = TIME

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'from.db'}", clock)
    yield opened
    opened.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'into.db'}", lambda: TIME + timedelta(days=30))
    yield opened
    opened.close()


def decision(number: int, **more: Any) -> Decision:
    usual: dict[str, Any] = {
        "decision_id": f"personalizer:{number}",
        "time": TIME + timedelta(seconds=number),
        "loop": "personalizer",
        "candidates": ("tea", "milk", "juice"),
        "slate": ("milk",),
        "propensities": (0.7,),
        "scores": (0.25,),
        "policy": "personalizer",
        "policy_version": "1a2b.f.3",
        "probabilities": (0.1, 0.7, 0.2),
        "features": FEATURES,
    }
    return Decision.model_validate(usual | more)


def reward(number: int, value: float, **more: Any) -> Feedback:
    usual: dict[str, Any] = {
        "feedback_id": f"personalizer:{number}:{value}",
        "decision_id": f"personalizer:{number}",
        "loop": "personalizer",
        "kind": "reward",
        "value": value,
    }
    return Feedback.model_validate(usual | more)


def filled(store: Store, clock: Clock) -> None:
    """Decisions of every shape; feedback in time, twice, late, and none."""
    slots = (
        Slot(slot_id="hero", features=({"size": "large"},), exclude=("tea",), baseline="milk"),
        Slot(slot_id="foot"),
    )
    two: dict[str, Any] = {"slate": ("juice", "tea"), "propensities": (0.2, 0.5), "scores": (0.1, 0.3)}
    store.insert(
        [
            decision(0),
            decision(1),
            decision(2, features=None, context={"page": "home", "time": TIME.isoformat()}, probabilities=()),
            decision(3, **two, slots=slots, probabilities=()),
            decision(4, **two, user_id="ann", mode="exploit", objective="sales"),
            decision(5, deferred=True),
        ]
    )
    clock.time = TIME + timedelta(seconds=60)
    store.insert([reward(0, 1.0), reward(0, 0.5), reward(2, -0.25), reward(3, 0.125, item_id="foot")])
    clock.time = TIME + timedelta(seconds=900)
    store.insert([reward(1, 1.0)])
    clock.time = TIME + timedelta(days=2)


def exported(store: Store) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(export(store, "personalizer", SPEC, counts)), counts


def rewards(store: Store, spec: RewardSpec = SPEC) -> list[tuple[float, ...]]:
    decisions = [found for _, found in store.decisions()]
    feedback = store.feedback_of([found.decision_id for found in decisions])
    return [attribute(d, feedback.get(d.decision_id, []), spec, store.now()).rewards for d in decisions]


def test_what_is_exported_is_what_is_imported(store: Store, clock: Clock, empty: Store) -> None:
    filled(store, clock)
    lines, counts = exported(store)
    assert counts == {"exported": 5, "pending": 1}
    found, rejected = load(empty, (line.encode() for line in lines), "personalizer")
    assert (found, rejected) == ({"decisions": 5, "feedback": 5, "known": 0, "rejected": 0}, [])
    assert [d for _, d in empty.decisions()] == [d for _, d in store.decisions()][:5]
    assert [f for _, f in empty.feedback()] == sorted((f for _, f in store.feedback()), key=lambda f: f.decision_id)
    assert rewards(empty) == [(1.0,), (0.0,), (-0.25,), (0.0, 0.125), (0.0, 0.0)]
    again, _ = load(empty, (line.encode() for line in lines), "personalizer")
    assert again == {"decisions": 0, "feedback": 0, "known": 10, "rejected": 0}


def test_a_line_in_full(store: Store, clock: Clock) -> None:
    filled(store, clock)
    line = json.loads(exported(store)[0][0])
    del line["raycommend"]
    assert line == {
        "Timestamp": "2026-03-01T12:00:00Z",
        "Version": "1",
        "EventId": "0",
        "_label_cost": -1.0,
        "_label_probability": 0.7,
        "_label_Action": 2,
        "_labelIndex": 1,
        "a": [2, 1, 3],
        "p": [0.7, 0.1, 0.2],
        "o": [{"v": 1.0, "EventId": "0"}, {"v": 0.5, "EventId": "0"}],
        "c": {
            "FromUrl": [{"user": "Ann", "age": 33}, {"device": {"os": "ios", "sizes": [1, 2.5]}}],
            "_multi": [
                {"i": {"id": "tea"}, "j": [{"hot": True}]},
                {"i": {"id": "milk"}, "j": [{"hot": False}, {"taste": {"sweet": 0.5}}]},
                {"i": {"id": "juice"}},
            ],
        },
        "VWState": {"m": "1a2b.f.3"},
    }


def test_without_what_is_ours_a_line_is_still_the_same_decision(store: Store, clock: Clock) -> None:
    filled(store, clock)
    for number, text in enumerate(exported(store)[0]):
        row = json.loads(text)
        del row["raycommend"]
        found, original = from_line(json.dumps(row)), store.decision(f"personalizer:{number}")
        assert original is not None
        for name in ("decision_id", "time", "candidates", "slate", "propensities"):
            assert getattr(found.decision, name) == getattr(original, name), name
        if number in (0, 1):
            assert found.decision.features == original.features
            assert found.decision.probabilities == original.probabilities
        if number == 3:
            assert [slot.features for slot in found.decision.slots] == [({"size": "large"},), ()]
        # what came too late is seen in the line of 1, but is worth nothing there
        assert [item.value for item in found.feedback] == [[1.0], [0.0], [-0.25], [0.125], []][number]


VW_LINE = {
    "_label_cost": -1,
    "_label_probability": 0.8,
    "_label_Action": 2,
    "_labelIndex": 1,
    "o": [{"v": 1.0, "EventId": "e1", "ActionTaken": False}],
    "Timestamp": "2021-02-04T16:31:29.2460000Z",
    "Version": "1",
    "EventId": "e1",
    "a": [2, 1],
    "c": {
        "GUser": {"id": "mk", "_age": 3},
        "lines": [{"n": 1}],
        "hour": 9,
        "_multi": [{"_tag": "politics", "TAction": {"topic": "politics"}}, {"TAction": {"topic": "food"}}],
    },
    "p": [0.8, 0.2],
    "VWState": {"m": "N/A"},
}


def test_a_line_of_vowpal_wabbit() -> None:
    found = from_line(json.dumps(VW_LINE))
    d = found.decision
    assert d.decision_id == "personalizer:e1"
    assert d.time == datetime(2021, 2, 4, 16, 31, 29, 246000, tzinfo=UTC)
    assert (d.candidates, d.slate, d.propensities) == (("politics", "2"), ("2",), (0.8,))
    assert d.probabilities == (0.2, 0.8)
    assert d.features == Features(
        context=({"GUser": {"id": "mk", "_age": 3}}, {"lines": {"n": 1}}, {"hour": 9}),
        items=(({"TAction": {"topic": "politics"}},), ({"TAction": {"topic": "food"}},)),
    )
    [item] = found.feedback
    assert (item.kind, item.value, item.item_id, item.received_at) == ("reward", 1.0, "2", d.time)


def test_a_skipped_line_waits_to_be_activated_and_one_without_outcome_has_no_feedback() -> None:
    found = from_line(json.dumps(VW_LINE | {"_skipLearn": True, "o": [], "_label_cost": 0}), "v1")
    assert found.decision.deferred
    assert found.decision.decision_id == "e1"
    assert found.feedback == ()


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in VW_LINE.items() if name not in names}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not DSJSON"),
        (json.dumps(without("c")), "not DSJSON"),
        (json.dumps(VW_LINE | {"c": {"_multi": []}}), r"c\._multi must be a list of one action or more"),
        (json.dumps(VW_LINE | {"c": {"_multi": [1]}}), r"c\._multi must be a list of one action or more"),
        (json.dumps(VW_LINE | {"c": {"_multi": [{"i": {"id": "a"}}] * 2}}), "two actions"),
        (json.dumps(without("Timestamp")), "no Timestamp"),
        (json.dumps(VW_LINE | {"Timestamp": "soon"}), "time: Input should be a valid datetime"),
        (json.dumps(without("_labelIndex", "_label_Action")), "no label"),
        (json.dumps(without("_label_probability")), "no _label_probability"),
        (json.dumps(VW_LINE | {"_labelIndex": 2}), "one of the 2 of c._multi, got index 2"),
        (json.dumps(VW_LINE | {"_label_probability": 0}), r"propensities must be in \(0, 1\]"),
        (json.dumps(VW_LINE | {"_outcomes": 3}), "another type"),
        (json.dumps({"c": {"_multi": [{}]}, "raycommend": {}}), "KeyError 'described'"),
    ],
)
def test_a_line_that_is_none_is_refused_with_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_line(line)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, url = tmp_path / "in.dsjson", f"sqlite:///{tmp_path / 'log.db'}"
    given.write_text("\n".join([json.dumps(VW_LINE), "", "nonsense", json.dumps(VW_LINE | {"EventId": "e2"})]) + "\n")
    assert main(["import", str(given), "--store", url]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out) == {"decisions": 2, "feedback": 2, "known": 0, "rejected": 1}
    assert done.err.startswith("line 3: not JSON")
    assert main(["export", str(tmp_path / "out.dsjson"), "--store", url]) == 0
    assert json.loads(capsys.readouterr().out) == {"exported": 2, "pending": 0, "empty": 0}
    first = json.loads((tmp_path / "out.dsjson").read_text().splitlines()[0])
    assert (first["_label_cost"], first["EventId"]) == (-1.0, "e1")
    assert main(["import", str(tmp_path / "none"), "--store", url]) == 2
    (tmp_path / "wrong.json").write_text("{}x")
    assert main(["export", "-", "--store", url, "--reward", str(tmp_path / "wrong.json")]) == 2
    assert "is no reward specification" in capsys.readouterr().err


def test_vowpal_wabbit_reads_the_features_and_the_label(store: Store, clock: Clock, tmp_path: Path) -> None:
    filled(store, clock)
    path = tmp_path / "log.dsjson"
    path.write_text("\n".join(exported(store)[0][:2]) + "\n")
    vw = vowpalwabbit.Workspace(f"--dsjson --cb_explore_adf --epsilon 0.1 -q :: -d {path} --quiet")
    assert vw.get_weighted_examples() == 2
    assert vw.get_sum_loss() != 0.0
    vw.finish()


def test_vowpal_wabbit_reads_slots(store: Store, clock: Clock, tmp_path: Path) -> None:
    filled(store, clock)
    path = tmp_path / "log.dsjson"
    path.write_text(exported(store)[0][3] + "\n")
    vw = vowpalwabbit.Workspace(f"--dsjson --ccb_explore_adf --all_slots_loss --epsilon 0.1 -d {path} --quiet")
    assert vw.get_weighted_examples() == 1
    vw.finish()
