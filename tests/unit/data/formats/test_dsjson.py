"""DSJSON: what is exported is what is imported, VW reads it, others' lines come in, and what is wrong is said."""

import bz2
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import vowpalwabbit

from data.attribution.join import attribute
from data.dsjson import (
    LISTED,
    default_spec,
    export_lines,
    import_lines,
    main,
)
from data.errors import DataError
from data.formats.compressed import read_lines
from data.formats.dsjson.lines import from_line
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Features, Feedback, Slot, Version
from tests.support.clocks import Clock
from tests.support.rows import feedback_rows

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = default_spec("personalizer")
FEATURES = Features(
    context=({"user": "Ann", "age": 33}, {"device": {"os": "ios", "sizes": [1, 2.5]}}),
    items=(({"hot": True},), ({"hot": False}, {"taste": {"sweet": 0.5}}), ()),
)


@pytest.fixture
def clock() -> Clock:
    return Clock(TIME)


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
    clock.now = TIME + timedelta(seconds=60)
    store.insert([reward(0, 1.0), reward(0, 0.5), reward(2, -0.25), reward(3, 0.125, item_id="foot")])
    clock.now = TIME + timedelta(seconds=900)
    store.insert([reward(1, 1.0)])
    clock.now = TIME + timedelta(days=2)


def read(row: dict[str, Any], **more: Any) -> tuple[Decision, list[Feedback]]:
    """Read a line that is of a decision."""
    found = from_line(json.dumps(row), **more)
    assert found is not None
    assert found.decision is not None
    return found.decision, list(found.feedback)


def exported(store: Store) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(export_lines(store, "personalizer", SPEC, counts)), counts


def rewards(store: Store, spec: RewardSpec = SPEC) -> list[tuple[float, ...]]:
    decisions = [found for _, found in store.decisions()]
    feedback = store.feedback_of([found.decision_id for found in decisions])
    return [attribute(d, feedback.get(d.decision_id, []), spec, store.now()).rewards for d in decisions]


def test_what_is_exported_is_what_is_imported(store: Store, clock: Clock, empty: Store) -> None:
    filled(store, clock)
    lines, counts = exported(store)
    assert counts == {"exported": 5, "pending": 1}
    found, rejected = import_lines(empty, (line.encode() for line in lines), "personalizer")
    assert (found, rejected) == (Counter({"decisions": 5, "feedback": 5}), [])
    assert [d for _, d in empty.decisions()] == [d for _, d in store.decisions()][:5]
    assert [f for _, f in feedback_rows(empty)] == sorted(
        (f for _, f in feedback_rows(store)), key=lambda f: f.decision_id
    )
    assert rewards(empty) == [(1.0,), (0.0,), (-0.25,), (0.0, 0.125), (0.0, 0.0)]
    again, _ = import_lines(empty, (line.encode() for line in lines), "personalizer")
    assert again == Counter({"known": 10})


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
        (found, feedback), original = read(row), store.decision(f"personalizer:{number}")
        assert original is not None
        for name in ("decision_id", "time", "candidates", "slate", "propensities"):
            assert getattr(found, name) == getattr(original, name), name
        if number in (0, 1):
            assert found.features == original.features
            assert found.probabilities == original.probabilities
        if number == 3:
            assert [slot.features for slot in found.slots] == [({"size": "large"},), ()]
        # what came too late is seen in the line of 1, but is worth nothing there
        assert [item.value for item in feedback] == [[1.0], [0.0], [-0.25], [0.125], []][number]


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
    d, feedback = read(VW_LINE)
    assert d.decision_id == "personalizer:e1"
    assert d.time == datetime(2021, 2, 4, 16, 31, 29, 246000, tzinfo=UTC)
    assert (d.candidates, d.slate, d.propensities) == (("politics", "2"), ("2",), (0.8,))
    assert d.probabilities == (0.2, 0.8)
    assert d.features == Features(
        context=({"GUser": {"id": "mk"}}, {"lines": {"n": 1}}, {"hour": 9}),
        items=(({"TAction": {"topic": "politics"}},), ({"TAction": {"topic": "food"}},)),
    )
    [item] = feedback
    assert (item.kind, item.value, item.item_id, item.received_at) == ("reward", 1.0, "2", d.time)


SLOTS: dict[str, Any] = {
    "Timestamp": "2026-11-20T10:00:00Z",
    "c": {"_multi": [{"_tag": "tea"}, {"_tag": "juice"}, {"_tag": "milk"}], "_slots": [{"_id": 7, "_inc": [1, 2]}, {}]},
    "_outcomes": [
        {"_label_cost": 2, "_a": 1, "_p": 0.25, "_o": [{"v": -2, "EventId": "within"}]},
        {"_id": "low", "_label_cost": 0, "_a": [0, 2], "_p": [0.75, 0.25], "_o": []},
    ],
    "_ba": [2, 0],
}


def test_a_line_of_slots() -> None:
    d, feedback = read(SLOTS)
    assert d.decision_id == "personalizer:within"  # the id that its observations have
    assert (d.slate, d.propensities) == (("juice", "tea"), (0.25, 0.75))
    assert d.slots == (Slot(slot_id="7", exclude=("tea",), baseline="milk"), Slot(slot_id="low", baseline="tea"))
    assert [(item.item_id, item.value) for item in feedback] == [("7", -2.0)]


def test_ids_of_any_type_are_kept_and_told_apart() -> None:
    ids = [0, "0", 1.5, True, "", "0#2", None]
    actions: list[Any] = [{"i": {"id": one}} for one in ids]
    d, _ = read(VW_LINE | {"c": {"_multi": actions}, "_labelIndex": 1, "a": [1], "p": [1]})
    # what was chosen keeps its name, another of the same name gets its number
    assert d.candidates == ("0#1", "0", "1.5", "true", "5", "0#2", "7")
    assert (d.slate, d.probabilities) == (("0",), ())


@pytest.mark.parametrize(
    ("a", "p", "probabilities"),
    [
        ([2, 1], [0.8, 0.2], (0.2, 0.8)),
        ([1, 0], [0.8, 0.2], (0.2, 0.8)),  # some files count from 0
        ([2, 1], [0.8000001, 0.2], (0.2, 0.8000001)),
        ([2, 1], ["NaN", "NaN"], ()),
        ([2, 1], [0.8, 10**400], ()),
        ([2, 1], [0.8, 0.8], ()),  # it adds up to more than 1
        ([2, 1], [0.2, 0.8], ()),  # of what was chosen the label says another probability
        ([2, 2], [0.8, 0.2], ()),
        ([2], [0.8], ()),
    ],
)
def test_a_distribution_is_kept_where_it_is_one(a: list[int], p: list[Any], probabilities: tuple[float, ...]) -> None:
    assert read(VW_LINE | {"a": a, "p": p})[0].probabilities == probabilities


def test_what_begins_with_an_underscore_is_no_feature_and_of_a_text_its_words_are() -> None:
    c = {
        "_hidden": {"x": 1},
        "U": {"_ua": "long", "os": {"_v": 1, "name": "x"}, "_text": "two words"},
        "_multi": [{}, {}],
    }
    features = read(VW_LINE | {"c": c})[0].features
    assert features is not None
    assert features.context == ({"U": {"os": {"name": "x"}, "_text": ["two", "words"]}},)


def test_lines_without_an_id_are_as_many_decisions_as_there_are_lines(empty: Store) -> None:
    line = json.dumps(without("EventId", "o")).encode()
    assert import_lines(empty, [line, line, line], "personalizer")[0] == Counter({"decisions": 3, "feedback": 3})
    assert import_lines(empty, [line, line, line, line], "personalizer")[0] == Counter(
        {"decisions": 1, "feedback": 1, "known": 6}
    )


def test_a_line_of_another_content_under_a_known_id_is_rejected_and_the_log_stays_as_it_is(empty: Store) -> None:
    other = VW_LINE | {"_label_probability": 0.5, "p": [0.5, 0.5], "_label_cost": -1}
    counts, rejected = import_lines(empty, [json.dumps(line).encode() for line in (VW_LINE, other)], "personalizer")
    assert counts == Counter({"decisions": 1, "feedback": 1, "known": 1, "rejected": 1})
    assert rejected == [(2, "the log has another decision of this id, which stays as it is")]
    [(_, kept)] = empty.decisions()
    assert kept.propensities == (0.8,)


HOSTILE: list[Any] = [
    *(None, True, "", "x", "NaN", "2021-02-04", 0, -1, 2, 0.5, -0.0, 1e308, 10**400, float("nan"), float("inf")),
    *([], [[]], [1], [{}], {}, {"": 1}, {"_id": {}}, "\n", "\ud800", "é" * 400, {"a": {"b": [{"c": [1, "x"]}]}}),
]


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """Return a value with one part of it replaced or removed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return HOSTILE[rng.integers(len(HOSTILE))]
    copy = value.copy()
    places = list(copy) if isinstance(copy, dict) else range(len(copy))
    place = places[rng.integers(len(places))]
    if rng.random() < 0.15:
        del copy[place]
    else:
        copy[place] = mutated(copy[place], rng)
    return copy


@pytest.mark.heavy
def test_whatever_is_in_a_line_it_is_read_or_refused_and_what_is_read_is_exported(empty: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    extra = {"pdrop": 0.5, "_skipLearn": False, "_ba": [0, 1], "_type": "cb"}
    dangling = {"RewardValue": 1, "EnqueuedTimeUtc": "2021-02-04", "EventId": "d", "Observations": [{"v": 1}]}
    given = [VW_LINE | extra, SLOTS | extra, dangling]
    named = [given[n % 3] | {"EventId": f"e-{n}"} for n in range(3_000)]
    lines = [json.dumps(mutated(mutated(row, rng), rng)).encode() for row in named]
    counts, rejected = import_lines(empty, lines, "personalizer")
    assert counts["rejected"] > 300
    assert counts["decisions"] > 300
    assert counts["feedback"] > 300
    assert all(reason for _, reason in rejected)
    export_counts: Counter[str] = Counter()
    texts = list(export_lines(empty, "personalizer", None, export_counts))
    assert export_counts["exported"] + export_counts["pending"] == counts["decisions"]
    for text in texts:
        json.loads(text, parse_constant=pytest.fail)
    again = Store.open(f"sqlite:///{tmp_path / 'again.db'}")
    assert import_lines(again, [text.encode() for text in texts], "personalizer")[0]["decisions"] == len(texts)
    again.close()


def test_of_many_rejected_lines_the_first_are_named_and_all_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, url = tmp_path / "in.dsjson", f"sqlite:///{tmp_path / 'log.db'}"
    given.write_text("\n".join([json.dumps(VW_LINE), *["nonsense"] * 50]))
    assert main(["import", str(given), "--store", url]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out)["rejected"] == 50
    lines = done.err.splitlines()
    assert (len(lines), lines[0][:8], lines[-1]) == (LISTED + 1, "line 2: ", "and 30 more")


FAULTS = Path(__file__).parents[3] / "faults"
_Line = tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...], tuple[float, ...]]
TEA = ("tea", "juice")


@pytest.mark.parametrize(
    ("name", "lines"),
    [  # candidates, slate, propensities, rewards
        ("08-no-offset.dsjson", [(TEA, ("tea",), (0.5,), (1.0,))]),
        ("09-action-id-zero.dsjson", [(("0", "5"), ("0",), (0.5,), (1.0,)), (("0", "1"), ("0",), (0.5,), (1.0,))]),
        ("10-slot-names.dsjson", [(TEA, TEA, (0.5, 1.0), (1.0, 0.0))]),
        ("11-dangling.dsjson", [(TEA, ("tea",), (0.5,), (1.0,))]),
        ("14-log.dsjson.gz", [(TEA, ("tea",), (0.5,), (1.0,))]),
        ("14-bom.dsjson", [(TEA, ("tea",), (0.5,), (1.0,))]),
        ("14-p-float32.dsjson", [(TEA, ("tea",), (1.0,), (1.0,))]),
        ("14-p-nan.dsjson", [(TEA, ("tea",), (0.5,), (1.0,))]),
        ("14-same-id-twice.dsjson", [(("news-1", "news-2", "news-1#3"), ("news-1",), (0.4,), (1.0,))]),
    ],
)
def test_files_that_people_have_are_read(
    name: str, lines: list[_Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is imported, exported again as JSON, and that is imported as the same."""
    url, again = (f"sqlite:///{tmp_path / file}" for file in ("log.db", "again.db"))
    assert main(["import", str(FAULTS / name), "--store", url]) == 0
    assert main(["export", str(tmp_path / "out.dsjson"), "--store", url]) == 0
    assert main(["import", str(tmp_path / "out.dsjson"), "--store", again]) == 0
    for text in (tmp_path / "out.dsjson").read_text().splitlines():
        json.loads(text, parse_constant=pytest.fail)
    capsys.readouterr()
    for where in (url, again):
        store = Store.open(where)
        found = [decision for _, decision in store.decisions()]
        seen = [(d.candidates, d.slate, d.propensities, r) for d, r in zip(found, rewards(store), strict=True)]
        assert seen == lines
        if name.startswith("10"):
            assert [slot.slot_id for slot in found[0].slots] == ["hero", "footer"]
        if name.startswith("08"):
            assert found[0].time == datetime(2026, 11, 20, 10, 0, 0, 172627, tzinfo=UTC)
        store.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("02-no-slots.dsjson", "line 1: it has no slots: nothing was chosen"),
        ("08-no-timestamp.dsjson", "line 1: it has no Timestamp: `--time` gives such lines one"),
        ("13-slates.dsjson", "line 1: it is of slates (actions with _slot_id), which are not read"),
    ],
)
def test_where_nothing_is_imported_one_message_says_why(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(FAULTS / name), "--store", f"sqlite:///{tmp_path / 'log.db'}"]) == 2
    done = capsys.readouterr()
    assert (done.out, len(done.err.splitlines())) == ("", 1)
    assert message in done.err


def test_a_line_without_a_time_is_imported_with_one_that_is_given(tmp_path: Path) -> None:
    url, given = f"sqlite:///{tmp_path / 'log.db'}", str(FAULTS / "08-no-timestamp.dsjson")
    assert main(["import", given, "--store", url, "--time", "2026-03-01T12:00"]) == 0
    store = Store.open(url)
    assert [decision.time for _, decision in store.decisions()] == [TIME]
    store.close()


def test_a_line_stands_for_those_like_it_that_were_left_out(empty: Store, tmp_path: Path) -> None:
    """Vowpal Wabbit gives a line a weight of 1 / (1 - pdrop), and one with a pdrop of 1 none."""
    counts, rejected = import_lines(empty, (FAULTS / "12-pdrop.dsjson").read_bytes().splitlines(), "personalizer")
    assert counts == Counter({"decisions": 1, "feedback": 1, "rejected": 1})
    assert rejected == [(2, "its pdrop is 1: all such lines were left out, so it has no weight")]
    [(_, kept)] = empty.decisions()
    assert kept.weight == pytest.approx(10.0, rel=1e-12)
    [line] = exported(empty)[0]
    assert json.loads(line)["pdrop"] == pytest.approx(0.9, rel=1e-12)
    without_ours = {name: value for name, value in json.loads(line).items() if name != "raycommend"}
    for row in (json.loads(line), without_ours):
        assert read(row)[0].weight == pytest.approx(10.0, rel=1e-12)
    path = tmp_path / "log.dsjson"
    path.write_text(line + "\n")
    vw = vowpalwabbit.Workspace(f"--dsjson --cb_explore_adf -d {path} --quiet")
    assert vw.get_weighted_examples() == pytest.approx(10.0, rel=1e-6)
    vw.finish()


@pytest.mark.parametrize("pdrop", [-0.1, 1.5, "NaN", True, 10**400])
def test_what_is_no_share_of_lines_left_out_is_refused(pdrop: object) -> None:
    with pytest.raises(DataError, match="pdrop must be"):
        from_line(json.dumps(VW_LINE | {"pdrop": pdrop}))


def test_a_reward_without_its_decision_is_an_orphan_until_that_comes(empty: Store) -> None:
    counts, rejected = import_lines(empty, (FAULTS / "11-dangling.dsjson").read_bytes().splitlines(), "personalizer")
    assert (counts, rejected) == (Counter({"decisions": 1, "feedback": 2, "orphans": 1, "passed_over": 1}), [])
    late = VW_LINE | {"EventId": "late-1", "Timestamp": "2026-11-20T10:00:00Z", "o": [], "_label_cost": 0}
    import_lines(empty, [json.dumps(late).encode()], "personalizer")
    assert rewards(empty) == [(1.0,), (1.0,)]


TWO = "".join(json.dumps(VW_LINE | {"EventId": f"Jörg-{number}"}, ensure_ascii=False) + "\r\n" for number in range(2))


@pytest.mark.parametrize(
    "content",
    [
        TWO.encode("utf-8-sig"),
        TWO.encode("utf-16"),
        TWO.encode("utf-16-be"),
        b"\xfe\xff" + TWO.encode("utf-16-be"),
        gzip.compress(TWO.encode(), mtime=0),
        gzip.compress(TWO.encode()[:500], mtime=0)
        + gzip.compress(TWO.encode()[500:], mtime=0),  # as `cat a.gz b.gz` writes
        bz2.compress(TWO.encode("utf-16")),
        pa.compress(TWO.encode(), "zstd", asbytes=True),
    ],
)
def test_a_file_is_read_however_it_is_encoded_and_compressed(content: bytes, empty: Store) -> None:
    lines = read_lines(io.BufferedReader(io.BytesIO(content)))
    counts, rejected = import_lines(empty, lines, "personalizer")
    assert (counts, rejected) == (Counter({"decisions": 2, "feedback": 2}), [])
    assert [decision.decision_id[-6:] for _, decision in empty.decisions()] == ["Jörg-0", "Jörg-1"]


def test_what_is_wrong_with_a_file_is_said_and_what_was_read_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, url = tmp_path / "in.gz", f"sqlite:///{tmp_path / 'log.db'}"
    noise = "".join(f"{hashlib.sha256(bytes([n])).hexdigest()}\n" for n in range(250))
    path.write_bytes(gzip.compress((TWO + noise).encode())[:-300])
    assert main(["import", str(path), "--store", url]) == 2
    assert re.search(
        r"in\.gz: it cannot be read further than line \d+: .*the lines before are in", capsys.readouterr().err
    )
    store = Store.open(url)
    assert len(store.decisions()) == 2
    store.close()


def test_a_line_that_is_too_long_is_rejected_and_the_next_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.compressed.LONGEST", 8)
    found = list(read_lines(io.BufferedReader(io.BytesIO(b"1234567\n12345678\nab\n" + b"x" * 50 + b"\n\ncd"))))
    assert [str(line) if isinstance(line, DataError) else line for line in found] == [
        b"1234567", "it is longer than 8 bytes", b"ab", "it is longer than 8 bytes", b"", b"cd",
    ]  # fmt: skip


def test_the_rewards_of_an_export_are_those_that_the_loop_learns(store: Store, clock: Clock) -> None:
    """Of each objective those of its last fold; without a fold the loop's usual ones."""
    filled(store, clock)

    def costs() -> list[float]:
        lines = export_lines(store, "personalizer", None, Counter())
        return [json.loads(line).get("_label_cost") for line in lines][:3]

    assert costs() == [-1.0, 0.0, 0.25]
    spec = {"reward": RewardSpec(weights={"reward": 2.0}, default=-0.5, aggregation="sum").model_dump(mode="json")}
    store.insert(
        [
            Version(
                version_id="f.0", loop="personalizer", objective="default", fold_id="f", number=0, decision_seq=0,
                feedback_seq=0, as_of=TIME, caught_up=False, begins={"policies": {}, "spec": spec},
            )
        ]
    )  # fmt: skip
    assert costs() == [-3.0, 0.5, 0.5]


def test_a_skipped_line_waits_to_be_activated_and_one_without_outcome_has_no_feedback() -> None:
    found, feedback = read(VW_LINE | {"_skipLearn": True, "o": [], "_label_cost": 0}, loop="v1")
    assert (found.decision_id, found.deferred, feedback) == ("e1", True, [])
    shown = {"v": 1.0, "EventId": "e1", "ActionTaken": True}
    assert read(VW_LINE | {"DeferredAction": True})[0].deferred
    assert not read(VW_LINE | {"DeferredAction": True, "o": [shown]})[0].deferred


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
        (json.dumps(without("Timestamp")), "no Timestamp"),
        (
            json.dumps(VW_LINE | {"Timestamp": "soon"}),
            "Timestamp must be a time such as 2021-02-04T16:31:29Z, got 'soon'",
        ),
        (json.dumps(VW_LINE | {"Timestamp": 1612456289}), "Timestamp must be a time such as"),
        (json.dumps(without("_labelIndex", "_label_Action")), "no label"),
        (json.dumps(without("_label_probability")), "no _label_probability"),
        (json.dumps(VW_LINE | {"_labelIndex": 2}), "one of the 2 of c._multi, got index 2"),
        (json.dumps(VW_LINE | {"_label_probability": 0}), r"propensities must be in \(0, 1\]"),
        (json.dumps(VW_LINE | {"_label_probability": 1.1}), r"propensities must be in \(0, 1\]"),
        (json.dumps(VW_LINE | {"_label_probability": "NaN"}), "the probability .* must be a finite number, got 'NaN'"),
        (json.dumps(VW_LINE | {"_label_cost": "NaN"}), "_label_cost must be a finite number, got 'NaN'"),
        (json.dumps(VW_LINE | {"_label_cost": 10**400}), "_label_cost must be a finite number"),
        (json.dumps(VW_LINE | {"_labelIndex": 10**400}), "one of the 2 of c._multi"),
        (json.dumps(VW_LINE | {"_skipLearn": "false"}), "_skipLearn must be true or false, got 'false'"),
        (json.dumps(VW_LINE | {"_outcomes": 3}), "no _outcomes"),
        (json.dumps(SLOTS | {"_outcomes": []}), "it has no slots"),
        (json.dumps(SLOTS | {"_outcomes": [{"_a": 0, "_p": 1}] * 2}), r"_outcomes\[0\] has no _label_cost"),
        (json.dumps(VW_LINE | {"_label_ca": {"action": 1.5}}), "it is of a continuous action"),
        (
            json.dumps(VW_LINE | {"o": [{"v": {"v=click": 1}, "_definitely_bad": False}]}),
            "interaction-grounded learning",
        ),
        (json.dumps({"RewardValue": 1.0}), "no EnqueuedTimeUtc"),
        (json.dumps({"RewardValue": 1.0, "EnqueuedTimeUtc": "2021-02-04"}), "no EventId"),
        (json.dumps({"RewardValue": None, "EnqueuedTimeUtc": "2021-02-04", "EventId": "e"}), "RewardValue must be"),
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
    assert Counter(json.loads(done.out)) == Counter({"decisions": 2, "feedback": 2, "rejected": 1})
    assert done.err.startswith("line 3: not JSON")
    assert main(["export", str(tmp_path / "out.dsjson"), "--store", url]) == 0
    assert json.loads(capsys.readouterr().out) == {"exported": 2, "pending": 0, "empty": 0}
    first = json.loads((tmp_path / "out.dsjson").read_text().splitlines()[0])
    assert (first["_label_cost"], first["EventId"]) == (-1.0, "e1")
    assert main(["import", str(tmp_path / "none"), "--store", url]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "wrong.json").write_text("{}x")
    assert main(["export", "-", "--store", url, "--reward", str(tmp_path / "wrong.json")]) == 2
    said = capsys.readouterr().err
    assert "wrong.json is no reward specification: Invalid JSON" in said
    assert len(said.splitlines()) == 1


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
