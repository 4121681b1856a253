"""What stands in for rows is read back as it was written, and says who is forgotten to nobody."""

from pathlib import Path

import numpy as np
import pytest

from rl.online.snapshot import SnapshotError
from rl.online.steps import Remainder, Taught
from rl.policy.queries import Impressions
from rl.policy.sparse import Sparse
from rl.provenance.proof import FoldProof, begin_proof
from rl.provenance.remainders import RemainderReader, RemainderWriter, merge, to_arrays
from tests.support.clocks import Clock


def impressions(sparse: bool) -> Impressions:
    ids, values = np.array([[3, 0]]), np.array([[0.5, 0.0]])
    return Impressions(
        features=np.array([[0.1, -0.0, 1e-300]]),
        state=np.array([4]),
        items=np.array([7]),
        rewards=np.array([0.3]),
        counts=np.array([0.0]),
        squares=np.array([0.09]),
        sparse=Sparse(ids, values, ids[:, None], values[:, None]) if sparse else None,
    )


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    writer = RemainderWriter("f", tmp_path)
    policies = {
        "dense": Taught(impressions(False), set_aside=frozenset({9, 2})),
        "sparse": Taught(impressions(True)),
        "summed": Taught(state={"S": np.eye(2), "t": np.array(3)}, rows=17),
        "empty": Taught(set_aside=frozenset({1})),
    }
    writer.add(5, Remainder(policies))
    writer.add(8, Remainder({}, np.array([11, 13])))
    writer.close()
    reader = RemainderReader(tmp_path)
    assert (reader.fold_id, reader.at(6)) == ("f", None)
    five, eight = reader.at(5), reader.at(8)
    assert five is not None
    assert five.closed is None
    for name in ("dense", "sparse"):
        there, back = policies[name].impressions, five.policies[name].impressions
        assert there is not None
        assert back is not None
        for key, array in to_arrays(there).items():
            assert (array.dtype, array.tobytes()) == (to_arrays(back)[key].dtype, to_arrays(back)[key].tobytes())
    assert five.policies["dense"].set_aside == {2, 9}
    assert five.policies["summed"].rows == 17
    assert five.policies["summed"].state is not None
    np.testing.assert_array_equal(five.policies["summed"].state["S"], np.eye(2))
    assert five.policies["summed"].state["t"].shape == ()
    assert (five.policies["empty"].impressions, five.policies["empty"].state) == (None, None)
    assert eight is not None
    assert eight.closed is not None
    assert eight.closed.tolist() == [11, 13]
    (tmp_path / "00000.safetensors").unlink()
    with pytest.raises(SnapshotError, match="what remains of step 5"):
        RemainderReader(tmp_path).at(5)
    with pytest.raises(SnapshotError, match="does not hold remainders"):
        RemainderReader(tmp_path / "nowhere")


def test_those_of_several_users_are_one() -> None:
    one = Remainder({"a": Taught(rows=1)}, np.array([1, 2, 3]))
    other = Remainder({"a": Taught(rows=2), "b": Taught(rows=3)}, np.array([2, 3, 4]))
    both = merge(iter([one, other]))
    assert both is not None
    assert {name: taught.rows for name, taught in both.policies.items()} == {"a": 1, "b": 3}
    assert both.closed is not None
    assert both.closed.tolist() == [2, 3]
    assert merge(iter([])) is None


def test_a_proof_knows_its_user_and_what_it_covers() -> None:
    first = begin_proof("ann")
    assert (first.is_of("ann"), first.is_of("bob"), "ann" in first.model_dump_json()) == (True, False, False)
    assert first.covers("any", 5)  # nobody had learned from them
    until = Clock().now
    folds = {
        "old": FoldProof(through=10, until=until),
        "new": FoldProof(through=5, origin=("old", 10), until=until),
        "cut": FoldProof(through=5, origin=("old", 11), until=until),
    }
    proof = first.model_copy(update={"learned": True, "folds": folds})
    asked = [("old", 10), ("old", 11), ("new", 5), ("new", 6), ("cut", 1), ("gone", 0)]
    assert [proof.covers(*one) for one in asked] == [True, False, True, False, False, False]
