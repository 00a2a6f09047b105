"""What is kept on disk: artifacts, the database, a job's items."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from deconvnet_app.artifacts import ArtifactStore, disk_refusal, remove_unfinished
from deconvnet_app.catalog.datasets import Datasets
from deconvnet_app.db import jobs as store
from deconvnet_app.db import retention
from deconvnet_app.db.engine import Database
from deconvnet_app.db.models import Base, Job
from deconvnet_app.db.sqlite import journal_mode
from deconvnet_app.errors import (
    ArtifactMissingError,
    DamagedError,
    DatabaseError_,
    StorageFullError,
)
from deconvnet_app.jobs import coordinator
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings

pytestmark = pytest.mark.databases


def test_an_artifact_is_named_by_its_content_and_written_once(tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path)
    name = artifacts.put(b"abc")
    assert artifacts.put(b"abc") == name
    assert artifacts.read(name) == b"abc"
    assert artifacts.used() == 3
    assert [path.name for path in tmp_path.rglob(".tmp*")] == []
    for bad in ("../../etc/passwd", name[:-1], name + "\n", "0" * 64):
        with pytest.raises(ArtifactMissingError):
            artifacts.read(bad)


def test_an_artifact_that_was_emptied_is_missing_and_stored_anew(tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path)
    name = artifacts.put(b"a picture")
    artifacts.path(name).write_bytes(b"")
    assert not artifacts.hold(name)
    with pytest.raises(ArtifactMissingError):
        artifacts.read(name)
    assert artifacts.put(b"a picture") == name
    assert artifacts.read(name) == b"a picture"


def test_a_link_or_a_folder_in_place_of_an_artifact_is_none(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    name = store.put(b"some bytes")
    path, elsewhere = store.path(name), tmp_path / "elsewhere"
    elsewhere.write_bytes(b"a secret")
    path.unlink()
    path.symlink_to(elsewhere)
    with pytest.raises(ArtifactMissingError):
        store.read(name)
    assert store.put(b"some bytes") == name
    assert (store.read(name), elsewhere.read_bytes()) == (b"some bytes", b"a secret")
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactMissingError):
        store.path(name)
    with pytest.raises(StorageFullError):
        store.put(b"some bytes")


def test_an_item_whose_artifacts_cannot_be_looked_up_waits_unharmed(
    tiny_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "FULL_PAUSE_S", 0.1)
    settings = tiny_settings()
    body = {"model": "tiny", "method": "deconv", "target": {"unit": "conv2:1"}}
    body |= {"inputs": {"dataset": "pictures", "limit": 1}}
    with TestClient(create_app(settings)) as client:
        done = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=30"}).json()
        assert done["state"] == "succeeded"
        root = settings.data_dir / "artifacts"
        root.rename(root.with_name("kept"))
        root.write_text("in the way")
        job = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=1"}).json()
        assert job["state"] == "running"
        root.unlink()
        root.with_name("kept").rename(root)
        done = client.get(f"/api/v1/jobs/{job['id']}/events").text
        assert client.get(f"/api/v1/jobs/{job['id']}").json()["state"] == "succeeded", done
        (item,) = client.get(f"/api/v1/jobs/{job['id']}/items").json()["items"]
    assert item["attempt"] == 1


def test_a_store_whose_folder_is_none_takes_no_writes(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file")
    with pytest.raises(OSError, match="Not a directory") as raised:
        ArtifactStore(tmp_path / "artifacts").put(b"x")
    assert disk_refusal(raised.value) is not None


def test_what_a_killed_writer_left_unfinished_is_removed_at_the_start(tmp_path: Path) -> None:
    name = ArtifactStore(tmp_path).put(b"whole")
    (tmp_path / name[:2] / ".tmp-abc").write_bytes(b"half")
    assert remove_unfinished(tmp_path) == 1
    assert [path.name for path in (tmp_path / name[:2]).iterdir()] == [name[2:]]


def test_a_full_quota_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path, quota=5)
    artifacts.put(b"abc")
    with pytest.raises(StorageFullError):
        artifacts.put(b"defg")
    assert artifacts.used() == 3


def test_the_migrations_make_exactly_the_tables_of_the_models(
    tmp_path: Path, database: str | None
) -> None:
    db = Database(database or tmp_path / "50%.sqlite")
    db.migrate()
    db.migrate()
    with db.read() as session:
        connection = session.connection()
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    db.close()


def test_a_corrupt_or_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.sqlite"
    corrupt.write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(DatabaseError_, match="Restore a backup"):
        Database(corrupt).migrate()
    assert corrupt.read_bytes().startswith(b"not a database")

    newer = tmp_path / "newer.sqlite"
    db = Database(newer)
    db.migrate()
    db.close()
    connection = sqlite3.connect(newer)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseError_, match="newer version"):
        Database(newer).migrate()


def test_a_database_with_a_page_of_garbage_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "torn.sqlite"
    db = Database(path)
    db.migrate()
    db.close()
    torn = bytearray(path.read_bytes())
    torn[4096:8192] = b"\xa5" * 4096
    path.write_bytes(torn)
    with pytest.raises(DatabaseError_, match="Restore a backup"):
        Database(path).migrate()
    assert path.read_bytes() == torn


def test_a_database_that_is_no_file_of_one_name_is_refused(tmp_path: Path) -> None:
    folder, link, twice = (tmp_path / name for name in ("folder", "link", "twice"))
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    twice.touch()
    (tmp_path / "again").hardlink_to(twice)
    for path, why in ((folder, "no file"), (link, "no file"), (twice, "a second name")):
        with pytest.raises(DatabaseError_, match=rf"'?{path.name}'? cannot be used: it .*{why}"):
            Database(path).migrate()


def test_a_database_that_does_not_say_its_schema_or_lacks_a_column_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db.sqlite"
    for statement, why in (
        ("ALTER TABLE items DROP COLUMN spent", "its table 'items' has no column 'spent'"),
        ("UPDATE alembic_version SET version_num = NULL", "does not say which schema"),
    ):
        path.unlink(missing_ok=True)
        db = Database(path)
        db.migrate()
        db.close()
        connection = sqlite3.connect(path)
        if "NULL" in statement:
            connection.execute("DROP TABLE alembic_version")
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(DatabaseError_, match=why):
            Database(path).migrate()


def test_a_database_that_was_emptied_is_refused_and_starts_empty_once_it_is_moved_away(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, backend="inline", device="cpu")
    file = tmp_path / "deconvnet.sqlite"
    file.touch()  # as the first start leaves it when it is killed at once
    with TestClient(create_app(settings)):
        kept = ArtifactStore(tmp_path / "artifacts").put(b"a result")
    file.write_bytes(b"")
    for _ in range(2):  # nor is it filled by being refused
        with pytest.raises(DatabaseError_, match=r"is empty, but files .* Restore a backup, or"):
            TestClient(create_app(settings)).__enter__()
    file.unlink()
    with TestClient(create_app(settings)):
        assert ArtifactStore(tmp_path / "artifacts").read(kept) == b"a result"


def test_a_write_ahead_log_is_used_only_where_sqlite_is_sound() -> None:
    assert journal_mode((3, 40, 1)) == "DELETE"
    assert journal_mode((3, 44, 6)) == journal_mode((3, 50, 7)) == "WAL"
    assert journal_mode((3, 51, 2)) == "DELETE"
    assert journal_mode((3, 51, 3)) == journal_mode((3, 52, 0)) == "WAL"


def store_job(session: Session) -> None:
    """A job of two items."""
    job = Job(
        id="job_1", state="queued", request={}, fingerprints={}, total=2, created_at=1.0,
        updated_at=1.0, version=1, succeeded=0, failed=0, skipped=0,
    )  # fmt: skip
    store.create(session, job, [store.Input(image="a"), store.Input(image="b")])


@pytest.fixture
def db(tmp_path: Path, database: str | None):
    db = Database(database or tmp_path / "jobs.sqlite")
    db.migrate()
    with db.write() as session:
        store_job(session)
    yield db
    db.close()


def test_only_the_latest_claim_of_an_item_counts(db: Database) -> None:
    with db.write() as session:
        old = store.claim(session, "first", 1, 2.0)[0]
        assert store.adopt(session, (), 3.0) == 1
        new = store.claim(session, "second", 1, 4.0)[0]
    assert (old.n, old.attempt, new.n, new.attempt) == (0, 1, 0, 2)
    with db.write() as session:
        assert not store.succeed(session, old, {"from": "old"}, 5.0)
        assert store.succeed(session, new, {"from": "new"}, 5.0)
        assert not store.succeed(session, new, {"from": "twice"}, 6.0)
    with db.read() as session:
        job = store.get(session, "job_1")
        assert job is not None
        assert (job.succeeded, job.state) == (1, "running")
        item = store.item(session, job.seq, 0)
        assert item is not None
        assert item.result == {"from": "new"}
        assert (item.attempt, item.spent) == (2, 1)


def test_claims_that_nobody_holds_are_given_back_and_the_others_stand(db: Database) -> None:
    with db.write() as session:
        held, lost = store.claim(session, "me", 2, 2.0)
        assert store.adopt(session, {(held.job, held.n, held.attempt)}, 3.0) == 1
        assert not store.succeed(session, lost, {}, 4.0)
        assert store.succeed(session, held, {}, 4.0)
        assert [one.n for one in store.claim(session, "me", 2, 5.0)] == [lost.n]


def test_an_item_is_set_aside_after_as_many_deaths_as_allowed(db: Database) -> None:
    with db.write() as session:
        for _ in range(3):
            claim = store.claim(session, "me", 1, 2.0)[0]
            assert claim.n == 0
            store.release(session, claim, 3.0, died=True, most_deaths=3)
        other = store.claim(session, "me", 5, 4.0)
        assert [one.n for one in other] == [1]
        store.release(session, other[0], 5.0, died=False, most_deaths=3)
        again = store.claim(session, "me", 5, 6.0)[0]
        store.succeed(session, again, {}, 7.0)
    with db.read() as session:
        job = store.get(session, "job_1")
        assert job is not None
        assert (job.state, job.succeeded, job.failed) == ("succeeded", 1, 1)
        spent = [(one.attempt, one.spent) for one in store.items(session, job.seq, None, -1, 9)]
        assert spent == [(3, 3), (2, 1)]


def test_the_number_of_an_erased_job_is_not_given_again(db: Database) -> None:
    def seq(number: int) -> int:
        job = Job(
            id=f"job_{number}", state="queued", request={}, fingerprints={}, total=1,
            created_at=1.0, updated_at=1.0, version=1, succeeded=0, failed=0, skipped=0,
        )  # fmt: skip
        with db.write() as session:
            store.create(session, job, [store.Input(image="a")])
        return job.seq

    first = seq(2)
    with db.write() as session:
        retention.erase(session, first)
    assert seq(3) == first + 1


def test_a_table_that_is_gone_is_damage(db: Database) -> None:
    with db.write() as session:
        session.execute(text("ALTER TABLE items RENAME TO elsewhere"))
    with pytest.raises(DamagedError, match="restore a backup"), db.read() as session:
        store.items(session, 1, None, -1, 10)


@pytest.mark.parametrize("told", ["x'7b2261223a'", "x'22ff22'"], ids=["half a JSON", "no UTF-8"])
def test_a_text_that_is_not_as_it_was_written_is_damage(tmp_path: Path, told: str) -> None:
    db = Database(tmp_path / "jobs.sqlite")
    db.migrate()
    with db.write() as session:
        store_job(session)
        session.execute(text(f"UPDATE items SET result = CAST({told} AS TEXT) WHERE n = 0"))
    with pytest.raises(DamagedError), db.read() as session:
        store.items(session, 1, None, -1, 10)
    with db.read() as session:
        assert store.item(session, 1, 1) is not None
    db.close()


def test_a_transaction_that_fails_leaves_no_trace(db: Database) -> None:
    def broken() -> None:
        with db.write() as session:
            store.claim(session, "me", 2, 2.0)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        broken()
    with db.read() as session:
        job = store.get(session, "job_1")
        assert job is not None
        assert job.state == "queued"


def test_patterns_take_paths_as_a_shell_would(image_folder: Path) -> None:
    datasets = Datasets({"pictures": image_folder})
    counts = {"**": 24, "**/*.png": 24, "cold/*": 12, "*": 0, "**/0?.png": 10, "warm/**/02.png": 1}
    for pattern, count in counts.items():
        assert len(datasets.matching("pictures", pattern)) == count, pattern
