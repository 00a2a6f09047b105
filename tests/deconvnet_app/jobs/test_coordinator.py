"""What the database will never take fails one item and holds up nobody; a crash is gone on from."""

import ctypes
import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import sqlalchemy
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from deconvnet_app.db import jobs as store
from deconvnet_app.db import postgres, sqlite
from deconvnet_app.db.engine import Database
from deconvnet_app.db.errors import never_taken
from deconvnet_app.db.models import Event, Job
from deconvnet_app.errors import DatabaseError_, StorageFullError
from deconvnet_app.jobs import coordinator
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.deconvnet_app.jobs.test_durability import eventually
from tests.deconvnet_app.services.test_jobs import forget_claims, run

# Rules that no result of item 1 (or nothing at all about it) can be stored by.
REFUSING = {
    "results": "NEW.n = 1 AND NEW.state = 'succeeded'",
    "ends": "NEW.n = 1 AND NEW.state IN ('succeeded', 'failed')",
}


BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 3},
}


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def refuse(app: FastAPI, rule: str, table: str = "items") -> None:
    """Have the database refuse rows of a table by a rule of its own."""
    settings = app.state.deconv.settings
    if settings.database is None:
        statement = (
            f"CREATE TRIGGER refusing BEFORE UPDATE ON {table} WHEN {rule} "
            "BEGIN SELECT RAISE(ABORT, 'not in here'); END"
        )
        url = f"sqlite:///{settings.database_place}"
    else:
        kept = rule.replace("NEW.", "")
        statement = f"ALTER TABLE {table} ADD CONSTRAINT refusing CHECK (NOT ({kept}))"
        url = settings.database_place
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.databases
def test_an_item_whose_result_the_database_refuses_fails_and_the_others_go_on(
    app: FastAPI, client: TestClient
) -> None:
    refuse(app, REFUSING["results"])
    job = run(client, limit=6)
    assert job["counts"] == {"total": 6, "succeeded": 5, "failed": 1, "skipped": 0}
    error = client.get(f"/api/v1/jobs/{job['id']}/items/1").json()["error"]
    assert error["code"] == "unstorable"
    assert "refusing" in error["detail"] or "not in here" in error["detail"]


@pytest.mark.databases
def test_an_item_of_which_nothing_can_be_stored_is_in_nobodys_way(
    app: FastAPI, client: TestClient
) -> None:
    refuse(app, REFUSING["ends"])
    stuck = client.post("/api/v1/jobs", json=BODY).json()["id"]
    assert run(client, limit=1)["state"] == "succeeded"
    eventually(lambda: client.get(f"/api/v1/jobs/{stuck}").json()["counts"]["succeeded"] == 2)
    found = client.get(f"/api/v1/jobs/{stuck}").json()
    assert (found["state"], found["counts"]["failed"]) == ("running", 0)
    with app.state.deconv.db.read() as session:
        job = store.get(session, stuck)
        assert job is not None
        item = store.item(session, job.seq, 1)
        assert item is not None
        assert (item.state, item.attempt, item.spent) == ("running", 1, 0)
    assert client.get("/readyz").status_code == 200


@pytest.mark.databases
def test_an_item_that_cannot_even_be_claimed_is_in_nobodys_way(
    app: FastAPI, client: TestClient
) -> None:
    refuse(app, "NEW.n = 1 AND NEW.state <> 'pending'")
    stuck = client.post("/api/v1/jobs", json=BODY).json()["id"]
    assert run(client, limit=1)["state"] == "succeeded"
    eventually(lambda: client.get(f"/api/v1/jobs/{stuck}").json()["counts"]["succeeded"] == 2)
    assert client.get(f"/api/v1/jobs/{stuck}/items/1").json()["state"] == "pending"


# What another program may leave in the row of the first of two jobs, and in its items.
UNREADABLE = {
    "no JSON": "UPDATE jobs SET request = '{' WHERE seq = 1",
    "no text": "UPDATE jobs SET request = x'ff' WHERE seq = 1",
    "no object": "UPDATE jobs SET request = '[1]' WHERE seq = 1",
    "no number": "UPDATE jobs SET succeeded = 'abc' WHERE seq = 1",
    "no version": "UPDATE jobs SET version = 'abc' WHERE seq = 1",
    "no time": "UPDATE jobs SET started_at = 'abc' WHERE seq = 1",
}
UNFIT = {
    "a deadline in words": (
        "UPDATE jobs SET request = json_set(request, '$.timeout_s', 'x') WHERE seq = 1"
    ),
    "no parameters": "UPDATE jobs SET request = json_remove(request, '$.params') WHERE seq = 1",
    "a version again": "UPDATE jobs SET version = 0 WHERE seq = 1",
    "a result that is none": "UPDATE items SET result = x'ff' WHERE job = 1",
    "a lost count of jobs": "DELETE FROM counters",
}
UNDER_WAY = (
    "UPDATE jobs SET state = 'running', started_at = 1.0 WHERE seq = 1",
    "UPDATE items SET state = 'running', owner = 'gone', attempt = 1 WHERE job = 1",
)


def edit(settings: Settings, *statements: str) -> None:
    """What another program does to the database."""
    with closing(sqlite3.connect(settings.database_place)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
@pytest.mark.parametrize("statement", [*UNREADABLE.values(), *UNFIT.values()])
def test_a_job_whose_rows_are_damaged_is_in_nobodys_way(
    tiny_settings: Callable[..., Settings], statement: str, running: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    first = create_app(tiny_settings())
    with TestClient(first) as client:
        forget_claims(first)
        for _ in range(2):
            client.post("/api/v1/jobs", json=BODY)
    settings = first.state.deconv.settings
    edit(settings, *(UNDER_WAY if running else ()), statement)
    second = create_app(settings)
    with TestClient(second, raise_server_exceptions=False) as client:

        def succeeded() -> bool:
            with closing(sqlite3.connect(settings.database_place)) as other:
                found = other.execute("SELECT state FROM jobs WHERE seq = 2").fetchone()
            return bool(found == ("succeeded",))

        eventually(succeeded, 60)
        assert run(client)["state"] == "succeeded"
    assert "crashed" not in caplog.text


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_of_a_job_is_told_as_that(
    app: FastAPI, client: TestClient, name: str
) -> None:
    job = run(client)["id"]
    edit(app.state.deconv.settings, UNREADABLE[name])
    for path in (f"/api/v1/jobs/{job}", "/api/v1/jobs"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["type"][-16:]) == (503, "database_damaged")


@pytest.mark.parametrize("result", ["'{'", "x'ff'", "'[1]'", "'\"x\"'", "'5'"])
def test_what_cannot_be_read_of_a_result_is_told_before_the_answer_begins(
    app: FastAPI, client: TestClient, result: str
) -> None:
    job = run(client)["id"]
    edit(app.state.deconv.settings, f"UPDATE items SET result = {result}")
    for path in ("items", "items/0", "results.jsonl", "results.zip"):
        answer = client.get(f"/api/v1/jobs/{job}/{path}")
        assert (answer.status_code, answer.json()["type"][-16:]) == (503, "database_damaged"), path


def test_a_table_that_is_gone_is_told_by_readyz_and_at_the_next_start(
    app: FastAPI, client: TestClient
) -> None:
    settings = app.state.deconv.settings
    edit(settings, "ALTER TABLE items RENAME TO taken_away")
    eventually(lambda: client.get("/readyz").status_code == 503, 30)
    assert "the database is damaged" in client.get("/readyz").json()["detail"]
    edit(settings, "ALTER TABLE taken_away RENAME TO items")
    eventually(lambda: client.get("/readyz").status_code == 200, 30)
    edit(settings, "ALTER TABLE events RENAME TO taken_away")
    app.state.deconv.jobs.drain()
    with pytest.raises(DatabaseError_, match="corrupt: it has no table 'events'"):
        app.state.deconv.db.migrate()


def test_a_rule_of_another_program_against_new_jobs_is_told(
    app: FastAPI, client: TestClient
) -> None:
    edit(
        app.state.deconv.settings,
        "CREATE TRIGGER refusing BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    answer = client.post("/api/v1/jobs", json=BODY)
    assert (answer.status_code, answer.json()["type"][-16:]) == (503, "database_damaged")


@pytest.mark.databases
def test_a_job_that_the_database_does_not_let_expire_comes_to_its_end(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(app, "NEW.state = 'cancelling'", "jobs")
    job = run(client, limit=12, timeout_s=0.001)
    assert job["counts"]["succeeded"] == 12
    assert "cannot expire and goes on" in caplog.text
    assert "Jobs do not go on" not in caplog.text


@pytest.mark.databases
def test_what_may_pass_is_told_from_what_never_will(
    tiny_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite, postgres):
        monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    settings = tiny_settings()
    settings.data_dir.mkdir()
    place = settings.database_place
    db = Database(place)
    db.migrate()
    bound = text("UPDATE jobs SET total = :total WHERE total = :total")
    never = [
        lambda session: session.execute(text("INSERT INTO jobs (seq, id) VALUES (1, 'a')")),
        lambda session: session.execute(bound, {"total": 1 << 70}),
        lambda session: session.execute(bound, {"total": object()}),
        lambda session: session.get_one(Job, 99),
        lambda session: session.add(Event(job=1, version=1, kind="a", data={"a": object()})),
    ]
    passing = [lambda session: session.execute(text("UPDATE nowhere SET a = 1"))]
    found = [outcome(db, change) for change in never + passing]
    other = sqlalchemy.create_engine(place if isinstance(place, str) else f"sqlite:///{place}")
    with other.connect() as connection:
        lock = "LOCK TABLE jobs" if isinstance(place, str) else "BEGIN EXCLUSIVE"
        connection.exec_driver_sql(lock)
        found.append(outcome(db, lambda session: session.execute(bound, {"total": 1})))
    other.dispose()
    db.close()
    assert [never_taken(one) for one in found] == [True] * len(never) + [False] * 2, found
    assert not never_taken(StorageFullError("full"))
    assert not never_taken(OSError(errno.EIO, "broken"))


def outcome(db: Database, change: Callable[[Session], object]) -> Exception:
    with pytest.raises(Exception) as found, db.write() as session:
        change(session)
    return found.value


def crash(app: FastAPI, name: str) -> None:
    """Raise SystemExit in that thread of the server, between two of its steps."""
    (ident,) = (one.ident for one in threading.enumerate() if one.name == name)
    sent = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident or 0), ctypes.py_object(SystemExit)
    )
    assert sent == 1


def test_a_coordinator_that_crashes_begins_anew_and_jobs_go_on(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    crash(app, "coordinator")
    assert run(client, limit=2)["state"] == "succeeded"
    assert "crashed and begins anew" in caplog.text
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("part", ["coordinator", "janitor"])
def test_a_part_that_has_ended_is_told_by_readyz(
    app: FastAPI, client: TestClient, part: str
) -> None:
    state = app.state.deconv
    if part == "coordinator":
        state.jobs.drain()
        state.jobs.join(10)
    else:
        state.janitor.stop()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"{part}: it has ended" in answer.json()["detail"]
    assert client.get("/livez").status_code == 200


def test_a_database_that_was_moved_is_told_by_readyz_until_it_is_back(
    app: FastAPI, client: TestClient
) -> None:
    place = app.state.deconv.settings.database_place
    elsewhere = place.with_name("elsewhere")
    place.rename(elsewhere)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "database: its file was moved" in answer.json()["detail"]
    place.write_bytes(elsewhere.read_bytes())  # a copy is another file, which nobody writes to
    assert client.get("/readyz").status_code == 503
    elsewhere.replace(place)
    assert client.get("/readyz").status_code == 200


def test_a_coordinator_that_hangs_is_told_until_it_moves_again(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "STUCK_S", 1.5)  # its steps take up to a second
    state = app.state.deconv
    assert state.jobs.trouble is None
    with closing(sqlite3.connect(state.settings.database_place)) as other:
        other.execute("BEGIN EXCLUSIVE")
        eventually(lambda: (state.jobs.trouble or "").startswith("it hangs since"), 30)
    eventually(lambda: client.get("/readyz").status_code == 200, 30)
