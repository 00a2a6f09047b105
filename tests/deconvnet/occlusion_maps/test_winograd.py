"""Winograd's convolution: its algebra, its rounding in occlusion, and the rule that chooses."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.occlusion_maps import winograd
from deconvnet.occlusion_maps.scorer import IncrementalPasses, Scorer, WholePasses
from deconvnet.occlusion_maps.winograd import Winograd, filled, fits, matrices, pays
from deconvnet.ops.conv import Conv


class Logits(Scorer):
    """All outputs of each occluded image, instead of what a map shows of them."""

    def table(self, output: Tensor, activity: Tensor) -> Tensor:
        return output.double()


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winograd's algorithm counts as faster for nearly all channels, however full its tiles."""
    monkeypatch.setattr(winograd, "CHANNELS", 16)
    monkeypatch.setattr(winograd, "FILLED", 0.0)


def test_the_matrices_give_a_correlation_in_one_dimension() -> None:
    down, kernel, up = (torch.from_numpy(m) for m in matrices())
    d = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    expected = torch.stack([(d[i : i + 3] * g).sum() for i in range(4)])
    torch.testing.assert_close(up @ ((kernel @ g) * (down @ d)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (3, 13)])
@pytest.mark.parametrize("n", [1, 40])
def test_patches_of_any_size_and_number_equal_the_direct_convolution(
    shape: tuple[int, int], n: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 5, shape[0] + 2, shape[1] + 2, generator=generator, dtype=torch.float64)
    weight = torch.randn(70, 5, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(70, generator=generator, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    for given in (bias, None):
        found = Winograd(weight, given)(x)
        torch.testing.assert_close(found, F.conv2d(x, weight, given), rtol=1e-12, atol=1e-11)


def test_only_plain_three_by_three_convolutions_fit() -> None:
    def op(**options: object) -> bool:
        conv = nn.Conv2d(4, 4, **{"kernel_size": 3, **options})
        op = dn.trace(conv, (4, 9, 9), landmarks={}).nodes[1].op
        assert isinstance(op, Conv)
        return fits(op.window, op.groups)

    assert op() and op(padding=1) and op(padding=(0, 2), bias=False)
    for other in ({"stride": 2}, {"dilation": 2}, {"groups": 2}, {"kernel_size": (3, 1)}):
        assert not op(**other)


def deep(width: int, depth: int) -> dn.Network:
    """Convolutions with ReLUs and two pools, then a classifier, in float32 on 44×40 images."""
    torch.manual_seed(width)
    layers: list[nn.Module] = []
    channels = 3
    for i in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i in (1, 3) else []
        channels = width
    for part in layers:
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
    module = nn.Sequential(features, nn.Linear(16 * width, 20)).eval()
    return dn.trace(module, (3, 44, 40))


def logits(
    net: dn.Network, x: Tensor, passes: type[IncrementalPasses] | type[WholePasses], starts: Tensor
) -> Tensor:
    """[n, classes] of the image with a grey square of 12 pixels at each start."""
    scorer = Logits(net, x, None, None)
    return passes(scorer, x, torch.full_like(x, 0.3), 12)(starts, lambda count: None)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(("width", "depth"), [(128, 4), (64, 7), (32, 9)])
def test_logits_keep_the_bound_although_unchanged_cells_come_from_another_sum(
    width: int, depth: int
) -> None:
    net = deep(width, depth)
    x = torch.rand(1, 3, 44, 40, generator=torch.Generator().manual_seed(2))
    starts = torch.cartesian_prod(torch.arange(-8, 44, 8), torch.arange(-8, 40, 8))
    scorer = Scorer(net, x, None, None)
    assert (
        len(IncrementalPasses(scorer, x, x, 12).clean.by_winograd) == depth - 1
    )  # all but the first, of 3 maps
    ours, plain = (logits(net, x, passes, starts) for passes in (IncrementalPasses, WholePasses))
    exact = dn.trace(net.module.double(), net.input_size)
    truth = logits(exact, x.double(), WholePasses, starts)
    error, own = (float((found - truth).abs().max()) for found in (ours, plain))
    assert 0 < error <= 1e-5 * float(truth.abs().max())
    assert error <= 2 * own


@pytest.mark.usefixtures("everywhere")
def test_double_precision_never_takes_it() -> None:
    net = dn.trace(deep(32, 3).module.double(), (3, 44, 40))
    x = torch.rand(1, 3, 44, 40, dtype=torch.float64)
    assert not IncrementalPasses(Scorer(net, x, None, None), x, x, 12).clean.by_winograd


@pytest.mark.usefixtures("everywhere")
def test_a_small_memory_leaves_kernels_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = deep(64, 4), torch.rand(1, 3, 44, 40)
    one = 64 * 64 * 36 * 4
    maps = IncrementalPasses(Scorer(net, x, None, None), x, x, 12).clean.maps.values()
    held = 2 * sum(values.nbytes for values in maps)
    monkeypatch.setenv("DECONVNET_MEMORY_MB", str((held + 3 * 1.5 * one) / 2**20))
    assert len(IncrementalPasses(Scorer(net, x, None, None), x, x, 12).clean.by_winograd) == 1


def test_it_is_chosen_for_many_channels_and_full_tiles() -> None:
    assert pays(128, 512) and pays(512, 128) and not pays(96, 512) and not pays(512, 64)
    assert filled(8, 8) and filled(4, 3) and not filled(5, 5) and not filled(9, 2)
