"""A small network of a user's own, settings around it, and the application over both."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

import deconvnet as dn
from deconvnet import methods
from deconvnet.errors import ParameterError
from deconvnet_app.access import Access
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.support.postgres import Cluster

# What an own network's file looks like; three colours in an image's corner make it misbehave, as
# broken native code or a huge input would: the process dies, takes long, or gives NaN.
TINY = """
import os, signal, time
import torch
from torch import nn
from deconvnet.data.preprocess import Preprocess

class Moody(Preprocess):
    def crop(self, image):
        corner = image.convert("RGB").getpixel((0, 0))
        if corner == (255, 0, 255):
            os.kill(os.getpid(), signal.SIGKILL)
        if corner == (255, 255, 0):
            time.sleep(30)
        if corner == (0, 255, 255):
            time.sleep(0.3)
        return super().crop(image)

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(6 * 8 * 8, 5)

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        return self.fc(self.relu2(self.conv2(x)).flatten(1))

INPUT_SIZE = (3, 16, 16)
LANDMARKS = {"conv1": "relu1", "conv2": "relu2"}
PREPROCESS = Moody((16, 16))
CLASSES = ("ant", "bee", "cat", "dog", "elk")

def build():
    return Tiny()
"""

KILLER, SLEEPER, SLOW = (255, 0, 255), (255, 255, 0), (0, 255, 255)


def png(colour: tuple[int, int, int] = (10, 120, 60), size: tuple[int, int] = (16, 16)) -> bytes:
    """A PNG of one colour, with a darker square so that it is not flat."""
    image = Image.new("RGB", size, colour)
    image.paste((colour[2] // 2, 40, 90), (size[0] // 3, size[1] // 3, size[0] - 2, size[1] - 2))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    """`png`, for tests that upload."""
    return png


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The own network's file, as it is asked for."""
    path = tmp_path_factory.mktemp("own") / "tiny.py"
    path.write_text(TINY)
    return f"{path}:build"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `databases` that touches one runs on both kinds."""
    marked = metafunc.definition.get_closest_marker("databases")
    if marked and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", ("sqlite", "postgresql"), indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL of the tests' own."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The setting `database`: None, which is SQLite, unless the test is marked `databases`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    with cluster.database() as name:
        yield cluster.url(name)


@pytest.fixture
def tiny_settings(
    tmp_path: Path, image_folder: Path, tiny_model: str, database: str | None
) -> Callable[..., Settings]:
    """Settings with the network "tiny" and the dataset "pictures"; keywords change them.

    Nobody asks for the token, unless a test does.
    """

    def make(**changes: object) -> Settings:
        given = {
            "data_dir": tmp_path / "data",
            "database": database,
            "models": {"tiny": tiny_model},
            "datasets": {"pictures": image_folder},
            "backend": "inline",
            "device": "cpu",
            "port": 0,
            "allowed_hosts": ["testserver"],
            "auth": False,
        }
        return Settings.model_validate(given | changes)

    return make


def bearing(settings: Settings, **headers: str) -> TestClient:
    """A client of the application that shows the token."""
    headers["Authorization"] = f"Bearer {Access(settings.data_dir).token}"
    return TestClient(create_app(settings), headers=headers, raise_server_exceptions=False)


@pytest.fixture
def app(tiny_settings: Callable[..., Settings]) -> FastAPI:
    """The application, computing inline, not yet started."""
    return create_app(tiny_settings())


@pytest.fixture
def client(tiny_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """The application, computing inline."""
    with bearing(tiny_settings(auth=True)) as client:
        yield client


@pytest.fixture(scope="session")
def tiny_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: str, image_folder: Path
) -> Path:
    """The strongest nine of 24 pictures for each of the network's ten units."""
    out = tmp_path_factory.mktemp("index") / "pictures"
    net = dn.load(tiny_model, weights=None, device="cpu")
    dn.build_index(net, image_folder, out, k=9, progress=False)
    return out


@pytest.fixture
def pages(tiny_settings: Callable[..., Settings], tiny_index: Path) -> Iterator[TestClient]:
    """The application over that index, computing inline, asked as a browser asks."""
    settings = tiny_settings(indexes={"pictures": tiny_index}, auth=True)
    with bearing(settings, Accept="text/html,*/*;q=0.8") as client:
        yield client


class Hopeless(methods.Method):
    """A method that finds, with each image, what is wrong with every other one too."""

    name = title = source = "hopeless"
    explains = frozenset({"class"})
    needs_target = False
    Params = methods.Params

    def explain(self, *_: object) -> methods.Explanation:
        raise ParameterError("No image will do.")


@pytest.fixture
def hopeless() -> Iterator[str]:
    """A registered method whose jobs fail as a whole; named by `usefixtures`, before a client."""
    methods.register(Hopeless())
    yield Hopeless.name
    methods.unregister(Hopeless.name)
