"""From costs to needs: numbers by hand, and serve/CAPACITY.md is what kept results say."""

import pytest

from tests.bench.planning.needs import Costs, Price, Prices, limits, needs, table
from tests.bench.table import CAPACITY, insert, read_results

COSTS = Costs(
    replica_us=1_000,
    replica_feedback_us=600,
    ingress_us=60,
    writer_us=120,
    database_rows_s=2_000,
    learned_s=5_000,
    described_s=500,
    trained_step_us=400,
    store_bytes=4_000,
    archive_bytes=100,
)


def prices() -> Prices:
    """Return the prices that ship, with round numbers."""
    shipped = Prices.read()
    assumed = shipped.assumed.model_copy(
        update={
            "feedback_share": 0.25,
            "utilisation": 0.6,
            "database_vcpus": 4,
            "store_days": 2.0,
            "archive_days": 100.0,
            "busiest_over_mean": 1.0,
        }
    )

    def at(price: float) -> Price:
        return Price(price=price, what="", date="", source="")

    return Prices(vcpu_hour=at(0.1), disk_gb_month=at(0.2), object_gb_month=at(0.01), assumed=assumed)


def test_needs_by_hand() -> None:
    found = needs(COSTS, prices(), 1_000)
    assert found.replicas == 2  # 750 decisions of 1 ms and 250 reports of .6 ms are .9 cores, at .6 of each
    assert found.ingress_cores == pytest.approx(0.1)
    assert found.writer_cores == pytest.approx(0.2)
    assert (found.databases, found.learners, found.described_learners) == (1, 1, 2)
    assert found.store_gb == pytest.approx(750 * 86_400 * 2 * 4_000 / 1e9)  # 518.4
    assert found.archive_gb == pytest.approx(750 * 86_400 * 100 * 100 / 1e9)  # 648
    vcpus = 2 + 0.1 + 0.2 + 1 + 2 * 4
    assert found.usd_month == pytest.approx(vcpus * 0.1 * 730 + 2 * 518.4 * 0.2 + 648 * 0.01)


def test_what_breaks_first_by_hand() -> None:
    assert list(limits(COSTS, prices()).values()) == pytest.approx([500 / 0.75, 2_000, 5_000 / 0.75, 10_000])


def test_every_price_says_when_it_was_and_who_says_so() -> None:
    shipped = Prices.read()
    for price in (shipped.vcpu_hour, shipped.disk_gb_month, shipped.object_gb_month):
        assert price.price > 0
        assert price.date
        assert price.source


def test_the_page_has_the_tables_of_the_kept_results() -> None:
    page, results = CAPACITY.read_text(), read_results()
    wanted = "Not measured yet on a machine that does nothing else.\n"
    if "capacity" in results:
        wanted = table(Costs.of(results), Prices.read())
    assert insert(page, wanted) == page, "run python -m tests.bench.table"
