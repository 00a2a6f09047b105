"""One Ray cluster, on the loopback interface, for all tests that want it."""

from collections.abc import Iterator

import pytest

from tests.support.ray_cluster import RayCluster, ray_cluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[RayCluster]:
    """A cluster that asks for a token."""
    with ray_cluster() as cluster:
        yield cluster
