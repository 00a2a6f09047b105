"""Receptive fields: the paper's numbers, and what autograd says an activation depends on."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvnet as dn
from deconvnet import zoo
from deconvnet.errors import AddressError
from deconvnet.geometry.region import Region
from tests.support.judging import image


@pytest.fixture(scope="module")
def zfnet() -> dn.Network:
    spec = zoo.find("zfnet")
    with torch.device("meta"):
        module = spec.build()
    # Only shapes matter here: every parameter is a view of one number, so nothing is allocated.
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.zeros(()).expand(parameter.shape), False))
    return dn.trace(module, spec.input_size, spec.landmarks)


@pytest.mark.parametrize(
    ("layer", "size", "pixels", "jump"),
    [
        ("relu1", 110, 7, 2), ("pool1", 55, 11, 4), ("norm1", 55, 11, 4), ("relu2", 26, 27, 8),
        ("pool2", 13, 43, 16), ("relu3", 13, 75, 16), ("relu4", 13, 107, 16),
        ("relu5", 13, 139, 16), ("pool5", 6, 171, 32),
    ],
)  # fmt: skip
def test_zfnet_has_the_receptive_fields_of_the_paper(
    zfnet: dn.Network, layer: str, size: int, pixels: int, jump: int
) -> None:
    found = zfnet.layer(layer)
    assert (found.shape[1], found.receptive_field, found.jump) == (size, pixels, jump)


def test_a_fully_connected_unit_sees_the_whole_image(zfnet: dn.Network) -> None:
    assert (zfnet.layer("fc6").receptive_field, zfnet.layer("fc6").jump) == (224, 0)
    assert zfnet.field("fc7", 0, 0) == Region(0, 0, 224, 224)


def test_a_field_may_reach_beyond_the_image(zfnet: dn.Network) -> None:
    assert zfnet.field("conv1", 0, 0) == Region(-1, -1, 6, 6)
    assert zfnet.field("conv1", 2, 1) == Region(3, 1, 10, 8)


def test_zfnet64_has_the_receptive_fields_its_file_states() -> None:
    spec = zoo.find("zfnet64")
    net = dn.trace(spec.build(), spec.input_size, spec.landmarks)
    found = [
        (net.layer(f"conv{i}").receptive_field, net.layer(f"conv{i}").jump) for i in range(1, 6)
    ]
    assert found == [(7, 2), (27, 4), (51, 8), (67, 8), (83, 8)]


class _Branches(nn.Module):
    """Branches of different reach, a skip, uneven padding, a window higher than wide."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, (5, 3), stride=2), nn.Conv2d(2, 2, 5, padding=2)
        self.c = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(F.pad(x, (2, 0, 1, 0)))
        return F.avg_pool2d(self.c(torch.cat([self.b(a), a], 1)) + a, 2)


def test_the_field_is_the_box_of_all_pixels_that_the_activation_depends_on() -> None:
    module = _Branches().double()
    for parameter in module.parameters():
        parameter.data.abs_().add_(0.1)  # nothing cancels
    net = dn.trace(module, (1, 24, 21))  # of which every row and column is seen
    x = image(net).requires_grad_()
    top = module(x)
    for y in range(top.shape[2]):
        for column in range(top.shape[3]):
            (grad,) = torch.autograd.grad(top[0, 0, y, column], x, retain_graph=True)
            rows, columns = grad[0, 0].nonzero(as_tuple=True)
            box = (
                int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
            )  # fmt: skip
            assert net.field("avg_pool2d", y, column).clip(24, 21).astuple() == box


def test_a_layer_that_does_not_exist_has_no_field() -> None:
    net = dn.trace(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), (3, 8, 8))
    with pytest.raises(AddressError, match="nearest"):
        net.field("conv9", 0, 0)
