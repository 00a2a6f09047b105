"""A PostgreSQL of the tests' own: found or installed, and run on loopback in a temporary folder."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.support.installing import MissingError, install, tell

USER, PASSWORD = "deconvnet", "a-pass/word that@nobody:sees"
PROGRAMS = ("initdb", "postgres", "pg_amcheck")
DEBIAN = Path("/usr/lib/postgresql")


def installed() -> Path | None:
    """The folder of PostgreSQL's programs: $POSTGRESQL, on the path, or Debian's newest."""
    asked = os.environ.get("POSTGRESQL")
    if asked:
        return Path(asked)
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((one for one in folders if all((one / name).exists() for name in PROGRAMS)), None)


def find() -> Path:
    """PostgreSQL's programs, installed now if they have to be.

    Raises:
        MissingError: they could not be had.
    """
    if found := installed():
        return found
    install("postgresql")
    if found := installed():
        return found
    raise MissingError(
        "The tests of jobs need PostgreSQL, and none could be found or installed. Install it "
        "(apt-get install postgresql) or give the folder of its programs in POSTGRESQL."
    )


class Cluster:
    """A running PostgreSQL. It refuses to run as root, so then it runs as somebody else."""

    def __init__(self) -> None:
        self._programs = find()
        self._folder = Path(tempfile.mkdtemp(prefix="deconvnet-postgres-"))
        self._as = _somebody() if os.geteuid() == 0 else {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._count = 0
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            for path in (self._folder, secret):
                os.chown(path, self._as["user"], self._as["group"])
        self._run(
            "initdb", "-D", str(self._folder / "data"), "-U", USER, "--pwfile", str(secret),
            "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=os.environ | {"PGPASSWORD": PASSWORD},
            **self._as,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start, and wait until it answers.

        Nothing is flushed to the disk: processes are killed here, the machine is not.
        """
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--unix_socket_directories="], stderr=log, cwd="/", **self._as
            )
        until = time.monotonic() + 60
        while not self._answers():
            said = (self._folder / "log").read_text()
            assert self._process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT true") == [(True,)]
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """End every session, then the server."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def close(self) -> None:
        """Stop, and leave nothing."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Where a database is."""
        user = f"{USER}:{quote(password, safe='')}"
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A session beside the application's; each statement is committed."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database,
            autocommit=True,
        )  # fmt: skip

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        with self.connect(database) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of an empty database, dropped in the end."""
        self._count += 1
        name = f"test{self._count}"
        self.execute(f"CREATE DATABASE {name}")
        yield name
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def check(self, database: str) -> None:
        """Fail if what is stored is damaged."""
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER)
        self._run("pg_amcheck", "--install-missing", "--heapallindexed", *place, database)


def _somebody() -> dict[str, Any]:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise MissingError("PostgreSQL does not run as root, and there is no user postgres or nobody.")


if __name__ == "__main__":
    tell("PostgreSQL", find)
