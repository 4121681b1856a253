"""One service for all tests that need one, but those of how services start."""

from collections.abc import Iterator

import pytest

from serve.config import ServiceConfig
from tests.support.services import Running, service
from tests.support.shops import save_policies, small_market


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two replicas and a learner of two policies; with whatever other tests have told it."""
    home = tmp_path_factory.mktemp("home")
    save_policies(home, small_market()[1])
    config = ServiceConfig(policies={"linear_thompson": 1, "rfm_bandit": 1}, home=str(home), learn_from="all")
    with service(config, replicas=2) as running:
        running.wait()
        yield running
