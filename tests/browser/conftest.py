"""A served application over a small index, and a headless Chromium that looks at it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    expect,
    sync_playwright,
)

import deconvnet as dn
from deconvnet_app.access import Access
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.support.chromium import find

# Fifteen outputs and two stages: enough for every page, small enough to be indexed in a second.
NET = """
import torch
from torch import nn
from deconvnet.data.preprocess import Preprocess

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(12, 40, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(40 * 16 * 16, 15)

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        return self.fc(self.relu2(self.conv2(x)).flatten(1))

INPUT_SIZE = (3, 32, 32)
LANDMARKS = {"conv1": "relu1", "conv2": "relu2"}
PREPROCESS = Preprocess((32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES = tuple(f"class {n}, a long name of it" for n in range(15))

def build():
    return Small()
"""

# So wide that an occluder at every pixel takes seconds, and the coarse map a moment.
WIDE = """
import torch
from torch import nn

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 5)

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.fc(self.pool(x).flatten(1))

INPUT_SIZE = (3, 64, 64)
LANDMARKS = {"conv1": "relu1", "conv2": "relu2"}

def build():
    return Wide()
"""

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here drives a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def site_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's data directory."""
    return tmp_path_factory.mktemp("site-data")


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, site_data: Path, image_folder: Path
) -> Iterator[str]:
    """The address of a running server; its workers are real processes."""
    root = tmp_path_factory.mktemp("site")
    model = root / "small.py"
    model.write_text(NET)
    (root / "wide.py").write_text(WIDE)
    net = dn.load(f"{model}:build", weights=None, device="cpu")
    dn.build_index(net, image_folder, root / "index", k=9, progress=False)
    settings = Settings.model_validate(
        {
            "data_dir": site_data,
            "models": {"small": f"{model}:build", "wide": f"{root / 'wide.py'}:build"},
            "indexes": {"pictures": root / "index"},
            "datasets": {"pictures": image_folder},
            "device": "cpu",
        }
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    host, port = listening.getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(60)
    listening.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; none is an error, never a skip."""
    path = find()
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    """Keep what a page's scripts and its policy say; failed loads are seen as responses."""
    if message.type == "error" and not message.text.startswith("Failed to load resource"):
        complaints.append(message.text)


def _check(response: Response, complaints: list[str]) -> None:
    """A page may be an error page; what it is made of may not be missing."""
    wanted = 500 if response.request.resource_type == "document" else 400
    if response.status >= wanted:
        complaints.append(f"{response.status} {response.url}")


@pytest.fixture
def open_page(site: str, site_data: Path, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address of the site, signed in, in a window of its own.

    When the test ends, whatever the browser complained of, and every request to another host, fails
    it.
    """
    access = Access(site_data)
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def make(address: str, *, width: int = 1440, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.add_cookies([{"name": access.cookie, "value": access.session(), "url": site}])
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: _note(message, complaints))
        page.on("response", lambda response: _check(response, complaints))
        page.on(
            "request",
            lambda r: None if r.url.startswith((site, "blob:")) else complaints.append(r.url),
        )
        page.goto(site + address)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints
