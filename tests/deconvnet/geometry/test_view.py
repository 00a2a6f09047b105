"""What shows in a square of the image: exact inside it, and the same bits in any company."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deconvnet as dn
from deconvnet.execution.forward import record
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.geometry.view import view
from deconvnet.projection.descend import descend, descend_view
from deconvnet.projection.display import display_region
from tests.support.judging import BOUND, image, randomise
from tests.support.networks import SIZE, Drawn, plans


def everywhere(net: dn.Network, count: int) -> tuple[str, list[int], list[int], list[int]]:
    """The last layer that is a map, with channels and positions all over it."""
    layer = [node.name for node in net.nodes if len(node.shape) == 3][-1]
    channels, height, width = net.layer(layer).shape
    rng = np.random.default_rng(0)
    ys, xs = [0, height - 1, 0], [0, width - 1, width - 1]
    ys += rng.integers(0, height, count).tolist()
    xs += rng.integers(0, width, count).tolist()
    return layer, rng.integers(0, channels, len(ys)).tolist(), ys, xs


@settings(max_examples=60)
@given(plans(), st.sampled_from(["deconv", "guided", "gradient"]), st.integers(1, 20))
def test_a_square_shows_what_the_whole_projection_has_there(
    plan: list[str], rule: str, side: int
) -> None:
    net = dn.trace(randomise(Drawn(plan)), (3, *SIZE))
    layer, channels, ys, xs = everywhere(net, 6)
    recorded = record(net, image(net), [layer], rule)  # type: ignore[arg-type] # a drawn rule
    values = recorded.activations[layer][0, channels, ys, xs]
    index = [torch.tensor(column) for column in ([0] * len(ys), channels, ys, xs)]
    whole = descend(net, recorded, layer, *index)
    seen = view(net.nodes, net.find(layer), side)
    found = dict(
        descend_view(net, recorded, layer, seen, [0] * len(ys), channels, ys, xs, values.tolist())
    )
    limit = BOUND * float(whole.abs().max()) + 1e-300
    for i, (y, x) in enumerate(zip(ys, xs, strict=True)):
        region = display_region(net.field(layer, y, x), side, SIZE)
        part = whole[i, :, region.y0 : region.y1, region.x0 : region.x1]
        assert found[i].shape == part.shape
        assert float((found[i] - part).abs().max()) <= limit


@settings(max_examples=30)
@given(plans(), st.integers(4, 16))
def test_boxes_of_one_size_hold_what_each_position_needs(plan: list[str], side: int) -> None:
    net = dn.trace(randomise(Drawn(plan)), (3, *SIZE))
    layer, _, ys, xs = everywhere(net, 5)
    boxes = view(net.nodes, net.find(layer), side).boxes(ys, xs)
    for place, box in boxes.items():
        height, width = map_size(net.nodes[place].shape)
        assert all(0 <= top <= height - box.height for top in box.tops)
        assert all(0 <= left <= width - box.width for left in box.lefts)
    assert (boxes[INPUT].height, boxes[INPUT].width) == (min(side, SIZE[0]), min(side, SIZE[1]))


@pytest.mark.parametrize("model", ["alexnet", "squeezenet1_1", "resnet18"])
def test_an_activation_has_the_same_bits_alone_and_in_any_company(model: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = dn.load(model, weights=None, device="cpu")
        x = torch.randn(2, *net.input_size, generator=torch.Generator().manual_seed(0))
        recorded = record(net, x, ["conv4"])
        seen = view(net.nodes, net.find("conv4"), 70)
        height, width = net.layer("conv4").shape[1:]
        columns = [(i % 2, 3 * i, (5 * i) % height, (7 * i + 1) % width, 1.0 + i) for i in range(8)]

        def pictures(chosen: list[int]) -> dict[int, torch.Tensor]:
            given = [list(column) for column in zip(*(columns[i] for i in chosen), strict=True)]
            found = descend_view(net, recorded, "conv4", seen, *given)
            return {chosen[rank]: pixels.clone() for rank, pixels in found}

        together = pictures([*range(8)])
        for chosen in ([5], [7, 2, 0], [3, 3, 6, 1]):
            for i, pixels in pictures(chosen).items():
                assert torch.equal(pixels, together[i])
    finally:
        torch.set_num_threads(threads)
