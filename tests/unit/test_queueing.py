"""The simulation of queues against what theory knows exactly."""

import numpy as np
import pytest

from tests.bench.planning.prediction import Fit
from tests.bench.planning.queueing import erlang_c, mean_wait, poisson_arrivals, wait_quantile, waiting_times

N = 200_000


def test_erlang_c_by_hand() -> None:
    assert erlang_c(0.5, 1.0, 1) == pytest.approx(0.5)  # of one server: its utilisation
    assert erlang_c(1.0, 1.0, 2) == pytest.approx(1 / 3)
    assert mean_wait(1.0, 1.0, 2) == pytest.approx(1 / 3)
    assert wait_quantile(1.0, 1.0, 2, 0.99) == pytest.approx(np.log(100 / 3))
    assert wait_quantile(0.001, 1.0, 2, 0.99) == 0.0
    with pytest.raises(ValueError, match="2 servers of 1 a second each do not serve 2 a second"):
        erlang_c(2.0, 1.0, 2)


@pytest.mark.parametrize(("servers", "utilisation"), [(1, 0.5), (2, 0.7), (5, 0.8)])
def test_one_queue_waits_as_long_as_m_m_c(servers: int, utilisation: float) -> None:
    rng = np.random.default_rng(servers)
    rate = servers * utilisation
    waits = waiting_times(poisson_arrivals(rate, N, rng), rng.exponential(1.0, N), servers, rng)
    assert waits.mean() == pytest.approx(mean_wait(rate, 1.0, servers), rel=0.05)
    assert np.mean(waits > 0) == pytest.approx(erlang_c(rate, 1.0, servers), rel=0.05)
    assert np.quantile(waits, 0.99) == pytest.approx(wait_quantile(rate, 1.0, servers, 0.99), rel=0.1)


def test_one_server_of_constant_services_waits_as_pollaczek_and_khinchine_say() -> None:
    rng = np.random.default_rng(0)
    waits = waiting_times(poisson_arrivals(0.8, N, rng), np.ones(N), 1, rng)
    assert waits.mean() == pytest.approx(0.8 / (2 * (1 - 0.8)), rel=0.05)


def test_queues_by_hand() -> None:
    """Three come at once; of two queues the third goes to one of the shorter, and stays though the other is free."""
    rng = np.random.default_rng(0)
    arrivals, services = np.array([0.0, 0.0, 0.0, 9.0]), np.array([4.0, 1.0, 1.0, 1.0])
    assert waiting_times(arrivals, services, 2, rng).tolist() == [0.0, 0.0, 1.0, 0.0]
    found = {tuple(waiting_times(arrivals, services, 2, rng, "fewest").tolist()) for _ in range(50)}
    assert found == {(0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 4.0, 0.0)}


def test_own_queues_wait_longer_than_one_and_shorter_than_queues_by_lot() -> None:
    rng = np.random.default_rng(0)
    arrivals, services = poisson_arrivals(1.6, N, rng), rng.exponential(1.0, N)
    one = waiting_times(arrivals, services, 2, rng, "one_queue").mean()
    fewest = waiting_times(arrivals, services, 2, rng, "fewest").mean()
    assert one < fewest < mean_wait(0.8, 1.0, 1)


@pytest.mark.parametrize(("servers", "services"), [(0, 3), (1, 2)])
def test_what_is_no_queue_is_refused(servers: int, services: int) -> None:
    with pytest.raises(ValueError, match="needs a server and as many services as arrivals"):
        waiting_times(np.zeros(3), np.zeros(services), servers, np.random.default_rng(0))


def test_a_fit_parts_what_keeps_a_replica_busy_from_what_does_not() -> None:
    """A single client waits 25 ms, 50 a second are answered at most: it is busy for 20 of them."""
    fit = Fit.of(np.array([0.024, 0.025, 0.026]), 50.0)
    assert fit.beside_s == pytest.approx(0.005)
    np.testing.assert_allclose(fit.busy_s, [0.019, 0.020, 0.021])
    idle = fit.predict(0.01, 2, np.random.default_rng(0), n=100)
    assert 0.024 - 1e-9 <= idle.min() <= idle.max() <= 0.026 + 1e-9
