"""Who is let in: the token, the link that works once, the session; and by which name."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient

from deconvnet_app import lock
from deconvnet_app.access import LINK_S, SESSION_S, Access
from deconvnet_app.errors import DataDirBusyError, DataDirError, TokenError
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from deconvnet_app.urls import Urls


@pytest.fixture
def settings(tiny_settings: Callable[..., Settings]) -> Settings:
    return tiny_settings(auth=True)


@pytest.fixture
def access(settings: Settings) -> Access:
    return Access(settings.data_dir)


@pytest.fixture
def stranger(settings: Settings) -> Iterator[TestClient]:
    """A browser that has neither token nor session."""
    headers = {"Accept": "text/html"}
    app = create_app(settings)
    with TestClient(app, headers=headers, follow_redirects=False) as client:
        yield client


def test_the_token_is_made_once_and_for_its_owner_alone(access: Access) -> None:
    assert len(access.token) >= 43  # 256 bits in base 64
    assert stat.S_IMODE(access.file.stat().st_mode) == 0o600
    assert Access(access.file.parent).token == access.token
    assert [path.name for path in access.file.parent.iterdir()] == ["token"]


def test_what_killed_starts_left_of_their_tokens_is_removed_and_the_token_stays(
    settings: Settings, access: Access
) -> None:
    access.file.parent.mkdir()
    (access.file.parent / ".token-123-89abcdef").write_text("half")
    with TestClient(create_app(settings)):
        pass
    assert [path.name for path in access.file.parent.glob("*token*")] == ["token"]
    assert len(access.token) >= 43


def test_a_token_that_others_may_read_is_refused(access: Access) -> None:
    access.file.parent.mkdir()
    access.file.write_text("x" * 43)
    access.file.chmod(0o640)
    with pytest.raises(TokenError, match="is open to others"):
        _ = access.token


@pytest.mark.parametrize("held", [b"short", b"\xff" * 43, b"a" * 30 + b"\n" + b"b" * 30, b""])
def test_a_file_that_holds_no_token_is_refused(access: Access, held: bytes) -> None:
    access.file.parent.mkdir()
    access.file.write_bytes(held)
    access.file.chmod(0o600)
    with pytest.raises(TokenError, match="holds no token"):
        _ = access.token


def test_an_application_that_is_not_started_touches_no_file(settings: Settings) -> None:
    create_app(settings)
    assert not settings.data_dir.exists()


def test_a_place_where_nothing_can_be_kept_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(DataDirError, match=f"'{taken}' cannot be used"), lock.sole_owner(taken, ""):
        pass
    with pytest.raises(TokenError, match="cannot be made or read"):
        _ = Access(taken).token


def test_strangers_learn_nothing_but_that_the_server_lives(stranger: TestClient) -> None:
    for url in ("/", "/home.json", "/jobs", "/metrics", "/media/artifacts/a.png", "/nowhere"):
        assert stranger.get(url).status_code == 401, url
    for url in ("/livez", "/readyz", "/static/favicon.svg"):
        assert stranger.get(url).status_code == 200, url


def test_a_page_tells_strangers_the_remedy(stranger: TestClient) -> None:
    answer = stranger.get("/models/tiny")
    assert "deconvnet link --data-dir" in answer.text
    assert 'class="actions"' not in answer.text  # each button would lead to the same page
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_interface_tells_strangers_how_to_show_the_token(stranger: TestClient) -> None:
    answer = stranger.get("/api/v1/models")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "Authorization: Bearer" in answer.json()["detail"]


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic {token}",
        "Bearer {token}x",
        "{token}",
        "Bearer é",
    ],
)
def test_only_the_token_itself_is_taken(stranger: TestClient, access: Access, shown: str) -> None:
    headers = {"Authorization": shown.format(token=access.token).encode("latin-1")}
    assert stranger.get("/api/v1", headers=headers).status_code == 401
    headers = {"Authorization": f"bearer {access.token}".encode()}
    assert stranger.get("/api/v1", headers=headers).status_code == 200


def test_the_link_signs_a_browser_in_and_leaves_the_address_bar(
    stranger: TestClient, access: Access
) -> None:
    answer = stranger.get(Urls.login(access.mint()))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert answer.headers["Cache-Control"] == "no-store"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert access.token not in str(answer.headers)
    assert stranger.get("/").status_code == 200


def test_a_link_works_once(stranger: TestClient, access: Access) -> None:
    link = Urls.login(access.mint())
    assert stranger.get(link).status_code == 303
    assert stranger.get(link).status_code == 303  # signed in already
    stranger.cookies.clear()
    answer = stranger.get(link)
    assert answer.status_code == 410
    assert "deconvnet link" in answer.text


def test_an_old_link_does_not_work_and_is_swept_up(access: Access) -> None:
    code = access.mint()
    (link,) = (access.file.parent / "links").iterdir()
    old = time.time() - LINK_S - 1
    os.utime(link, (old, old))
    assert not access.spend(code)
    access.mint()
    assert not link.exists()


def test_neither_the_token_nor_a_code_is_kept_where_it_can_be_read(access: Access) -> None:
    code = access.mint()
    (link,) = (access.file.parent / "links").iterdir()
    assert code not in str(link)
    assert link.read_bytes() == b""
    assert access.token not in access.session()


def test_a_session_ends_and_cannot_be_stretched(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = access.session()
    assert access.knows(session)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("deconvnet_app.access.time.time", lambda: now + 1000)
        _, stretched, _ = access.session().split(".")
    name, made_at, signature = session.split(".")
    for forged in (
        f"{name}.{stretched}.{signature}", name, f"{name}.{made_at}", f"{name}.{made_at}.", ".", "",
        f"{name}.{made_at}.é",
    ):  # fmt: skip
        assert not access.knows(forged)
    monkeypatch.setattr("deconvnet_app.access.time.time", lambda: now - 2 * 24 * 3600)
    assert access.knows(session)  # the clock was set back
    monkeypatch.setattr("deconvnet_app.access.time.time", lambda: now + SESSION_S + 1)
    assert not access.knows(session)


def test_a_new_token_ends_sessions_and_links(access: Access) -> None:
    session, code = access.session(), access.mint()
    access.file.unlink()
    after = Access(access.file.parent)
    assert not after.knows(session)
    assert not after.spend(code)


def test_a_name_that_is_not_the_servers_is_refused(stranger: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "a@127.0.0.1", "127.0.0.1/x", ""):
        answer = stranger.get("/livez", headers={"Host": host, "Accept": "*/*"})
        assert answer.status_code == 400, host
        assert answer.json()["type"].endswith("foreign_host")
    for host in ("127.0.0.1", "localhost:8000", "[::1]:8000", "TESTSERVER"):
        assert stranger.get("/livez", headers={"Host": host}).status_code == 200, host


def test_a_host_header_cannot_pass_for_an_open_path(stranger: TestClient) -> None:
    answer = stranger.get("/api/v1", headers={"Host": "localhost/livez?"})
    assert answer.status_code == 400


def test_without_auth_nobody_is_asked(tiny_settings: Callable[..., Settings]) -> None:
    app = create_app(tiny_settings())
    with TestClient(app, follow_redirects=False) as client:
        assert client.get("/api/v1").status_code == 200
        assert client.get(Urls.LOGIN).headers["Location"] == "/"


def test_the_owner_of_a_data_directory_is_told_while_there_is_one(tmp_path: Path) -> None:
    assert lock.owner(tmp_path) is None
    with lock.sole_owner(tmp_path, "http://127.0.0.1:1"):
        said = lock.owner(tmp_path)
        assert said is not None
        assert said.startswith("http://127.0.0.1:1 ")
    assert lock.owner(tmp_path) is None


def test_a_data_directory_has_one_server_even_if_its_lock_file_is_deleted(tmp_path: Path) -> None:
    with lock.sole_owner(tmp_path, "the first"):
        for _ in range(2):
            with pytest.raises(DataDirBusyError), lock.sole_owner(tmp_path, "the second"):
                pass
            (tmp_path / lock.LOCK).unlink()
    with lock.sole_owner(tmp_path, "the third"):
        pass


def test_a_link_to_another_servers_database_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "db").write_text("")
    (first / "same").symlink_to(first / "db")
    (second / "db").symlink_to(first / "db")
    with lock.sole_owner(first, "the first", first / "same"):
        with pytest.raises(DataDirBusyError), lock.sole_owner(second, "", second / "db"):
            pass
        with lock.sole_owner(second, "the second", second / "none"):
            pass
    with lock.sole_owner(second, "the second", second / "db"):
        pass


def test_answers_do_not_wait_for_the_clients_acknowledgement(settings: Settings) -> None:
    from deconvnet_app.server import listen

    with listen(settings) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # asyncio turns Nagle's algorithm off for it


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://testserver/livez", b"evil.example", 200),
        (b"HTTP://TESTSERVER:80/livez", b"testserver", 200),
        (b"http://testserver/%6Civez", b"testserver", 200),
        (b"http://testserver", b"testserver", 401),
        (b"http://testserver/static/../api/v1", b"testserver", 404),
        (b"http://evil.example/livez", b"testserver", 400),
        (b"http://evil.example@testserver/livez", b"testserver", 400),
        (b"http:///livez", b"testserver", 400),
    ],
)
def test_a_request_for_a_whole_url_is_one_for_its_path_at_its_host(
    target: bytes, host: bytes, status: int, tiny_settings: Callable[..., Settings]
) -> None:
    asked: dict[str, Any] = {"type": "http", "method": "GET", "query_string": b""}
    asked |= {"raw_path": target, "path": unquote(target.decode()), "headers": [(b"host", host)]}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as thread:
        app = create_app(tiny_settings(auth=True))
        thread.submit(asyncio.run, app(asked, receive, send)).result(20)
    assert sent[0]["status"] == status, sent
