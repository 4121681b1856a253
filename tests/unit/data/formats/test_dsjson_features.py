"""Features in DSJSON: lists of anything are exported as Vowpal Wabbit reads them, and what comes in is checked."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import vowpalwabbit

from data.dsjson import default_spec, export_lines, import_lines
from data.formats.dsjson.features import make_readable
from data.log.store import Store
from data.schema import Decision, Features, Slot
from rl.encoders.json_features import flatten
from tests.support.rows import count_rows

FAULTS = Path(__file__).parents[3] / "faults"
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
LISTS: dict[str, Any] = {
    "tags": ["outdoor", "día", "outdoor"],
    "mixed": [1.5, "a", True, None, [2, "b"], {"x": ["c"], "y": 3}],
    "basket": [{"sku": "s1", "n": 2}, {"sku": "s2", "n": 1}],
    "user": {"likes": ["jazz", "chess"], "age": 41, "none": {}},
    "v": [1, 2.5, None],
    "e": [],
}
LINE: dict[str, Any] = {
    "_label_cost": -1,
    "_label_probability": 0.8,
    "_label_Action": 2,
    "_labelIndex": 1,
    "Timestamp": "2021-02-04T16:31:29.2460000Z",
    "EventId": "e1",
    "a": [2, 1],
    "p": [0.8, 0.2],
    "c": {"GUser": {"id": "mk"}, "_multi": [{"TAction": {"topic": "politics"}}, {"TAction": {"topic": "food"}}]},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'from.db'}", lambda: TIME + timedelta(days=2))
    yield opened
    opened.close()


def decision(number: int, **more: Any) -> Decision:
    usual: dict[str, Any] = {
        "decision_id": f"personalizer:{number}",
        "time": TIME,
        "loop": "personalizer",
        "candidates": ("tea", "milk"),
        "slate": ("milk",),
        "propensities": (0.7,),
        "scores": (0.25,),
        "policy": "personalizer",
        "policy_version": "1a2b.f.3",
    }
    return Decision.model_validate(usual | more)


def exported(store: Store) -> list[str]:
    return list(export_lines(store, "personalizer", default_spec("personalizer"), Counter()))


def rejected(store: Store, line: Any) -> str:
    [(_, reason)] = import_lines(store, [json.dumps(line).encode()], "personalizer")[1]
    return reason


def test_lists_of_anything_come_back_and_vowpal_wabbit_reads_what_they_mean(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    said = Features(context=({"u": 1}, LISTS), items=((LISTS,), ({"hot": True},)))
    store.insert(
        [decision(0, features=said), decision(1, features=said, slots=(Slot(slot_id="s", features=(LISTS,)),))]
    )
    lines = exported(store)
    assert import_lines(empty, (line.encode() for line in lines), "personalizer")[1] == []
    assert [d for _, d in empty.decisions()] == [d for _, d in store.decisions()]
    for number, options in enumerate(("--cb_explore_adf", "--ccb_explore_adf --all_slots_loss")):
        path = tmp_path / f"{number}.dsjson"
        path.write_text(lines[number] + "\n")
        vw = vowpalwabbit.Workspace(f"--dsjson {options} --epsilon 0.1 -d {path} --quiet --strict_parse")
        assert vw.get_weighted_examples() == 1  # a line with a list that it does not read, it leaves out
        vw.finish()


def test_without_what_is_ours_the_features_are_still_the_same(store: Store, empty: Store) -> None:
    said = Features(context=(LISTS,), items=((LISTS,), ()))
    store.insert([decision(0, features=said)])
    row = json.loads(exported(store)[0])
    del row["raycommend"]
    assert import_lines(empty, [json.dumps(row).encode()], "personalizer")[1] == []
    [(_, found)] = empty.decisions()
    assert found.features is not None
    assert set(flatten(found.features.context)) == set(flatten((LISTS,)))
    assert set(flatten(found.features.items[0])) == set(flatten((LISTS,)))


def test_what_vowpal_wabbit_reads_is_written_as_it_was_said() -> None:
    as_said: list[dict[str, Any]] = [
        {"a": 1, "b": "x", "c": None, "d": {"e": [1, 2.5, None], "f": [{"g": 1}, {"g": True}]}},
        {},
        {"h": []},
    ]
    assert make_readable(as_said) == as_said
    assert make_readable([{"m": [7, "a", [True]], "n": {"t": ["b", "b"]}}]) == [
        {"n": {"t": "b"}}, {"m[0]": 7}, {"m": "a"}, {"m": True}
    ]  # fmt: skip


def nested(depth: int) -> Any:
    inner: Any = 1
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("c", "message"),
    [
        ({"x": 1e16}, "c: [1].x must be a number from -1e+15 to 1e+15, got 1e+16"),
        ({"_multi": [{}, {"A": {"t": [0, 1.7e308]}}]}, "c._multi[1]: [0].A.t[1] must be a number"),
        ({"x": {"y": 10**400}}, "x.y must be a number from -1e+15 to 1e+15, got an integer that no float holds"),
        ({"x": {"n" * 257: 1}}, "x has a name of 257 characters"),
        ({"x": [0] * 5000}, "brings the number of values above"),
        ({"x": nested(34)}, "is deeper than 33 objects and lists"),
    ],
)
def test_features_that_no_interface_lets_in_are_refused(empty: Store, c: dict[str, Any], message: str) -> None:
    assert message in rejected(empty, LINE | {"c": LINE["c"] | c})
    assert count_rows(empty)["decisions"] == 0


def test_own_lines_are_checked_too(store: Store, empty: Store) -> None:
    store.insert([decision(0, features=Features(items=((LISTS,), ()))), decision(1, context={"size": 1})])
    rows = [json.loads(line) for line in exported(store)]
    rows[0]["raycommend"]["features"]["items"] *= 2
    assert "must describe every candidate, got 4 for 2" in rejected(empty, rows[0])
    rows[0]["raycommend"]["features"]["items"] = [[{"a": 1e99}], []]
    assert "c._multi[0]: [0].a must be a number" in rejected(empty, rows[0])
    rows[1]["raycommend"]["decision"]["context"]["size"] = 10**16
    assert "context: [0].size must be a number" in rejected(empty, rows[1])


def test_strings_in_lists_are_imported_and_a_line_without_slots_is_refused(empty: Store) -> None:
    counts, wrong = import_lines(empty, (FAULTS / "02-string-list.dsjson").read_bytes().splitlines(), "personalizer")
    assert (counts["decisions"], wrong) == (2, [])
    [(_, first), _] = empty.decisions()
    assert first.features is not None
    assert first.features.context == ({"User": {"age": 30, "likes": ["jazz", "rock"]}},)
    counts, wrong = import_lines(empty, (FAULTS / "02-no-slots.dsjson").read_bytes().splitlines(), "personalizer")
    assert (counts["decisions"], wrong) == (0, [(1, "it has no slots: nothing was chosen")])
