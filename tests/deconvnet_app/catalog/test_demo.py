"""The demo's tiles: cut from the photographs that scikit-image ships, the same every time."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvnet.data.dataset import open_dataset
from deconvnet.errors import DatasetError
from deconvnet_app.catalog import demo


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "tiles"
    demo.write_tiles(root)
    return root


def test_there_are_one_to_two_thousand_tiles_of_64_pixels(tiles: Path):
    dataset = open_dataset(tiles, group=demo.photograph_of)
    assert 1000 <= len(dataset) <= 2000
    assert dataset.image(0).size == (64, 64)
    assert dataset.image(len(dataset) - 1).size == (64, 64)


def test_each_photograph_is_a_folder_a_label_and_a_group_of_at_most_100(tiles: Path):
    dataset = open_dataset(tiles, group=demo.photograph_of)
    groups = Counter(entry.group for entry in dataset.entries)
    assert set(groups) == {photograph.name for photograph in demo.PHOTOGRAPHS}
    assert max(groups.values()) <= demo.PER_PHOTOGRAPH
    assert all(entry.label == entry.group for entry in dataset.entries)


def test_the_provenance_names_each_tiles_window_and_each_photographs_licence(tiles: Path):
    stored = json.loads((tiles / demo.PROVENANCE).read_text(encoding="utf-8"))
    assert all(photograph["licence"] for photograph in stored["photographs"])
    assert {tile["path"] for tile in stored["tiles"]} == {
        str(path.relative_to(tiles)) for path in tiles.rglob("*.png")
    }
    sides = Counter(tile["window"][2] - tile["window"][0] for tile in stored["tiles"])
    assert set(sides) == set(demo.WINDOWS)


def test_no_tile_is_flat(tiles: Path):
    for path in sorted(tiles.rglob("*.png"))[::50]:
        assert np.asarray(Image.open(path).convert("L")).std() > demo.FLAT - 1


def test_windows_overlap_little_and_stay_inside():
    found = demo.windows(300, 451)
    assert all(y >= 0 and y + side <= 300 and x >= 0 and x + side <= 451 for y, x, side in found)
    row = sorted(x for y, x, side in found if side == 64 and y == 0)
    assert min(right - left for left, right in itertools.pairwise(row)) >= 40


def test_a_finished_folder_is_left_as_it_is_and_a_broken_one_is_cut_again(tmp_path: Path):
    root = tmp_path / "tiles"
    first = demo.write_tiles(root)
    before = (root / first[0].path).stat().st_mtime_ns
    assert demo.write_tiles(root) == first
    assert (root / first[0].path).stat().st_mtime_ns == before
    (root / demo.PROVENANCE).unlink()
    (root / first[0].path).unlink()
    assert demo.write_tiles(root) == first
    assert (root / first[0].path).exists()


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(DatasetError, match=r"pip install 'deconvnet\[demo\]'"):
        demo.write_tiles(tmp_path / "tiles")
