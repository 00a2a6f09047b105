"""An index of the small network, for the tests of the pages."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import deconvnet as dn
from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="session")
def tiny_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: str, image_folder: Path
) -> Path:
    """The strongest nine of 24 pictures for each of the network's ten units."""
    out = tmp_path_factory.mktemp("index") / "pictures"
    net = dn.load(tiny_model, weights=None, device="cpu")
    net.name = "tiny"
    dn.build_index(net, image_folder, out, k=9, progress=False)
    return out


@pytest.fixture
def pages(tiny_settings: Callable[..., Settings], tiny_index: Path) -> Iterator[TestClient]:
    """The application over that index, computing inline, asked as a browser asks."""
    settings = tiny_settings(indexes={"pictures": tiny_index})
    headers = {"Accept": "text/html,*/*;q=0.8"}
    with TestClient(create_app(settings), headers=headers, raise_server_exceptions=False) as client:
        yield client
