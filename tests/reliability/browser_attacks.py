"""What other sites' pages and hostile names try on a signed-in browser: none may succeed.

A real Chromium is signed in at the server. Attackers' pages lie on another port of the same host
and on another site; they forge requests, read answers, frame pages, and rebind a name of theirs to
the server's address. File names, labels, model names, EXIF texts and queries carry scripts.
"""

import argparse
import http.client
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.reliability import serving

EVIL = "evil.example"
NAMES = (EVIL, f"127.0.0.1.{EVIL}", f"localhost.{EVIL}")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SCRIPTS = (
    "<img src=x onerror=window.pwned=1 data-xss>",
    '"><script data-xss>window.pwned=1</script>',
    "'\" autofocus onfocus=window.pwned=1 data-xss='",
    "</script><svg data-xss onload=window.pwned=1>",
    "{{ 7*7 }}<b data-xss>",
)

Attack = Callable[[], bool]


@dataclass(frozen=True)
class Scene:
    """A signed-in browser, the server, and the attackers' web server."""

    context: BrowserContext
    served: serving.Served
    attacker: int

    @property
    def victim(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.served.port}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """A request of the operator's own, with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=60)
        connection.request(method, path, body, {**self.served.bearer, **headers})
        with connection.getresponse() as answer:
            return answer.read()

    def upload(self, name: str, data: bytes) -> str:
        """An uploaded image's id."""
        quoted = name.replace('"', "%22").encode()
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + quoted + b'"\r\n'
        body = head + b"\r\n" + data + b"\r\n--b--\r\n"
        kind = "multipart/form-data; boundary=b"
        return str(
            json.loads(self.ask("POST", "/api/v1/images", body, **{"Content-Type": kind}))["id"]
        )

    def jobs(self) -> bytes:
        """The jobs there are, and their states."""
        found = json.loads(self.ask("GET", "/api/v1/jobs"))["items"]
        return json.dumps([(one["id"], one["state"]) for one in found]).encode()


class _Pages(BaseHTTPRequestHandler):
    """The attackers' web server: says what `html` holds."""

    html = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(type(self).html)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def picture(text: str = "") -> bytes:
    """A JPEG whose EXIF fields and comment say that."""
    image = Image.linear_gradient("L").convert("RGB").resize((96, 96))
    exif = Image.Exif()
    for tag in (0x010E, 0x013B, 0x8298, 0x0131):  # description, artist, copyright, software
        exif[tag] = text
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, comment=text.encode())
    return buffer.getvalue()


def _visit(scene: Scene, origin: str, html: str, wait_ms: int = 700) -> Page:
    """Open an attacker's page."""
    _Pages.html = b"<!doctype html><body>" + html.encode()
    page = scene.context.new_page()
    page.goto(f"http://{origin}:{scene.attacker}/", wait_until="load")
    page.wait_for_timeout(wait_ms)
    return page


def _forged(scene: Scene, origin: str, html: str) -> bool:
    """Whether the page changed anything at the server."""
    before = scene.jobs()
    _visit(scene, origin, html).close()
    return scene.jobs() != before


def _stolen(scene: Scene, origin: str, html: str) -> bool:
    """Whether the page learnt something; it then says so in `window.stolen`."""
    page = _visit(scene, origin, html)
    found = page.evaluate("Boolean(window.stolen)")
    page.close()
    return bool(found)


def forgeries(scene: Scene, job: str) -> Iterator[tuple[str, Attack]]:
    """Requests that change something, from other origins."""
    at = scene.victim
    body = json.dumps(
        {"model": "zfnet64", "method": "deconv", "target": {"unit": "conv5:1"}}
        | {"inputs": {"dataset": "pictures", "limit": 1}}
    )
    fields = {"model": "zfnet64", "method": "deconv", "target": "conv5:1", "dataset": "pictures"}
    inputs = "".join(f"<input name={key} value={value}>" for key, value in fields.items())
    go = "<script>document.forms[0].submit()</script>"
    plain = (
        body.replace("'", "&#39;")[:-1].replace('"', "&quot;") + ",&quot;metadata&quot;:{&quot;a"
    )
    pages = {
        "form": f"<form method=post action={at}/jobs>{inputs}</form>{go}",
        "form, multipart": "<form method=post enctype=multipart/form-data "
        f"action={at}/jobs>{inputs}</form>{go}",
        "form that cancels": f"<form method=post action={at}/jobs/{job}/cancel></form>{go}",
        "form that cancels by REST": "<form method=post "
        f"action={at}/api/v1/jobs/{job}/cancel></form>{go}",
        "form of JSON": f"<form method=post enctype=text/plain action={at}/api/v1/jobs>"
        f'<input name="{plain}" value="&quot;:1}}}}"></form>{go}',
        "fetch, no-cors": f"<script>fetch('{at}/api/v1/jobs',{{method:'POST',mode:'no-cors',"
        f"credentials:'include',body:{json.dumps(body)}}})</script>",
        "fetch of JSON": f"<script>fetch('{at}/api/v1/jobs',{{method:'POST',credentials:'include',"
        f"headers:{{'Content-Type':'application/json'}},body:{json.dumps(body)}}})</script>",
        "beacon": f"<script>navigator.sendBeacon('{at}/api/v1/jobs',"
        f"new Blob([{json.dumps(body)}],{{type:'text/plain'}}))</script>",
    }
    for origin in ("127.0.0.1", EVIL):
        for name, html in pages.items():
            yield f"forge: {name}, from {origin}", partial(_forged, scene, origin, html)


def thefts(scene: Scene) -> Iterator[tuple[str, Attack]]:
    """Answers read by other origins."""
    at, image = scene.victim, scene.upload("b.jpg", picture())
    won = "window.stolen=1"
    pages = {
        "fetch": f"<script>fetch('{at}/api/v1/models',{{credentials:'include'}})"
        f".then(r=>r.text()).then(()=>{won})</script>",
        "script": f"<script src={at}/api/v1/models onload={won}></script>",
        "image": f"<img src={at}/api/v1/images/{image}.png onload={won}>",
        "stylesheet": f"<link rel=stylesheet href={at}/static/css/tokens.css onload={won}>",
        "frame": f"<iframe src={at}/ onload='try{{if(frames[0].document.body.innerText){won}}}"
        "catch(e){}'></iframe>",
        "window": f"<script>w=open('{at}/');setTimeout(()=>{{try{{w.document.title&&({won})}}"
        "catch(e){{}}}},400)</script>",
        "event stream": f"<script>new EventSource('{at}/jobs',{{withCredentials:true}})"
        f".onopen=()=>{won}</script>",
        "web socket": f"<script>new WebSocket('{at.replace('http', 'ws')}/')"
        f".onopen=()=>{won}</script>",
    }
    for name, html in pages.items():
        yield f"steal by {name}", partial(_stolen, scene, EVIL, html)


def framings(scene: Scene) -> Iterator[tuple[str, Attack]]:
    """The server's pages inside another site's."""

    def framed(tag: str) -> bool:
        page = _visit(scene, "127.0.0.1", tag)
        inside = [one for one in page.frames if one.url.startswith(scene.victim)]
        found = any(one.query_selector("main") is not None for one in inside)
        page.close()
        return found

    for path in ("/", "/jobs", "/login?code=x"):
        address = scene.victim + path
        yield f"frame {path}", partial(framed, f"<iframe src={address}></iframe>")
    yield "frame as object", partial(framed, f"<object data={scene.victim}/></object>")
    yield "frame as embed", partial(framed, f"<embed src={scene.victim}/>")


def rebindings(scene: Scene) -> Iterator[tuple[str, Attack]]:
    """A name of the attacker's own that now leads to the server."""

    def served(name: str, path: str) -> bool:
        page = scene.context.new_page()
        answer = page.goto(f"http://{name}:{scene.served.port}{path}")
        found = answer is None or answer.status < 400
        page.close()
        return found

    def posted() -> bool:
        page = scene.context.new_page()
        page.goto(f"http://{EVIL}:{scene.served.port}/")
        status = page.evaluate("fetch('/api/v1/jobs',{method:'POST',body:'{}'}).then(r=>r.status)")
        page.close()
        return status != 400

    for name in NAMES:
        yield f"rebind {name}", partial(served, name, "/")
    yield "rebind for the interface", partial(served, EVIL, "/api/v1/models")
    yield "rebind for /livez", partial(served, EVIL, "/livez")
    yield "rebind and post", posted


def _ran(scene: Scene, path: str) -> bool:
    """Whether a script of ours ran there, or an element of ours came to be."""
    page = scene.context.new_page()
    dialogs: list[object] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    page.goto(scene.victim + path)
    page.wait_for_timeout(200)
    made = page.evaluate("Boolean(window.pwned) || Boolean(document.querySelector('[data-xss]'))")
    page.close()
    return bool(made or dialogs)


def injections(scene: Scene) -> Iterator[tuple[str, Attack]]:
    """Scripts where names are expected."""
    for number, script in enumerate(SCRIPTS):
        image = scene.upload(f"{script}.jpg", picture(script))
        yield (
            f"inject by file name and EXIF {number}",
            partial(_ran, scene, f"/occlusion?model=zfnet64&image={image}"),
        )
        job = {"model": "zfnet64", "method": "deconv", "target": {"unit": "conv5:1"}}
        job["metadata"] = {"note": script}
        job["inputs"] = {"images": [{"id": image, "custom_id": script}]}
        text = json.dumps(job).encode()
        made = json.loads(
            scene.ask("POST", "/api/v1/jobs", text, **{"Content-Type": "application/json"})
        )
        yield f"inject by custom_id {number}", partial(_ran, scene, f"/jobs/{made['id']}")
        quoted = quote(script, safe="")
        for path in (f"/models/{quoted}", f"/search?q={quoted}", f"/occlusion?image={quoted}"):
            yield (
                f"inject by address {path.split(quoted)[0]} {number}",
                partial(_ran, scene, path),
            )
    for path in ("/", "/jobs", "/jobs.json", "/occlusion", "/api/v1/models", "/api/v1/datasets"):
        yield f"inject by model name and label, {path}", partial(_ran, scene, path)
    yield "inject by label, images", partial(_ran, scene, "/api/v1/datasets/pictures/images")


def attacks(scene: Scene, job: str) -> list[tuple[str, Attack]]:
    """All of them."""
    made = (forgeries(scene, job), thefts(scene), framings(scene), rebindings(scene))
    return [one for kind in (*made, injections(scene)) for one in kind]


def sign_in(browser: Browser, served: serving.Served) -> BrowserContext:
    """A context that has opened the link, and whose address bar holds no code."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.link)
    assert page.url == f"http://127.0.0.1:{served.port}/", page.url
    page.close()
    return context


def stage(folder: Path) -> serving.Served:
    """A server whose model names, labels and pictures are hostile."""
    label = folder / "pictures" / SCRIPTS[0]
    label.mkdir(parents=True)
    for number in range(2):
        (label / f"{number}.jpg").write_bytes(picture(SCRIPTS[1]))
    net = folder / "net.py"
    net.write_text(
        "from torch import nn\nINPUT_SIZE = (3, 32, 32)\n"
        f"CLASSES = ({SCRIPTS[0]!r}, {SCRIPTS[1]!r})\n"
        "def build():\n    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), "
        "nn.Linear(3136, 2))\n"
    )
    models = {SCRIPTS[0]: f"{net}:build", SCRIPTS[2]: f"{net}:build"}
    arguments = ["--dataset", str(folder / "pictures")]
    return serving.start(folder / "data", *arguments, settings={"models": models})


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="every n-th attack alone")
    given = parser.parse_args()
    from tests.support.chromium import find

    pages = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in NAMES)
    succeeded = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = stage(Path(folder))
        browser = playwright.chromium.launch(
            executable_path=find(), args=[*FLAGS, f"--host-resolver-rules={rules}"]
        )
        try:
            scene = Scene(sign_in(browser, served), served, pages.server_port)
            assert scene.context.request.get(f"{scene.victim}/").status == 200
            job = _long_job(scene)
            tried = attacks(scene, job)[:: given.every]
            for name, attack in tried:
                try:
                    won = attack()
                except BrowserError as error:
                    sys.exit(f"{name}: {error}")
                succeeded += [name] * won
                print("SUCCEEDED" if won else "failed   ", name)
        finally:
            browser.close()
            served.process.kill()
            served.process.wait()
            pages.shutdown()
    print(f"{len(tried)} attacks, {len(succeeded)} succeeded")
    return int(bool(succeeded))


def _long_job(scene: Scene) -> str:
    """A job that somebody could want to cancel: it waits behind its own many positions."""
    body = {"model": "zfnet64", "method": "occlusion", "params": {"size": 8, "stride": 1}}
    body["inputs"] = {"images": [{"id": scene.upload("a.jpg", picture())}] * 200}
    text = json.dumps(body).encode()
    made = scene.ask("POST", "/api/v1/jobs", text, **{"Content-Type": "application/json"})
    return str(json.loads(made)["id"])


if __name__ == "__main__":
    sys.exit(main())
