"""Figure 2: units of each layer of an index, their projections beside their patches."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deconvnet as dn
from deconvnet.errors import ParameterError
from deconvnet.figure import block, choose_units, figure2


@pytest.fixture(scope="module")
def index(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dn.ActivationIndex:
    net = dn.load("zfnet64", weights=None, device="cpu")
    out = tmp_path_factory.mktemp("index") / "index"
    return dn.build_index(net, image_folder, out, k=9, layers=["conv1", "conv2"], progress=False)


def test_units_are_a_random_subset_that_depends_on_the_seed_alone(index):
    chosen = choose_units(index, "conv2", 6, seed=0)
    assert len(set(chosen)) == 6
    assert chosen == choose_units(index, "conv2", 6, seed=0)
    assert chosen != choose_units(index, "conv2", 6, seed=1)


def test_no_more_units_are_drawn_than_there_are(index):
    assert len(choose_units(index, "conv1", 1000, seed=0)) == 64


def test_a_block_holds_the_sheets_tiles_projections_left_and_patches_right(index):
    unit = dn.Unit("conv2", 5)
    side = index.tile("conv2")
    sheet = np.asarray(Image.open(index.sprite("conv2", 5)).convert("RGB"))
    made = block(index, unit)
    gap = max(1, side // 20)
    assert made.shape == (3 * side + 4 * gap, 2 * (3 * side + 4 * gap), 3)
    projection = made[gap : gap + side, gap : gap + side]
    assert np.array_equal(projection, sheet[:side, :side])
    left = made.shape[1] // 2 + gap
    assert np.array_equal(
        made[gap : gap + side, left : left + side], sheet[:side, 3 * side : 4 * side]
    )


def test_the_figure_names_its_layers_units_and_provenance(index):
    figure = figure2(index, units=4, columns=2)
    texts = [text.get_text() for text in figure.texts]
    assert texts[:2] == ["conv1", "conv2"]
    assert texts[-1].startswith(f"zfnet64 {index.model['weights_hash'][:8]} · 9 strongest of 24")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 8
    assert all(title.startswith(("conv1:", "conv2:")) for title in titles)


def test_it_is_written_as_png_svg_and_pdf(index, tmp_path: Path):
    figure = figure2(index, ["conv1"], units=2)
    for suffix in ("png", "svg", "pdf"):
        figure.savefig(tmp_path / f"figure.{suffix}")
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 1000


def test_a_layer_that_is_not_in_the_index_is_named(index):
    with pytest.raises(ParameterError, match="'conv5' is not in the index; it has conv1, conv2"):
        figure2(index, ["conv5"])
