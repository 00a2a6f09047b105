"""What is kept of a unit's walk down: the same numbers, from whatever was asked before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.execution.forward import record
from deconvnet.graph.network import Network
from deconvnet.ops.derived import Derived
from deconvnet.projection.descend import descend
from deconvnet.projection.prefix_cache import cache_of
from tests.support.oracles import Oracle, relative_error


def chain() -> Network:
    """Two convolutions above a pool, one below it."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 10, 3, padding=2, dilation=2), nn.ReLU(),
    ).double().eval()  # fmt: skip
    return dn.trace(module, (3, 29, 31), {"conv1": "1", "conv2": "5", "conv3": "7"})


def whole(net: Network, layer: str) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """Every position of two channels of one image, and their projections."""
    c, h, w = net.layer(layer).shape
    torch.manual_seed(1)
    recorded = record(net, torch.randn(1, *net.input_size, dtype=torch.float64), [layer])
    grid = torch.cartesian_prod(torch.tensor([0, c - 1]), torch.arange(h), torch.arange(w))
    index = [torch.zeros(len(grid), dtype=torch.int64), *grid.T]
    seeds = torch.linspace(-1, 2, len(grid), dtype=torch.float64)  # of both signs
    return index, lambda: descend(net, recorded, layer, *index, values=seeds)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3"])
def test_a_second_walk_gives_the_same_numbers_to_the_bit(layer: str) -> None:
    net = chain()
    _, project = whole(net, layer)
    assert torch.equal(project(), project())
    kept = cache_of(net)
    net.refresh()
    assert cache_of(net) is not kept


def test_positions_that_the_border_clips_alike_share_one_prefix() -> None:
    net = chain()
    index, project = whole(net, "conv3")
    project()
    assert 2 * 2 < len(cache_of(net)) < len(index[0])


@pytest.mark.parametrize("y, x", [(0, 0), (3, 4), (6, 0), (6, 7)])
def test_kept_prefixes_agree_with_autograd(y: int, x: int) -> None:
    net = chain()
    image = torch.randn(2, 3, 29, 31, dtype=torch.float64)
    dn.project(net, image, ["conv3:4@2,2", "conv3:4@5,5"])  # fills what is kept
    for i in range(2):
        found = dn.project(net, image[i : i + 1], f"conv3:4@{y},{x}")
        expected = Oracle(net.module, image[i : i + 1]).project("relu", 2, (4, y, x), "deconv")
        assert relative_error(found.pixels, expected) <= 1e-9  # sums in another order


def test_a_weight_that_changes_is_noticed() -> None:
    net = chain()
    _, project = whole(net, "conv3")
    before = project()
    with torch.no_grad():
        net.module[6].weight.mul_(2)
    torch.testing.assert_close(project(), 2 * before)


def _half(weight: Tensor) -> Tensor:
    """One filter and one input channel doubled, the rest as it is."""
    changed = weight.detach().clone()
    changed[1], changed[:, 2] = 2 * changed[1], 2 * changed[:, 2]
    return changed


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda weight: weight.data.mul_(2),
    "a filter": lambda weight: weight.data[1].zero_(),
    "an input channel": lambda weight: weight.data[:, 2].zero_(),
    "a tap": lambda weight: weight.data[:, :, 0, 1].zero_(),
    "by NumPy": lambda weight: weight.detach().numpy().fill(0.5),
    "another tensor": lambda weight: setattr(weight, "data", _half(weight)),
}


@pytest.mark.parametrize("layer", [0, 3, 6])
@pytest.mark.parametrize("name", WRITES)
def test_refresh_takes_in_what_is_written_past_torch_s_count(name: str, layer: int) -> None:
    net = chain()
    x = torch.randn(1, *net.input_size, dtype=torch.float64)
    units = [f"conv3:{channel}{at}" for channel in range(10) for at in ("", "@3,3")]
    dn.project(net, x, units)
    WRITES[name](net.module[layer].weight)
    net.module[4].bias.data.add_(0.1)
    net.refresh()
    ours, theirs = (dn.project(each, x, units) for each in (net, dn.trace(net.module, (3, 29, 31))))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.pixels, other.pixels)


def test_running_statistics_that_change_are_noticed() -> None:
    net = chain()
    _, project = whole(net, "conv3")
    before = project()
    with torch.no_grad():
        net.module[4].running_var.mul_(4).add_(3 * net.module[4].eps)
    torch.testing.assert_close(project(), before / 2)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    net = chain()
    _, project = whole(net, "conv3")
    expected = project()
    small: Derived[Any, Tensor] = Derived(20_000)
    with monkeypatch.context() as patch:
        patch.setattr("deconvnet.projection.prefix_cache.cache_of", lambda _: small)
        assert torch.equal(project(), expected)
    assert 0 < small.nbytes <= 20_000
    assert 0 < len(small) < len(cache_of(net))
