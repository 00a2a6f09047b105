"""One writer at a time, one server for each database, and what is said of one that is not there."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from deconvnet_app.db import jobs as store
from deconvnet_app.db import postgres as dialect
from deconvnet_app.db import sqlite
from deconvnet_app.db.engine import Database
from deconvnet_app.db.models import Job
from deconvnet_app.errors import DatabaseError_
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.support.checkout import pythonpath
from tests.support.postgres import PASSWORD, Cluster

DECONV = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 2},
}


@pytest.fixture
def url(postgres: Cluster) -> Iterator[str]:
    """An empty database of PostgreSQL."""
    with postgres.database() as name:
        yield postgres.url(name)


def new_job(number: int) -> Job:
    return Job(
        id=f"job_{number}", state="queued", request={}, fingerprints={}, total=1, created_at=1.0,
        updated_at=1.0, version=0, succeeded=0, failed=0, skipped=0, done_before=0,
    )  # fmt: skip


@pytest.mark.databases
def test_a_reader_never_misses_what_is_committed_after_what_it_has_seen(
    database: str | None, tmp_path: Path
) -> None:
    db = Database(database or tmp_path / "jobs.sqlite")
    db.migrate()
    done = threading.Event()
    seen: list[list[int]] = []

    def submit(first: int) -> None:
        for number in range(first, first + 25):
            with db.write() as session:
                store.create(session, new_job(number), [store.Input(image="a")])
                if number % 5 == 0:  # a number that is spent without a row
                    session.get_bind()
                    session.rollback()

    def look() -> None:
        while not done.is_set():
            with db.read() as session:
                seen.append([job.seq for job in store.page(session, None, None, 1000)][::-1])

    reader = threading.Thread(target=look)
    writers = [threading.Thread(target=submit, args=(100 * one,)) for one in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    db.close()
    for earlier, later in itertools.pairwise(seen):
        assert later[: len(earlier)] == earlier
    assert seen[-1]


@pytest.mark.databases
def test_a_database_that_somebody_has_locked_is_503_and_goes_on_when_it_is_free(
    tiny_settings: Callable[..., Settings],
    database: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (sqlite, dialect):
        monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    settings = tiny_settings()
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        other = sqlalchemy.create_engine(database or f"sqlite:///{settings.database_place}")
        with other.connect() as connection:
            lock = "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE" if database else "BEGIN EXCLUSIVE"
            connection.exec_driver_sql(lock)
            answers = [client.post("/api/v1/jobs", json=DECONV), client.get("/api/v1/jobs")]
            assert client.get("/livez").status_code == 200
        other.dispose()
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert answer.headers["Retry-After"]
        done = client.post("/api/v1/jobs", json=DECONV, headers={"Prefer": "wait=60"})
        assert done.json()["state"] == "succeeded"


def test_a_second_server_on_a_database_exits_with_2_and_names_the_first(
    tiny_settings: Callable[..., Settings], url: str, root: Path, tmp_path: Path
) -> None:
    first = tiny_settings(database=url, port=4321)
    command = ["-c", "from deconvnet_app.cli.main import main; main()", "serve", "--port", "0"]
    command += ["--data-dir", str(tmp_path / "other"), "--database", url]
    with TestClient(create_app(first)):
        second = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | {"PYTHONPATH": pythonpath()},
        )
    assert second.returncode == 2
    assert "in use by http://127.0.0.1:4321 (process" in second.stderr
    assert PASSWORD not in second.stderr + second.stdout


def test_a_server_that_lost_its_database_writes_nothing_until_it_has_it_again(
    postgres: Cluster, url: str
) -> None:
    first, second = Database(url, who="the first"), Database(url, who="the second")
    first.migrate()
    with first.write() as session:
        store.create(session, new_job(1), [store.Input(image="a"), store.Input(image="b")])
        claim = store.claim(session, "first", 1, 2.0)[0]
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%"
    postgres.execute(ended + "the first%'")

    second.migrate()
    with second.write() as session:
        assert store.adopt(session, (), 3.0) == 1
    with pytest.raises(OperationalError, match="in use by the second"), first.write() as session:
        store.succeed(session, claim, {}, 4.0)
    with first.read() as session:
        assert [job.succeeded for job in store.page(session, None, None, 9)] == [0]

    second.close()
    before = first.tenures
    with first.write() as session:
        assert not store.succeed(session, claim, {}, 5.0)
        assert store.claim(session, "first", 1, 6.0)[0].attempt == 2
    assert first.tenures > before
    first.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("/test", "/no"), "does not exist"),
        (lambda url: url.replace("word", "w0rd"), "authentication failed"),
        (lambda url: url.rpartition(":")[0] + ":1/jobs", "refused"),
        (lambda url: url.rpartition(":")[0] + ":port/jobs", "URL cannot be read"),
    ],
)
def test_a_database_that_cannot_be_had_is_one_message_without_its_password(
    url: str, change: Callable[[str], str], said: str
) -> None:
    with pytest.raises(DatabaseError_, match=said) as found:
        Database(change(url)).migrate()
    told: list[BaseException] = [found.value]
    while (cause := told[-1].__cause__) is not None:
        told.append(cause)
    for secret in (PASSWORD, PASSWORD.replace("word", "w0rd"), "nobody"):
        assert not any(secret in str(one) for one in told)


def test_a_newer_schema_or_another_encoding_is_refused(postgres: Cluster, url: str) -> None:
    name = url.rpartition("/")[2]
    db = Database(url)
    db.migrate()
    db.close()
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    with pytest.raises(DatabaseError_, match="newer version"):
        db.migrate()
    db.close()
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    with pytest.raises(DatabaseError_, match="is encoded as LATIN1"):
        Database(postgres.url("latin")).migrate()


def test_psycopg_that_is_not_installed_is_named_with_its_extra(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseError_, match=r"pip install 'deconvnet\[postgres\]'"):
        Database(url)


@pytest.mark.parametrize("bad", ["mysql://me:secret@host/jobs", "me:secret@host", "secret.sqlite"])
def test_another_database_is_refused_and_its_url_not_repeated(bad: str) -> None:
    with pytest.raises(ValidationError, match=r"expected postgresql\+psycopg") as found:
        Settings(database=bad)
    assert "secret" not in str(found.value)
    assert "secret" not in repr(Settings(database="postgresql://me:secret@host/jobs"))


def test_a_text_that_postgresql_cannot_hold_is_refused(
    tiny_settings: Callable[..., Settings], url: str, make_png: Callable[..., bytes]
) -> None:
    app = create_app(tiny_settings(database=url))
    with TestClient(app, raise_server_exceptions=False) as client:
        image = client.post("/api/v1/images", files={"file": make_png()}).json()["id"]
        inputs: dict[str, Any] = {"images": [{"id": image, "custom_id": "a\0b"}]}
        assert client.post("/api/v1/jobs", json=DECONV | {"inputs": inputs}).status_code == 422
        assert client.get("/api/v1/jobs/job%00").status_code in (404, 422)
