"""Filter grids show the kernels and say which are dead or dominate."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.errors import AddressError


class Net(nn.Module):
    """Filter 2 is dead, filter 5 dominates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 4, 3)
        self.conv3 = nn.Conv2d(8, 4, 3)
        with torch.no_grad():
            self.conv1.weight[2] *= 1e-3
            self.conv1.weight[5] *= 20

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv1(x)))
        return torch.relu(self.conv2(x) + self.conv3(x))


@pytest.fixture(scope="module")
def net() -> dn.Network:
    torch.manual_seed(0)
    return dn.trace(Net().eval(), (3, 16, 16), landmarks={"first": "relu", "second": "relu:2"})


def test_the_convolution_behind_a_landmark_is_found(net: dn.Network) -> None:
    grid = dn.filters(net, "first")
    assert grid.node == "conv1"
    assert torch.equal(grid.weights, net.module.conv1.weight.detach())


def test_rms_dead_and_dominant(net: dn.Network) -> None:
    grid = dn.filters(net, "first")
    assert float(grid.rms[3]) == pytest.approx(float((grid.weights[3] ** 2).mean() ** 0.5))
    assert grid.dead.nonzero().flatten().tolist() == [2]
    assert grid.dominant.nonzero().flatten().tolist() == [5]


def test_on_a_shared_scale_the_dominant_filter_is_the_strongest(net: dn.Network) -> None:
    contrast = [np.abs(t.astype(int) - 128).max() for t in dn.filters(net, "first").tiles("shared")]
    assert np.argmax(contrast) == 5
    own = [np.abs(t.astype(int) - 128).max() for t in dn.filters(net, "first").tiles("own")]
    assert min(own) >= 126


def test_deeper_filters_show_their_input_channels(net: dn.Network) -> None:
    grid = dn.filters(net, "conv3")
    tile = grid.tiles()[0]
    assert tile.shape == (3 + 2, 8 * (3 + 1) + 1, 3)


def test_several_convolutions_behind_a_layer_are_refused(net: dn.Network) -> None:
    with pytest.raises(AddressError, match="does not come from one convolution"):
        dn.filters(net, "relu:2")


def test_the_figure_has_both_panels(net: dn.Network) -> None:
    assert len(dn.filters(net, "first").figure("shared").axes) == 2
