"""The draws of a decision, made of its id, so that the decision can be made again."""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray


def generator(key: str) -> np.random.Generator:
    """Return the generator of a decision's draws."""
    bits = np.random.PCG64(_Digest(key))  # type: ignore[arg-type]  # any ISeedSequence will do, its stubs say less
    return np.random.Generator(bits)


class _Digest(ISeedSequence):
    """The bits that a generator begins with: a key's hash as it is.

    Gains 8 % of the processor time of `POST /v1/recommend`, in-process, 50 candidates, linear policy (median of 500
    interleaved bursts; alone 3 us instead of 36), over `numpy.random.PCG64(int)`, which is the plain way (numpy 2.4.6).
    No switch turns it off: which numbers are drawn is part of what an audit makes again.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        """See `numpy.random.SeedSequence`."""
        words = np.dtype(dtype)
        bits = blake2b(self._key, digest_size=n_words * words.itemsize, person=b"raycommend draws").digest()
        return np.frombuffer(bits, words.newbyteorder("<")).astype(words, copy=False)
