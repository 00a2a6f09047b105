"""What every test may use: the checkout, a photograph, small datasets, the demo's network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

# A busy machine is no failure: no deadline for an example, nor for drawing one.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

pytest_plugins = ["tests.support.server"]

ROOT = Path(__file__).resolve().parent.parent


# They start servers, clusters or browsers, measure memory, or fill the machine: see `make pytest`.
ALONE = (
    "browser", "journeys", "reliability", "deconvnet_app/compute/backends",
    "deconvnet_app/compute/test_little_memory.py", "deconvnet_app/db/test_engine.py",
    "deconvnet_app/http/test_protocol.py", "deconvnet_app/jobs/test_durability.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that run alone; those marked `gpu` run where there is CUDA, and nowhere else."""
    without = pytest.mark.skip(reason="needs CUDA")
    alone = [ROOT / "tests" / name for name in ALONE]
    for item in items:
        if any(item.path.is_relative_to(path) for path in alone):
            item.add_marker(pytest.mark.alone)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(without)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A smooth coloured picture of (height, width), another for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Image.Image]:
    """`picture`, for tests that want one."""
    return picture


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture file of 80×100 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture(0, (80, 100)).save(path)
    return path


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of 64×64 in two labelled folders of 12."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(24):
        label = folder / ("cold" if number % 2 else "warm")
        label.mkdir(exist_ok=True)
        picture(number).save(label / f"{number:02d}.png")
    return folder
