"""One raw value as an id, a list of ids, or a number. Plain Python.

None and NaN are missing values. Everything raises `NetworkError` with what is needed and what was got.
"""

import math
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from rl.networks.description.inputs import (
    CategoricalInput,
    Embedding,
    Input,
    NetworkError,
    NumericInput,
    SequenceInput,
    TagsInput,
    TextInput,
)
from rl.networks.description.nodes import ClassOutput, Output, QOutput

_WORD = re.compile(r"\w+")
_UNSPACED = (
    r"\u3005-\u3007\u3041-\u3096\u309b-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # marks of repetition, hiragana, katakana
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Chinese and Japanese characters: those texts have no spaces between words."""
_PIECE = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}]+")
_LARGEST = 1e38  # what float32 can hold, with room


def value_reader(node: Input, embeddings: Mapping[str, Embedding]) -> Callable[[Any], Any]:
    """Return what turns one value of an input's column into its row of the tensor."""
    if isinstance(node, NumericInput):
        return lambda value: _numbers(value, node.width)
    table = embeddings[node.embedding]
    known = {} if isinstance(table.values, int) else {value: 1 + i for i, value in enumerate(table.values)}

    def to_id(value: Any) -> int:
        if _missing(value):
            return 0
        if known:
            return known.get(_text(value), 0)
        # crc32 gives the same id in every process and on every machine, which Python's own hash does not
        return 1 + zlib.crc32(value.encode()) % (table.size - 1) if isinstance(value, str) else _id(value, table.size)

    match node:
        case CategoricalInput():
            return to_id
        case TextInput():
            return lambda text: _pad(map(to_id, words(text, known)[: node.length]), node.length)
        case TagsInput():
            return lambda tags: _pad(sorted({to_id(tag) for tag in _list(tags)} - {0})[: node.length], node.length)
        case SequenceInput():
            return lambda items: _pad(map(to_id, _list(items)[-node.length :]), node.length)


def target_reader(output: Output) -> Callable[[Any], float]:
    """Return what turns one value of an output's column into its target."""
    if isinstance(output, ClassOutput):
        return lambda value: _position(value, output.classes)
    return _yes_or_no if output.kind == "binary" else _number


def action_reader(output: QOutput) -> Callable[[Any], int]:
    """Return what turns one value of the column of actions taken into the number of the action."""
    return lambda value: _position(value, output.actions)


def words(text: Any, known: Collection[str] = ()) -> list[str]:
    """Split a text into its words in lower case: runs of letters, digits and underscores of any language.

    Chinese and Japanese texts have no spaces: there each character is a word, unless the whole run is a known one.
    """
    runs: list[str] = [] if _missing(text) else _WORD.findall(_text(text).lower())
    return [piece for run in runs for piece in ([run] if run in known else _PIECE.findall(run))]


def plain(value: Any) -> Any:
    """Return a value as Python has it: NumPy's scalars and arrays, and decimals, also those in a list."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, Real) and math.isnan(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NetworkError(f"needs a string, got {value!r}")
    return value


def _list(value: Any) -> list[Any]:
    if _missing(value):
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):  # a string's letters are no list of values
        raise NetworkError(f"needs a list, got {value!r}")
    return list(value)


def _pad(ids: Iterable[int], length: int) -> list[int]:
    given = list(ids)
    return given + [0] * (length - len(given))


def _number(value: Any) -> float:
    if _missing(value):
        return math.nan
    if not isinstance(value, Real) or abs(float(value)) > _LARGEST:
        raise NetworkError(f"needs a number up to {_LARGEST:g}, got {value!r}")
    return float(value)


def _numbers(value: Any, width: int) -> list[float]:
    if _missing(value):
        return [math.nan] * width
    several = isinstance(value, Iterable) and not isinstance(value, str)
    given = [_number(one) for one in (value if several else [value])]
    if len(given) != width:
        raise NetworkError(f"needs {width} numbers, got {len(given)}")
    return given


def _id(value: Any, size: int) -> int:
    """Return a whole number in [0, size); a column of integers with gaps comes as floats."""
    whole = value.is_integer() if isinstance(value, float) else isinstance(value, Integral)
    if isinstance(value, bool) or not whole:
        raise NetworkError(f"needs a whole number or a string, got {value!r}")
    if not 0 <= int(value) < size:
        raise NetworkError(f"needs a number from 0 to {size - 1}, got {value!r}")
    return int(value)


def _position(value: Any, several: int | tuple[str, ...]) -> int:
    """Return the number of a class or an action, -1 where it is missing."""
    if _missing(value) or (not isinstance(value, str) and value == -1):
        return -1
    if isinstance(value, str):
        if isinstance(several, int) or value not in several:
            names = f"a number from 0 to {several - 1}" if isinstance(several, int) else f"one of {', '.join(several)}"
            raise NetworkError(f"needs {names}, got {value!r}")
        return several.index(value)
    return _id(value, several if isinstance(several, int) else len(several))


def _yes_or_no(value: Any) -> float:
    number = _number(value)
    if number not in (0.0, 1.0, -1.0) and not math.isnan(number):
        raise NetworkError(f"needs true, false, 1 or 0, got {value!r}")
    return math.nan if number == -1.0 else number
