"""One Prometheus for all tests of this folder."""

import pytest

from tests.infra.observed import PROMETHEUS, observed_service


@pytest.fixture(scope="session")
def observed(tmp_path_factory):
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    with observed_service(tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus
