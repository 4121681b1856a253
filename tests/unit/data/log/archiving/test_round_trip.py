"""Whatever a record says, it says the same bit by bit when it has been archived."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from data.log.archived.columns import schema, select, to_arrow, to_records
from data.log.store import Store
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, REJECTS, Log
from data.schema import AnyRecord, Decision, Event, Features, Feedback, Reject, Rules, Slot
from tests.support.archives import archive
from tests.support.rows import rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = TEXTS.filter(bool)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), FLOATS, st.booleans(), st.none())
OBJECTS = st.dictionaries(TEXTS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3)
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))
CONTEXTS = st.dictionaries(TEXTS.filter(lambda name: name != "time"), SCALARS, max_size=3)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    candidates = draw(st.lists(IDS, max_size=4).map(tuple))
    slots = len(candidates) and draw(st.integers(0, len(candidates)))
    numbers = st.lists(FLOATS, min_size=slots, max_size=slots).map(tuple)
    share = st.floats(1e-300, 1.0)
    described = draw(st.booleans())
    items = tuple(draw(st.lists(OBJECTS, max_size=2).map(tuple)) for _ in candidates)
    return Decision(
        decision_id=draw(IDS),
        time=draw(TIMES),
        loop=draw(IDS),
        user_id=draw(st.none() | IDS),
        node_id=draw(st.none() | IDS),
        context=draw(CONTEXTS),
        candidates=candidates,
        slate=candidates[:slots],
        propensities=draw(st.lists(share, min_size=slots, max_size=slots).map(tuple)),
        scores=draw(numbers),
        policy=draw(IDS),
        policy_version=draw(TEXTS),
        mode=draw(st.sampled_from(["explore", "exploit", "apprentice", "log"])),
        objective=draw(IDS),
        deferred=draw(st.booleans()),
        weight=draw(st.floats(1, 1e6)),
        probabilities=tuple(draw(FLOATS) for _ in candidates) if draw(st.booleans()) else (),
        features=Features(context=(draw(OBJECTS),), items=items) if described else None,
        rules=draw(st.none() | st.builds(Rules, boosts=st.dictionaries(IDS, FLOATS, max_size=2))),
        slots=draw(st.lists(st.builds(Slot, slot_id=IDS, exclude=st.lists(IDS, max_size=2).map(tuple)), max_size=2)),
        request=draw(st.none() | TEXTS),
    )


FEEDBACKS: SearchStrategy[Feedback] = st.builds(
    Feedback,
    feedback_id=IDS,
    decision_id=IDS,
    loop=IDS,
    item_id=st.none() | IDS,
    kind=IDS,
    value=st.floats(-1e9, 1e9),
    time=st.none() | TIMES,
    received_at=st.none(),
)
EVENTS_SENT: SearchStrategy[Event] = st.builds(
    Event,
    node_id=IDS,
    event_id=IDS,
    user_id=st.none() | IDS,
    item_id=st.none() | IDS,
    time=st.none() | TIMES,
    outcome=st.none() | FLOATS,
    record=CONTEXTS,
    received_at=st.none(),
)
REJECTS_SENT: SearchStrategy[Reject] = st.builds(
    Reject,
    node_id=IDS,
    reject_id=IDS,
    source=TEXTS,
    row=st.integers(0, 2**62),
    rule=TEXTS,
    column=st.none() | TEXTS,
    value=st.none() | TEXTS,
    record=CONTEXTS,
    received_at=st.none(),
)


@pytest.mark.heavy
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(decisions(), FEEDBACKS, EVENTS_SENT, REJECTS_SENT), min_size=1, max_size=8))
def test_records_of_any_kind_are_the_same_in_arrow(records: list[AnyRecord]) -> None:
    with TemporaryDirectory() as folder, closing(Store.open(f"sqlite:///{folder}/store.db")) as store:
        store.insert(records)
        logs: tuple[Log[AnyRecord], ...] = (DECISIONS, FEEDBACK, EVENTS, REJECTS)  # type: ignore[assignment]
        for log in logs:
            with store.reading() as connection:
                table = to_arrow(log, connection.execute(select(log).order_by(log.table.c.seq)).all())
            assert to_records(log, table) == rows(store, log)
            assert [repr(row) for row in to_records(log, table)] == [repr(row) for row in rows(store, log)]
            assert table.schema.names == [name for name in schema(log).names if name != "decision_seq"]


@pytest.mark.heavy
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(decisions(), min_size=1, max_size=8, unique_by=lambda decision: decision.decision_id))
def test_decisions_of_any_time_come_back_from_the_archive(made: list[Decision]) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with TemporaryDirectory() as folder, closing(Store.open(f"sqlite:///{folder}/store.db", lambda: now)) as store:
        store.insert(made)
        store.insert(
            [Feedback(feedback_id=d.decision_id, decision_id=d.decision_id, loop=d.loop, kind="k") for d in made]
        )
        before, feedback = store.decisions(), store.feedback_of([d.decision_id for d in made])
        with closing(Store.open(f"sqlite:///{folder}/store.db", lambda: now + timedelta(days=2))) as later:
            archive(later, Path(folder) / "archive")
            assert later.decisions() == before
            assert later.feedback_of([d.decision_id for d in made]) == feedback
            assert [later.decision(d.decision_id) for d in made] == made
