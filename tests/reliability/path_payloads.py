"""Paths, drives, NULs and overlong UTF-8 as ids, on every route that takes one.

Each must be refused (400, 404 or 422), and nothing outside the server's own folders be opened. An
audit hook in the server's process notes every file and folder that Python opens there; it does not
see the workers, which get nothing of a request that is refused, nor what C libraries open. With
--strace that is seen too: whatever the server, its workers and their children open (Linux; strace
has to be installed, and be allowed to look).
"""

import argparse
import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from tests.reliability import serving
from tests.support.checkout import ROOT

HOOKED = """
import os, sys
handle = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        os.write(handle, (os.path.abspath(os.fsdecode(arguments[0])) + "\\0").encode())
sys.addaudithook(note)
"""
OPENED = re.compile(r"^.*\) += \d+<(/[^>]*)>$", re.MULTILINE)
# The clock's zone and what the kernel tells of itself: read whatever is asked for.
SYSTEM = tuple(Path(one) for one in ("/proc", "/sys", "/dev", "/etc/localtime"))
REFUSED = (400, 404, 405, 422)
SECRET = "this must never be read"
USUAL = {
    "model": "zfnet64",
    "layer": "conv5",
    "unit": "conv5:7",
    "dataset": "pictures",
    "index": "pictures",
    "image": "0",
    "job": "job_0",
    "n": "0",
    "name": "heatmap",
    "channel": "0",
    "key": "0" * 64 + ".png",
}
ODD = (
    ".", "..", "...", "%00", "a%00.png", "%0d%0aX-A:%20b", "~", "~root", "-", "--help", "$(id)",
    "%7Cid", "`id`", "CON", "NUL", "AUX.png", "%", "%%", "%zz", "%u002e", "a" * 300, "a" * 5000,
    "1e999", "-1", "10" * 20, "0x10", "%ed%a0%80", "%ff%fe", "%e2%80%ae", "%f0%9f%92%a3", "*",
    "%3F", "%23", "[a-z]", "{model}", "%7B%7B7*7%7D%7D", "None", "null", "undefined", "true",
    "' OR 1=1--", "%27%3B--", "%22", "<b>",
)  # fmt: skip


def payloads(outside: Path, count: int) -> list[str]:
    """So many different ones: climbing and absolute, at several files, in several spellings."""
    climbs = ["../" * n for n in (1, 2, 3, 5, 8, 16)]
    climbs += ["/", "//", "./../", "....//....//", "..;/..;/", "file:///", "C:/", "//host/share/"]
    targets = ["etc/passwd", "proc/self/environ", "deconvnet.sqlite", "token"]
    targets += [str(outside)[1:], f"{outside.with_name('evil.py')}:build"[1:]]
    spell = (
        lambda text: text,
        lambda text: text.replace("/", "%2f").replace(".", "%2e"),
        lambda text: text.replace("/", "%252f").replace(".", "%252e"),
        lambda text: text.replace("/", "%c0%af").replace(".", "%c0%ae"),
        lambda text: text.replace("/", "%e0%80%af").replace(".", "%e0%80%ae"),
        lambda text: text.replace("/", "%5c"),
        lambda text: text.replace("/", "%ef%bc%8f").replace(".", "%ef%bc%8e"),
        lambda text: text.replace("/", "%2F") + "%00.png",
        lambda text: text.replace("/", "%2F") + "%20",
    )
    made = [*ODD, *(way(up + target) for way, up, target in product(spell, climbs, targets))]
    distinct = list(dict.fromkeys(quote(one, safe="/%:;.*~-$()|{}[]'") for one in made))
    if len(distinct) <= count:
        return distinct
    step = len(distinct) / count
    return [distinct[int(number * step)] for number in range(count)]


def routes() -> list[tuple[str, str]]:
    """(method, pattern) of every route with an id."""
    from deconvnet_app.main import create_app
    from deconvnet_app.settings import Settings
    from deconvnet_app.urls import Urls

    spec = create_app(Settings()).openapi()["paths"]
    pages = [url for name, url in vars(Urls).items() if name.isupper() and "{" in url]
    found = [(verb.upper(), path) for path, verbs in spec.items() for verb in verbs if "{" in path]
    for page in pages:
        found.append(("POST" if page == Urls.CANCEL else "GET", page))
    return found + [("GET", f"{page}.json") for page in pages if page.startswith(Urls.MODEL)]


def requests(patterns: list[tuple[str, str]], bad: list[str]) -> Iterator[tuple[str, str]]:
    """(method, address) with each payload in each place of each route, and in queries."""
    for verb, pattern in patterns:
        names = re.findall(r"{(\w+)}", pattern)
        for place, payload in product(names, bad):
            values = {name: USUAL.get(name, "0") for name in names} | {place: payload}
            yield verb, pattern.format(**values)
    for payload in bad:
        inside = payload.replace("&", "%26").replace("#", "%23")
        yield "GET", f"/occlusion?model={inside}"
        yield "GET", f"/occlusion?model=zfnet64&image={inside}"


def attack(
    served: serving.Served, asked: Iterator[tuple[str, str]]
) -> tuple[Counter[int], list[str]]:
    """How often each status came, and what should not have come."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    statuses: Counter[int] = Counter()
    wrong = []
    for verb, address in asked:
        connection.request(verb, address, headers=served.bearer)
        answer = connection.getresponse()
        text = answer.read()
        statuses[answer.status] += 1
        if answer.will_close:
            connection.close()
        leaked = SECRET.encode() in text or b"root:x:" in text
        # A slash too many leads to the same address without it, which is asked for in its turn.
        moved = answer.status == 307 and (answer.headers["Location"] or "").startswith("http://127")
        if leaked or not (answer.status in REFUSED or moved):
            wrong.append(f"{answer.status} {verb} {address[:150]}")
    connection.close()
    return statuses, wrong


def _family(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    told = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in told.stdout.splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in pairs if parent == one]
    return found


@contextlib.contextmanager
def traced(pid: int, notes: Path) -> Iterator[None]:
    """strace on a process and all its family, those to come too; it writes what is opened."""
    whom = [part for one in _family(pid) for part in ("-p", str(one))]
    calls = "trace=open,openat,openat2,creat"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", calls, "-o", str(notes), *whom]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    first = tracer.stderr.readline()
    assert "attached" in first, f"strace may not look: {first}"
    time.sleep(1)  # until it has all of them
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()


def main() -> int:
    """Print what came; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payloads", type=int, default=500)
    parser.add_argument("--strace", action="store_true", help="see what C and workers open too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        own, outside = root / "own", root / "outside" / "secret.txt"
        (own / "pictures").mkdir(parents=True)
        outside.parent.mkdir()
        outside.write_text(SECRET)
        outside.with_name("evil.py").write_text(f"raise SystemExit({SECRET!r})")
        for grey in (60, 160):
            Image.radial_gradient("L").point(lambda v, g=grey: v // 2 + g // 2).convert("RGB").save(
                own / "pictures" / f"{grey}.png"
            )
        opened = root / "opened"
        os.environ["OPENED"] = str(opened)
        arguments = ["--dataset", str(own / "pictures")]
        with serving.server(own, *arguments, code=HOOKED + serving.COMMAND) as served:
            attack(served, iter([("GET", "/"), ("GET", "/jobs"), ("GET", "/models/zfnet64")]))
            before = len(opened.read_bytes())
            bad = payloads(outside, given.payloads)
            patterns = routes()
            notes = root / "strace"
            with traced(served.process.pid, notes) if given.strace else contextlib.nullcontext():
                statuses, wrong = attack(served, requests(patterns, bad))
            paths = set(opened.read_bytes()[before:].decode().split("\0")) - {""}
            if given.strace:
                seen = OPENED.findall(notes.read_text(errors="replace"))
                assert seen, "strace saw nothing, not even the database"
                paths.update(seen)
            assert served.process.poll() is None, "the server has gone"
        mine = (own, ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
        mine += SYSTEM if given.strace else ()
        strange = [p for p in paths if not any(Path(p).is_relative_to(one) for one in mine)]
    print(f"{len(bad)} payloads, {len(patterns)} routes, {statuses.total()} requests: {statuses}")
    how = "by strace" if given.strace else "by an audit hook"
    print(f"opened meanwhile, {how}: {len(paths)} files and folders")
    print(f"outside the server's own: {strange}")
    print(f"not refused: {len(wrong)}", *wrong[:20], sep="\n")
    return int(bool(wrong or strange))


if __name__ == "__main__":
    sys.exit(main())
