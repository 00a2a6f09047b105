"""One Ray cluster, on the loopback interface, for all tests of this folder that want it."""

from collections.abc import Iterator

import pytest

from tests.app.conftest import make_png, tiny_model, tiny_settings
from tests.cluster.ray_cluster import RayCluster, ray_cluster

__all__ = ["make_png", "tiny_model", "tiny_settings"]


@pytest.fixture(scope="package")
def cluster() -> Iterator[RayCluster]:
    """A cluster that asks for a token."""
    with ray_cluster() as cluster:
        yield cluster
