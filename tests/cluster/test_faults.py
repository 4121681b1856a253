"""Whatever dies, hangs, is cut off or fills up: nothing that was acknowledged is lost or double, all comes back."""

from collections.abc import Iterator

import pytest

from tests.support.faults.fault import BACK_S, LEARNED_S, Fault, Place, undergo
from tests.support.faults.places import FAULTS, PLACES
from tests.support.faults.proof import prove
from tests.support.hosts.marks import needs_hosts
from tests.support.packages import needs_package

pytestmark = [*needs_hosts(), needs_package("postgresql"), pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with traffic; at its end what was learned is what the log gives, and every decision can be made again."""
    with PLACES[request.param](tmp_path_factory.mktemp(request.param)) as made:
        with made.traffic.flowing():
            yield made
        assert prove(made) == []


@pytest.mark.parametrize(
    ("place", "fault"),
    [(fault.place, fault) for fault in FAULTS],
    indirect=["place"],
    ids=[fault.name for fault in FAULTS],
)
def test_it_is_survived(place: Place, fault: Fault) -> None:
    course = undergo(fault, place)
    print(f"{fault.name}: back in {course.recovery_s:.1f} s, {len(course.refusals)} requests were sent again")
    assert (course.lost, course.double, course.wrong) == ([], [], [])
    assert course.recovery_s <= BACK_S
    assert not fault.learns or max(course.freshness_s) <= LEARNED_S
