"""Who may use a data directory's server: the token, links that work once, browsers' sessions.

The token is for programs. It is a file that only its owner may read, and appears nowhere else: not
in a link, a cookie, a page or a log. A person opens a link that holds a code; the code is spent on
a session, which the browser keeps as a cookie. Codes and sessions are made with the token: a new
token ends them all.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from functools import cached_property
from pathlib import Path

from itsdangerous import BadData, Signer, TimestampSigner

from deconvnet_app.errors import TokenError

_TOKEN = re.compile("[!-~]{32,}")
LINK_S = 3600  # a link that nobody has opened
SESSION_S = 30 * 24 * 3600


class Access:
    """The token of one data directory and what is made with it; safe to use from any thread.

    Args:
        data_dir: the token is `token` in it, made when it is first asked for.
    """

    def __init__(self, data_dir: Path) -> None:
        self.file = data_dir / "token"
        self._links = data_dir / "links"

    @cached_property
    def token(self) -> str:
        """256 bits, for programs.

        Raises:
            TokenError: others may read the file, or it cannot be made or read, or holds no token.
        """
        try:
            return self._token()
        except OSError as error:
            raise TokenError(
                f"Token file '{self.file}' cannot be made or read: {error.strerror}. See to that."
            ) from error

    def _token(self) -> str:
        if not self.file.exists():
            _write_once(self.file, secrets.token_urlsafe(32))
        if stat.S_IMODE(self.file.stat().st_mode) & 0o077:
            raise TokenError(
                f"Token file '{self.file}' is open to others. Delete it: the next start makes a "
                "new one, for you alone."
            )
        token = self.file.read_text(encoding="ascii", errors="replace").strip()
        if not _TOKEN.fullmatch(token):
            raise TokenError(
                f"Token file '{self.file}' holds no token; expected 32 printable ASCII characters "
                "or more, without spaces. Delete it: the next start makes a new one."
            )
        return token

    def remove_unfinished(self) -> int:
        """Remove what starts that were killed left of their tokens; how many files."""
        orphans = list(self.file.parent.glob(f".{self.file.name}-*"))
        for path in orphans:
            with contextlib.suppress(OSError):
                path.unlink()
        return len(orphans)

    def _sign(self, purpose: str, text: str) -> str:
        signer = Signer(self.token, salt=purpose, digest_method=hashlib.sha256)
        return signer.get_signature(text).decode()

    def admits(self, token: str) -> bool:
        """Whether that is the token; takes as long for any other."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    @cached_property
    def cookie(self) -> str:
        """The session cookie's name: cookies of all ports of a host lie together."""
        return f"deconvnet-{self._sign('cookie', '')[:8]}"

    def session(self) -> str:
        """A new session, as the browser keeps it."""
        return self._sessions.sign("session").decode()

    def knows(self, session: str) -> bool:
        """Whether that session was made here and still lasts."""
        text = session.encode(errors="replace")
        try:
            _, made_at = self._sessions.unsign(text, return_timestamp=True)
        except BadData:
            return False
        # Not `max_age`: that refuses what was made before the clock was set back.
        return time.time() - made_at.timestamp() <= SESSION_S

    @cached_property
    def _sessions(self) -> TimestampSigner:
        return TimestampSigner(self.token, salt="session", digest_method=hashlib.sha256)

    def mint(self) -> str:
        """A code that `spend` takes once, within an hour."""
        self._links.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._links.iterdir():
            if _age(path) > LINK_S:
                path.unlink(missing_ok=True)
        code = secrets.token_urlsafe(32)
        (self._links / self._sign("link", code)).touch(mode=0o600)
        return code

    def spend(self, code: str) -> bool:
        """Whether the code was minted, is young enough and had not been spent: it now is."""
        path = self._links / self._sign("link", code)
        try:
            fresh = _age(path) <= LINK_S
            path.unlink()  # of several that try, one succeeds
        except FileNotFoundError:
            return False
        return fresh


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _write_once(path: Path, text: str) -> None:
    """Put the text at the path, whole, unless somebody else just has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(
            FileExistsError, FileNotFoundError
        ):  # or tidied away: there is one
            path.hardlink_to(partial)
    finally:
        partial.unlink(missing_ok=True)
