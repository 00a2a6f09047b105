"""A server whose work is done on a cluster, from the command to a job's results."""

from pathlib import Path

import pytest

from deconvnet.client import Client
from deconvnet_app.artifacts import sha256
from tests.journeys.commands import start
from tests.support.ray_cluster import RayCluster


def test_a_job_over_a_dataset_is_computed_on_the_cluster(
    cluster: RayCluster, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
    data = tmp_path / "data"
    where = ("--backend", "ray", "--ray-address", cluster.address, "--device", "cpu")
    given = ("--data-dir", data, "--port", "0", "--dataset", image_folder)
    process = start("serve", *given, *where)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().partition("/login")[0]
        with Client(url, token_file=data / "token") as client:
            (dataset,) = client.datasets()
            job = client.submit("zfnet64", "deconv", dataset=dataset, limit=2, target="conv5:7")
            assert client.wait(job).counts.succeeded == 2
            items = list(client.iter_results(job))
            assert [one.n for one in items] == [0, 1]
            for one in items:
                assert one.sha256 == sha256((image_folder / str(one.path)).read_bytes())
                assert client.picture(job, one.n).startswith(b"\x89PNG")
                assert client.array(job, one.n).shape == (3, 64, 64)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
