"""A customer is taken out of trained policies and derived tables; all others are answered as before."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.settings import Settings
from rl.artefacts.artefact import load_served, save
from rl.artefacts.erasure import erase_from_artefacts, without_customer
from rl.artefacts.shelf import load_shelved, shelve
from rl.encoders.customers import CustomerEncoder
from rl.encoders.visit import Visit
from tests.support.clocks import NOON
from tests.support.shops import POLICIES, save_policies, small_market, untrained

ENCODER = small_market()[1]
FORGOTTEN, OTHER = ENCODER.users[3], ENCODER.users[4]


def at(home: Path) -> Settings:
    return Settings(home=home, store=None, archive=None)


def asked(encoder: CustomerEncoder, user: str | None) -> list[np.ndarray]:
    query = encoder.query([Visit(user, NOON, encoder.items)])
    return [query.features, query.state, query.items]


def test_a_forgotten_customer_is_encoded_like_an_unknown_one_and_all_others_as_before() -> None:
    encoder = without_customer(ENCODER, FORGOTTEN)
    for user in (*ENCODER.users, None, "unknown"):
        before = asked(ENCODER, None if user == FORGOTTEN else user)
        for one, other in zip(asked(encoder, user), before, strict=True):
            np.testing.assert_array_equal(one, other)
    assert any(
        (one != other).any() for one, other in zip(asked(ENCODER, FORGOTTEN), asked(encoder, FORGOTTEN), strict=True)
    )
    assert len(encoder.pair_keys) < len(ENCODER.pair_keys)


def test_all_may_be_forgotten() -> None:
    encoder = ENCODER
    for user in ENCODER.users:
        encoder = without_customer(encoder, user)
    for one, other in zip(asked(encoder, FORGOTTEN), asked(ENCODER, None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_artefacts_forget_him_and_what_was_served_keeps_its_digest(tmp_path: Path) -> None:
    settings = at(tmp_path)
    save_policies(tmp_path, ENCODER)
    kept = shelve(tmp_path / "policies" / "rfm_bandit", settings)
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN) == {"artefacts": len(POLICIES) + 1, "transitions": 0}
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or f'"{FORGOTTEN}"'.encode() not in path.read_bytes()
    after = load_shelved(kept.digest, settings)
    assert after.digest == kept.digest
    np.testing.assert_array_equal(
        after.encoder.query([Visit(OTHER, NOON, after.encoder.items)]).features, asked(ENCODER, OTHER)[0]
    )
    assert load_served(tmp_path / "policies" / "rfm_bandit").digest != kept.digest
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN) == {"artefacts": 0, "transitions": 0}
    assert erase_from_artefacts(at(tmp_path), OTHER)["artefacts"] == len(POLICIES) + 1
    assert load_shelved(kept.digest, settings).digest == kept.digest


def test_a_replacement_that_was_killed_is_completed(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    save_policies(tmp_path, ENCODER)
    other = replace(untrained(ENCODER, "random"), encoder=without_customer(ENCODER, FORGOTTEN))
    save(other, policies / "random.new")
    (policies / "random").rename(policies / "random.old")  # and here it was killed
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN)["artefacts"] == len(POLICIES) - 1
    assert {path.name for path in policies.iterdir()} == set(POLICIES)
    assert FORGOTTEN not in load_served(policies / "random").encoder.users  # type: ignore[attr-defined]


def test_a_killed_replacement_of_what_was_served_is_completed(tmp_path: Path) -> None:
    save_policies(tmp_path, ENCODER)
    kept = shelve(tmp_path / "policies" / "random", at(tmp_path))
    (served,) = (tmp_path / "archive/served").iterdir()
    before = served.read_bytes()
    erase_from_artefacts(at(tmp_path), FORGOTTEN)
    served.write_bytes(before)  # it was killed before this was deleted
    os.utime(served, (0, 0))
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN) == {"artefacts": 0, "transitions": 0}
    assert not served.exists()
    assert FORGOTTEN not in load_shelved(kept.digest, at(tmp_path)).encoder.users  # type: ignore[attr-defined]


def test_an_old_folder_beside_the_new_one_goes(tmp_path: Path) -> None:
    save_policies(tmp_path, ENCODER)
    save(untrained(ENCODER, "random"), tmp_path / "policies" / "random.old")
    erase_from_artefacts(at(tmp_path), FORGOTTEN)
    assert {path.name for path in (tmp_path / "policies").iterdir()} == set(POLICIES)


def test_rows_about_him_go_from_derived_tables(tmp_path: Path) -> None:
    folder = tmp_path / "transitions"
    folder.mkdir()
    named = pa.table({"user_id": [FORGOTTEN, OTHER, None, FORGOTTEN], "reward": [1.0, 2.0, 3.0, 4.0]})
    pq.write_table(named, folder / "named.parquet")
    pq.write_table(pa.table({"items": [[1, 2]], "rewards": [1.0]}), folder / "numbers.parquet")
    before = (folder / "numbers.parquet").read_bytes()
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN) == {"artefacts": 0, "transitions": 2}
    assert pq.read_table(folder / "named.parquet").to_pydict() == {"user_id": [OTHER, None], "reward": [2.0, 3.0]}
    assert (folder / "numbers.parquet").read_bytes() == before
    assert len(list(folder.iterdir())) == 2
    assert erase_from_artefacts(at(tmp_path), FORGOTTEN) == {"artefacts": 0, "transitions": 0}
    assert erase_from_artefacts(at(tmp_path / "nowhere"), FORGOTTEN) == {"artefacts": 0, "transitions": 0}
