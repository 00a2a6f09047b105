"""A cluster is used only where it asks for a token and nobody else can reach it, or as told."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from deconvnet_app.compute.backends.ray.cluster import Cluster, check
from deconvnet_app.errors import ClusterError
from deconvnet_app.settings import Settings
from tests.journeys.commands import run
from tests.support.ray_cluster import RayCluster, ray_cluster


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No token but the one that a test gives."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_no_cluster_is_started_where_no_address_is_given() -> None:
    with pytest.raises(ValidationError, match="such as --ray-address"):
        Settings(backend="ray")


@pytest.mark.parametrize("address", ["auto", "local", "ray://127.0.0.1:10001", "127.0.0.1", ":1"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ClusterError, match="expected HOST:PORT"):
        check(Cluster(address))


@pytest.mark.parametrize("address", ["192.0.2.9:6379", "head.example:6379", "[2001:db8::1]:6379"])
def test_a_cluster_on_a_network_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ClusterError, match="say so: --ray-network"):
        check(Cluster(address))


def test_where_nothing_answers_the_command_that_starts_one_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match=f"ray start --head .*--port={port}"):
        check(Cluster(f"127.0.0.1:{port}"))


def test_a_token_is_needed_and_must_be_the_clusters(
    cluster: RayCluster, environment: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match="There is no token"):
        check(Cluster(cluster.address))
    environment.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(ClusterError, match="does not take this token"):
        check(Cluster(cluster.address))
    environment.delenv("RAY_AUTH_TOKEN")
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
    check(Cluster(cluster.address))


def test_a_cluster_that_asks_nobody_is_refused_unless_that_is_meant(
    environment: pytest.MonkeyPatch,
) -> None:
    with ray_cluster(asks=False) as open_one:
        environment.setenv("RAY_AUTH_TOKEN_PATH", str(open_one.token))
        with pytest.raises(ClusterError, match="asks nobody for a token"):
            check(Cluster(open_one.address))
        check(Cluster(open_one.address, no_token=True))


def test_a_server_that_may_not_use_the_cluster_says_so_and_exits_2(
    cluster: RayCluster, tmp_path: Path
) -> None:
    arguments = ("--data-dir", tmp_path / "data", "--port", "0", "--backend", "ray")
    done = run("serve", *arguments, "--ray-address", cluster.address)
    assert done.returncode == 2, done.stderr
    assert "There is no token for the Ray cluster" in done.stderr.splitlines()[-1]
