"""What a job promises, with real processes: nothing accepted is lost, nothing is done twice."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deconvnet_app.access import Access
from deconvnet_app.settings import Settings
from tests.support.checkout import pythonpath
from tests.support.postgres import Cluster

KILLER, SLEEPER, SLOW = (255, 0, 255), (255, 255, 0), (0, 255, 255)

SERVE = """
import signal, sys
from deconvnet_app.errors import AppError
from deconvnet_app.main import create_app
from deconvnet_app.server import serve
from deconvnet_app.settings import Settings
if __name__ == "__main__":
    settings = Settings.model_validate_json(sys.argv[1])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
    try:
        serve(settings, create_app, lambda settings: print(settings.address, flush=True))
    except AppError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        script = folder / "serve_it.py"
        script.write_text(SERVE)
        environment = os.environ | {"PYTHONPATH": pythonpath(), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(script), settings.model_dump_json()],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 120)
        url = self.process.stdout.readline().strip() if ready else ""
        headers = {}
        if settings.auth:
            headers["Authorization"] = f"Bearer {Access(settings.data_dir).token}"
        self.client = httpx2.Client(base_url=url, headers=headers, timeout=30)
        if not url:
            self.close()
            raise AssertionError("the server did not start; its output is above")

    def workers(self) -> list[int]:
        """The process ids of the compute workers."""
        found = []
        for pid in children(self.process.pid):
            with contextlib.suppress(OSError):
                if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found += children(pid)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for path in listed for one in path.read_text().split()]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def eventually(what: Callable[[], Any], seconds: float = 180) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Iterator[Server]:
    """One server for the tests that leave it running; a unit may take 8 s."""
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(
        data_dir=folder / "data",
        models={"tiny": tiny_model},
        port=0,
        device="cpu",
        unit_timeout_s=8,
    )
    server = Server(settings, folder)
    yield server
    server.close()


@pytest.fixture
def launch(
    tiny_settings: Callable[..., Settings], tmp_path: Path
) -> Iterator[Callable[..., Server]]:
    """Starts servers on one data directory, one after the other."""
    servers: list[Server] = []

    def start(**changes: object) -> Server:
        servers.append(Server(tiny_settings(backend="process", **changes), tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def upload(server: Server, data: bytes) -> str:
    files = {"file": ("a.png", data, "image/png")}
    return str(server.client.post("/api/v1/images", files=files).json()["id"])


def submit(server: Server, images: list[str], **changes: object) -> str:
    body = {
        "model": "tiny",
        "method": "deconv",
        "target": {"unit": "conv2:1"},
        "inputs": {"images": [{"id": one} for one in images]},
    }
    answer = server.client.post("/api/v1/jobs", json=body | changes)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def read(server: Server, job: str) -> dict[str, Any]:
    return dict(server.client.get(f"/api/v1/jobs/{job}").json())


def finish(server: Server, job: str, seconds: float = 180) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        found = read(server, job)
        return found if found.get("finished_at") is not None else None

    return dict(eventually(done, seconds))


def at_least(server: Server, job: str, succeeded: int) -> None:
    """Wait until so many items have succeeded; a server whose database is away is asked again."""

    def enough() -> bool:
        found = read(server, job)
        return "counts" in found and found["counts"]["succeeded"] >= succeeded

    eventually(enough)


def done_items(server: Server, job: str) -> list[dict[str, Any]]:
    text = server.client.get(f"/api/v1/jobs/{job}/results.jsonl?partial=true").text
    return [json.loads(line) for line in text.splitlines()]


def slow_images(server: Server, make_png: Callable[..., bytes], count: int) -> list[str]:
    """Images that take the worker 0.3 s each, all different."""
    return [upload(server, make_png(SLOW, (16 + n, 20))) for n in range(count)]


@pytest.mark.databases
def test_killing_the_worker_and_then_the_server_loses_and_repeats_nothing(
    launch: Callable[..., Server], make_png: Callable[..., bytes]
) -> None:
    server = launch()
    images = slow_images(server, make_png, 16)
    job = submit(server, images)

    at_least(server, job, 2)
    os.kill(server.workers()[0], signal.SIGKILL)
    at_least(server, job, 6)
    before = {item["n"]: item["finished_at"] for item in done_items(server, job)}
    workers = server.workers()
    server.kill()
    eventually(lambda: not any(map(alive, workers)), 5)

    server = launch()
    found = finish(server, job)
    assert found["state"] == "succeeded"
    assert found["counts"] == {"total": 16, "succeeded": 16, "failed": 0, "skipped": 0}
    after = {item["n"]: item["finished_at"] for item in done_items(server, job)}
    assert sorted(after) == list(range(16))
    assert before.items() <= after.items()  # what was done is not done again


def test_killing_and_restarting_postgresql_during_a_job_loses_and_repeats_nothing(
    launch: Callable[..., Server], postgres: Cluster, make_png: Callable[..., bytes]
) -> None:
    with postgres.database() as name:
        server = launch(database=postgres.url(name))
        job = submit(server, slow_images(server, make_png, 16))
        at_least(server, job, 2)
        sessions = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'http:%'"
        os.kill(postgres.execute(sessions)[0][0], signal.SIGKILL)  # takes all sessions with it
        at_least(server, job, 6)
        before = {item["n"]: item["finished_at"] for item in done_items(server, job)}
        postgres.stop()
        answer = server.client.get(f"/api/v1/jobs/{job}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/livez").status_code == 200
        time.sleep(1)  # results come in meanwhile
        postgres.start()

        found = finish(server, job)
        assert found["counts"] == {"total": 16, "succeeded": 16, "failed": 0, "skipped": 0}
        after = {item["n"]: item["finished_at"] for item in done_items(server, job)}
        assert sorted(after) == list(range(16))
        assert before.items() <= after.items()
        told = postgres.execute("SELECT version, data FROM events ORDER BY version", name)
        assert [version for version, _ in told] == list(range(1, found["version"] + 1))
        ended = sorted(
            data["n"] for _, data in told if data["state"] == "succeeded" and "n" in data
        )
        assert ended == list(range(16))
        postgres.check(name)
        server.close()


def test_an_input_that_kills_its_worker_three_times_is_set_aside_and_the_rest_succeed(
    server: Server, make_png: Callable[..., bytes]
) -> None:
    images = [
        upload(server, make_png((9, 9, 9))),
        upload(server, make_png(KILLER)),
        upload(server, make_png((99, 9, 9))),
    ]
    job = submit(server, images)
    found = finish(server, job)
    assert found["state"] == "succeeded"
    assert found["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "skipped": 0}
    errors = server.client.get(f"/api/v1/jobs/{job}/errors.jsonl").text.splitlines()
    assert json.loads(errors[0])["n"] == 1
    assert json.loads(errors[0])["error"]["code"] == "quarantined"


def test_cancel_ends_soon_even_while_an_item_hangs_and_keeps_what_is_done(
    server: Server, make_png: Callable[..., bytes]
) -> None:
    images = [upload(server, make_png()), upload(server, make_png(SLEEPER))]
    images += slow_images(server, make_png, 3)
    job = submit(server, images)
    at_least(server, job, 1)
    assert server.client.get(f"/api/v1/jobs/{job}/results.jsonl").status_code == 409

    answer = server.client.post(f"/api/v1/jobs/{job}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelling"
    found = finish(server, job, 10)
    assert found["state"] == "cancelled"
    assert found["counts"] == {"total": 5, "succeeded": 1, "failed": 0, "skipped": 4}
    assert server.client.get(f"/api/v1/jobs/{job}/items/0/heatmap.png").status_code == 200


def test_a_unit_past_its_deadline_fails_alone_and_a_job_past_its_own_expires(
    server: Server, make_png: Callable[..., bytes]
) -> None:
    hung = upload(server, make_png(SLEEPER))
    job = submit(server, [hung, upload(server, make_png())])
    found = finish(server, job)
    assert found["counts"] == {"total": 2, "succeeded": 1, "failed": 1, "skipped": 0}
    item = server.client.get(f"/api/v1/jobs/{job}/items/0").json()
    assert item["error"]["code"] == "deadline"

    job = submit(server, slow_images(server, make_png, 20), timeout_s=3)
    found = finish(server, job)
    assert found["state"] == "expired"
    assert found["counts"]["skipped"] > 0
    assert found["counts"]["skipped"] + found["counts"]["succeeded"] == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_lets_running_work_end_and_the_next_server_does_the_rest(
    number: signal.Signals, launch: Callable[..., Server], make_png: Callable[..., bytes]
) -> None:
    server = launch()
    job = submit(server, slow_images(server, make_png, 8))
    at_least(server, job, 1)
    workers = server.workers()
    if number == signal.SIGHUP:  # a closed terminal sends it to all
        for pid in [*children(server.process.pid), *workers]:
            os.kill(pid, number)
    server.process.send_signal(number)
    assert server.process.wait(30) == 0
    assert not any(map(alive, workers))

    server = launch()
    assert finish(server, job)["counts"]["succeeded"] == 8
    items = server.client.get(f"/api/v1/jobs/{job}/items").json()["items"]
    assert [item["attempt"] for item in items] == [1] * 8


def test_a_second_server_on_the_same_data_is_refused_and_told_of_the_first(
    launch: Callable[..., Server], tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    launch()
    script = tmp_path / "serve_it.py"
    second = subprocess.run(
        [sys.executable, str(script), tiny_settings().model_dump_json()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": pythonpath()},
    )
    assert second.returncode == 2
    assert "is in use by http://127.0.0.1" in second.stderr
