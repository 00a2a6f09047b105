"""deconvnet.client against a real server, over connections that break."""

import contextlib
import importlib
import shutil
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from deconvnet.client import Client, ProblemError, UnreachableError
from deconvnet_app.access import Access
from tests.journeys.commands import start

OCCLUSION = {"model": "zfnet64", "method": "occlusion", "params": {"size": 32, "stride": 16}}


class Cut:
    """Passes connections on to a server; each of the first `lost` is cut after `after` bytes."""

    def __init__(self, url: str, lost: int, after: int) -> None:
        self._port = httpx2.URL(url).port or 0
        self._lost, self._after = lost, after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.cuts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            most = self._after if self.cuts < self._lost else None
            self.cuts += most is not None
            threading.Thread(target=self._join, args=(ours, most), daemon=True).start()

    def _join(self, ours: socket.socket, most: int | None) -> None:
        with ours, socket.create_connection(("127.0.0.1", self._port)) as theirs:
            asking = threading.Thread(target=_pass, args=(ours, theirs, None), daemon=True)
            asking.start()
            _pass(theirs, ours, most)
            asking.join()


def _pass(source: socket.socket, sink: socket.socket, most: int | None) -> None:
    """Hand on what comes, at most so many bytes, and then end both ways."""
    passed = 0
    with contextlib.suppress(OSError):
        while chunk := source.recv(4096 if most is None else max(1, most - passed)):
            sink.sendall(chunk)
            passed += len(chunk)
            if most is not None and passed >= most:
                break
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, image_folder: Path
) -> Iterator[tuple[str, Path]]:
    """A server's address and its data directory."""
    data = tmp_path_factory.mktemp("client") / "data"
    pictures = shutil.copytree(image_folder, data.parent / "pictures")
    (pictures / "warm" / "torn.png").write_bytes(next(pictures.glob("*/*.png")).read_bytes()[:99])
    process = start("serve", "--dataset", pictures, "--data-dir", data, "--port", "0")
    assert process.stdout is not None
    yield process.stdout.readline().split("/login")[0], data
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def client(place: tuple[str, Path]) -> Iterator[Client]:
    with Client(place[0], token_file=place[1] / "token") as client:
        yield client


def test_a_job_from_upload_to_arrays(client: Client, photo: Path, tmp_path: Path) -> None:
    image = client.upload(photo)
    assert (image.width, image.height) == (100, 80)
    params = {"size": np.int64(32), "stride": np.array(16)}
    job = client.submit(
        "zfnet64", "occlusion", images=[image, photo], params=params, target=np.int64(2),
        timeout_s=np.float32(600), metadata={"who": "me"},
    )  # fmt: skip
    found = list(client.iter_results(job))
    assert [(item.n, item.custom_id) for item in found] == [(0, "photo.png"), (1, "photo.png (2)")]
    assert found[0].facts is not None
    assert found[0].facts["target"]["class"] == 2
    assert client.array(job, 0).dtype == np.float32
    assert client.picture(job, 1).startswith(b"\x89PNG")
    ended = client.wait(job)
    assert (ended.state, ended.counts.succeeded) == ("succeeded", 2)
    assert ended.request["metadata"] == {"who": "me"}
    names = zipfile.ZipFile(client.download(job, tmp_path / "all.zip")).namelist()
    assert "results.jsonl" in names
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]
    assert job.id in [one.id for one in client.jobs("succeeded")]
    client.delete(job)
    with pytest.raises(ProblemError) as refused:
        client.job(job)
    assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_a_dataset_a_unit_and_the_failures_of_a_job(
    client: Client, place: tuple[str, Path]
) -> None:
    (dataset,) = client.datasets()
    job = client.submit("zfnet64", "deconv", dataset=dataset, glob="**/torn.*", target="conv5:7")
    assert client.wait(job).state == "failed"
    (item,) = client.items(job, "failed")
    assert item.path == "warm/torn.png"
    assert item.error is not None
    assert item.error["code"] == "undecodable"
    assert client.retry_failed(job).state == "queued"
    assert client.wait(job).state == "failed"
    assert client.cancel(job).state == "failed"


def test_a_refusal_is_one_exception_with_all_there_is_to_know(client: Client) -> None:
    with pytest.raises(ProblemError) as refused:
        client.submit("zfnet64", "occlusion", dataset="nope", params={"size": 0})
    told = refused.value
    assert (told.status, told.code, len(told.request_id)) == (422, "invalid", 32)
    assert [one.pointer for one in told.errors] == ["/params/size"]
    assert str(told) == f"422 invalid: {told.detail}"


def test_a_wrong_token_is_refused_and_the_environment_may_tell_the_right_one(
    place: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, data = place
    with Client(url, "x" * 43) as client, pytest.raises(ProblemError, match="401 sign_in"):
        client.models()
    monkeypatch.setenv("DECONVNET_TOKEN_FILE", str(data / "token"))
    with Client(url) as client:
        assert "zfnet64" in client.models()
    monkeypatch.setenv("DECONVNET_TOKEN", Access(data).token)
    monkeypatch.delenv("DECONVNET_TOKEN_FILE")
    with Client(url) as client:
        assert client.about()["limits"]["queued_jobs"] == 100


def test_a_submission_whose_answer_was_lost_is_one_job(
    client: Client, place: tuple[str, Path]
) -> None:
    before = len(list(client.jobs()))
    cut = Cut(place[0], lost=3, after=1)
    dataset = client.datasets()[0]
    with Client(cut.url, token_file=place[1] / "token") as far:
        job = far.submit(**OCCLUSION, dataset=dataset, limit=1)
        again = far.submit(**OCCLUSION, dataset=dataset, limit=1, key="mine")
        assert far.submit(**OCCLUSION, dataset=dataset, limit=1, key="mine").id == again.id
    cut.close()
    assert cut.cuts == 3
    assert len(list(client.jobs())) == before + 2
    assert client.wait(job).ended


def test_events_go_on_where_the_connection_was_lost(
    client: Client, place: tuple[str, Path]
) -> None:
    cut = Cut(place[0], lost=6, after=700)
    job = client.submit(**OCCLUSION, dataset=client.datasets()[0], limit=6)
    with Client(cut.url, token_file=place[1] / "token") as far:
        story = list(far.events(job))
    cut.close()
    assert cut.cuts > 2
    *told, end = story
    assert (end.kind, end.data["state"]) == ("end", "succeeded")
    assert [one.id for one in told] == list(range(1, end.id + 1))
    assert [one.id for one in client.events(job, after=end.id - 2)] == [end.id - 1, end.id, end.id]


def test_waiting_ends_in_time_and_the_job_goes_on(client: Client) -> None:
    job = client.submit(**OCCLUSION, dataset=client.datasets()[0])
    with pytest.raises(TimeoutError, match="after 0 s"):
        client.wait(job, timeout_s=0)
    assert client.cancel(job).state in ("cancelling", "cancelled")
    assert client.wait(job, timeout_s=60).state == "cancelled"


def test_nobody_there_is_said_when_patience_ends(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    with (
        Client(f"http://127.0.0.1:{port}", "t", patience_s=0.5) as nobody,
        pytest.raises(UnreachableError, match="Is the server running there"),
    ):
        nobody.models()
    assert time.monotonic() - began >= 0.1  # it was tried again


def test_the_extra_is_asked_for_by_name_and_by_nobody_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [
        path
        for folder in ("app/deconvnet_app", "deconvnet")
        for path in (root / folder).rglob("*.py")
    ]
    users = [path for path in sources if "httpx2" in path.read_text()]
    assert {path.relative_to(root).parent.as_posix() for path in users} == {"deconvnet/client"}
    for name in [name for name in sys.modules if name.startswith("deconvnet.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"pip install 'deconvnet\[client\]'"):
        importlib.import_module("deconvnet.client")
