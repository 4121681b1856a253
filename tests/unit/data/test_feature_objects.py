"""What may be said of a visit, a user and an item: what passes, what does not and why, at its bounds."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from data.feature_objects import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_NUMBER,
    MAX_VALUES,
    FeatureError,
    FeatureObject,
    FeatureObjectList,
    check_logged,
    check_object,
)


def nested(depth: int) -> Any:
    """A number within an object and so many more objects and lists."""
    inner: Any = 1
    for level in range(depth):
        inner = [inner] if level % 2 else {"n": inner}
    return {"outermost": inner}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"": "", "a": None, "b": [], "c": {}},
        {"tags": ["outdoor", "winter"], "mixed": [1, "a", True, None, {"b": [[2, "x"]]}]},
        {"least": -MAX_NUMBER, "most": MAX_NUMBER, "whole": 10**15, "small": 5e-324, "zero": -0.0},
        {"n" * MAX_NAME: "x" * 100_000, "漢字": "día 🎷"},
        {"v": list(range(MAX_VALUES - 1))},
        nested(MAX_DEPTH),
    ],
)
def test_what_passes_is_as_it_was(said: Any) -> None:
    assert TypeAdapter(FeatureObject).validate_python(said) == said
    assert TypeAdapter(FeatureObjectList).validate_python([None, said]) == [None, said]


@pytest.mark.parametrize(
    ("said", "where", "message"),
    [
        ({"a": {"b": [0, 1.7e308]}}, "a.b[1]", r"a\.b\[1\] must be a number from -1e\+15 to 1e\+15, got 1\.7e\+308"),
        ({"a": 10**15 + 1}, "a", "from -1e"),
        ({"a": [{"b": -1.0000000000000002e15}]}, "a[0].b", "from -1e"),
        ({"a": 10**5000}, "a", "got an integer that no float holds"),
        ({"a": float("nan")}, "a", "got nan"),
        ({"a": [[float("-inf")]]}, "a[0][0]", "got -inf"),
        ({"a": ["x", "\ud800"]}, "a[1]", "must be valid Unicode"),
        ({"a": {"\udfff": 1}}, "a", "must be valid Unicode"),
        ({"a": {"n" * (MAX_NAME + 1): 1}}, "a", "has a name of 257 characters, 'nnnnnnn"),
        ({"v": [None] * MAX_VALUES}, "v", "brings the number of values above 2,000"),
        (nested(MAX_DEPTH + 1), None, "is deeper than 32 objects and lists within each other"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_named(said: Any, where: str | None, message: str) -> None:
    with pytest.raises(FeatureError, match=message) as caught:
        check_object(said)
    assert where is None or caught.value.where == where
    for described, value in ((FeatureObject, said), (FeatureObjectList, [{"fine": 1}, said])):
        with pytest.raises(ValidationError, match=message):
            TypeAdapter(described).validate_python(value)


def test_a_list_of_objects_is_one_description() -> None:
    half: dict[str, Any] = {"v": [0] * (MAX_VALUES // 2)}
    with pytest.raises(ValidationError, match=r"\[1\]\.v brings the number of values above"):
        TypeAdapter(FeatureObjectList).validate_python([half, half])


def test_a_record_of_the_log_holds_a_context_and_a_user() -> None:
    most: dict[str, Any] = {"v": [0] * (MAX_VALUES - 1)}
    check_logged([{"context": check_object(most), "user": check_object(nested(MAX_DEPTH))}])
    with pytest.raises(FeatureError, match=r"\[1\]\.a must be a number"):
        check_logged([{}, {"a": 1e16}])
