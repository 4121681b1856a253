"""What is deleted from a file is gone from its bytes."""

import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from data.log.current.users import upsert_user
from data.log.erasures import erase_from_store
from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.log.tables import ERASURES
from data.schema import Feedback
from tests.support.records import FORGOTTEN, decision, event
from tests.support.rows import count_rows, raw_bytes


def fill(store: Store, seed: int) -> None:
    """Log rows of many sizes, theirs among others', so that pages are divided and cells move."""
    rng = random.Random(seed)
    for _ in range(60):
        records: list[Any] = []
        for _ in range(rng.randrange(1, 60)):
            who = FORGOTTEN if rng.random() < 0.3 else f"someone-{rng.randrange(1000)}"
            name = f"{rng.getrandbits(64):x}-{who}"
            context = {"page": "x" * rng.choice([0, 10, 500, 3_000, 9_000])}
            records.append(decision(name, who, slate="abcdefgh" * rng.randrange(1, 30), context=context))
            records.append(Feedback(feedback_id=f"{rng.getrandbits(64):x}{who}", decision_id=name, kind="view"))
            records.append(event(f"{rng.getrandbits(64):x}{who}", who, record={"c": "z" * rng.choice([0, 100, 2_000])}))
        rng.shuffle(records)
        store.insert(records)
        upsert_user(store, FORGOTTEN, {"me": FORGOTTEN * rng.randrange(1, 60)})
        upsert_user(store, f"someone-{rng.randrange(300)}", {"a": "b" * rng.randrange(200)})


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [1, 4])
def test_no_byte_of_him_is_left_in_the_database(store: Store, tmp_path: Path, seed: int) -> None:
    fill(store, seed)
    others = count_rows(store)["decisions"]
    assert FORGOTTEN.encode() in raw_bytes(tmp_path)
    counts = erase_from_store(store, FORGOTTEN)
    assert counts["decisions"] == counts["events"] == counts["feedback"] > 400
    assert FORGOTTEN.encode() not in raw_bytes(tmp_path)
    assert (tmp_path / "store.db-wal").stat().st_size == 0
    assert count_rows(store)["decisions"] == others - counts["decisions"] > 400
    assert all(d.user_id != FORGOTTEN for _, d in store.decisions())


def test_a_reader_in_the_way_is_an_error_and_running_again_completes_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert([decision("theirs")])
    monkeypatch.setattr("data.log.sqlite.scrub.EMPTYING_TIMEOUT_S", 0.1)
    with store.reading() as connection:
        connection.execute(sa.select(ERASURES)).all()
        with pytest.raises(StoreUnavailable, match=r"in use for 0\.1 s"):
            erase_from_store(store, FORGOTTEN)
    assert store.decision("theirs") is None
    assert set(erase_from_store(store, FORGOTTEN).values()) == {0}
    assert FORGOTTEN.encode() not in raw_bytes(tmp_path)
