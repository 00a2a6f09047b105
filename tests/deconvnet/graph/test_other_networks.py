"""Networks with gates, smooth activations, shuffled channels, and channels put last.

Judged by autograd through the untouched module; what they score under an occluder, by the plain
loop. Their gradient goes down; where the deconvnet has no rule, it is refused with the step.
"""

import math
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import deconvnet as dn
from deconvnet import ops
from deconvnet.errors import GraphError, ProjectionError, UnknownOpError
from deconvnet.execution.forward import run
from deconvnet.graph.nodes import on_vectors
from tests.deconvnet.occlusion_maps.test_incremental import assert_same
from tests.support.judging import BOUND, assert_agrees, image, randomise
from tests.support.oracles import relative_error


class Gate(nn.Module):
    """Channels weighed by what all of the map says (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, by_features: bool) -> None:
        super().__init__()
        self.by_features = by_features
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.fc1, self.fc2 = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        if self.by_features:
            weights = torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3))))))
            return x * weights.view(x.size(0), 8, 1, 1)
        weights = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return weights * x


class Grouped(nn.Module):
    """Normalised by groups, by channels, and weighed by a gate that spells its ones with None."""

    def __init__(self) -> None:
        super().__init__()
        self.group, self.each = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)
        self.conv, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        means = self.fc(x.mean((2, 3)))
        gate = torch.sigmoid(means)[..., None, None] + means.unsqueeze(-1).unsqueeze(3)
        y = F.leaky_relu_(self.group(self.conv(x)), 0.2)
        return torch.cat([self.each(x)[:, 4:, ...], y[:, :4] * gate[:, :4]], 1)


class Last(nn.Module):
    """A block that normalises and mixes channels as the last dimension (arXiv:2201.03545)."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.rand(8) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = 0.5 * (self.gamma * self.down(F.gelu(self.up(self.norm(y)))) + 0.1) + 0.2 * y
        some, rest = torch.split(y, [3, 5], dim=-1)
        y = torch.cat([rest, some * some], -1)
        return x + y.permute(0, 3, 1, 2) + y.mean((1, 2))[:, :, None, None]


class Shuffle(nn.Module):
    """Half of the channels through a branch, then all of them shuffled (arXiv:1807.11164)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept, other = x.chunk(2, dim=1)
        y = torch.cat((kept, F.relu(self.conv(other))), dim=1)
        n, c, h, w = y.size()
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Parts(nn.Module):
    """Branches that take their channels by slices and by a split."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(x, [1, 4, 3], dim=1)
        products = [a * 0.5 * x[:, 6:7], x[:, :2] - x[:, 6:], c[:, 2:]]
        return torch.cat([F.max_pool2d(b, 3, 1, 1), *products], 1)


class InPlace(nn.Module):
    """Activations that overwrite what is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = x * 0.5
        F.silu(y, inplace=True)
        F.elu(x, 0.7, True)
        return x + 2 * y


class Attention(nn.Module):
    """Channels and then places weighed by their means and maxima (arXiv:1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.avg_pool2d(x, x.shape[2:]), F.max_pool2d(x, x.shape[2:])]
        said = self.mlp(pooled[0]) + self.mlp(pooled[1])
        x = x * torch.sigmoid(said).unsqueeze(2).unsqueeze(3).expand_as(x)
        peak, mean = torch.max(x, 1).values.unsqueeze(1), x.mean(1).unsqueeze(1)
        return x * torch.sigmoid(self.spatial(torch.cat((peak, mean), dim=1)))


class Neighbours(nn.Module):
    """Channels weighed by their neighbours alone (arXiv:1910.03151)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(y).expand_as(x) + x.amax(1, keepdim=True)


class Regrouped(nn.Module):
    """Groups exchanged twice over, and shapes that are taken back and taken again."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        for _ in range(2):
            x = x.view(n, 4, 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        flat = F.relu(x.flatten(1).view(n, c, h, w).flatten(1)) + x.flatten(1)
        return F.relu(flat.view(n, c, h, w))


class Curves(nn.Module):
    """Powers and their like, value by value."""

    def forward(self, x: Tensor) -> Tensor:
        y = (x.abs() + 0.1).sqrt() - 0.2 * x**2 + torch.exp(-x.abs())
        return y + x.clamp(-0.5, 0.7) + torch.clamp_max(x, 1.0).square() + x.pow(3)


class Shortcut(nn.Module):
    """A shortcut without weights, as small residual networks have it (arXiv:1512.03385)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(8, 12, 3, 2, 1), nn.ConvTranspose2d(12, 8, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0))
        return F.relu(self.back(y))[..., :11]


class Shifted(nn.Module):
    """Maps beside themselves, moved by a cell and cropped (arXiv:1707.07012)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        moved = F.avg_pool2d(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:], 1)
        y = self.conv(F.pad(x + moved, (1, 2, 3, 0, 0, 1), value=0.3)[:, :8])
        return F.pad(y, (0, -1, -1, 0))


class Mirrored(nn.Module):
    """Padding with the map's own values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.second, self.border = nn.Conv2d(8, 8, 4), nn.ReplicationPad2d((2, 1, 0, 3))
        self.third = nn.Conv2d(8, 8, (1, 3), padding="same", padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(self.border(F.relu(self.first(x)))))
        return F.relu(self.third(F.pad(x, (3, 0, 1, 2), "reflect")[:, :, 1:-2, 3:]))


class Larger(nn.Module):
    """The larger of two maps, and the smaller (Goodfellow et al. 2013, arXiv:1302.4389)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return torch.max(a, b) + torch.minimum(F.relu(a), F.relu(b)) + a.maximum(x)


class Resized(nn.Module):
    """Bins of unequal sizes, and sizes that grow again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(2, 8, 1), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        few = F.interpolate(F.adaptive_max_pool2d(x, (5, 4)), (6, 6), mode="bilinear")
        fine = F.pixel_shuffle(self.up(F.avg_pool2d(x, 2, ceil_mode=True)), 2)
        fine = self.conv(fine)
        coarse = F.pixel_unshuffle(fine, 2)[:, 3:11, :, :]
        return F.relu(self.up(few)[..., :11] + fine[..., ::2, 1:23:2] - coarse[..., 1:])


class Same(nn.Conv2d):
    """Padded as TensorFlow has it: by as much as the size and the stride leave open."""

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for length, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            more = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            sides = [more // 2, more - more // 2, *sides]
        if any(sides):
            x = F.pad(x, sides)
        return F.conv2d(x, self.weight, self.bias, self.stride)


class Sized(nn.Module):
    """A way that hangs on shapes, and kernels that pad one side more than the other."""

    def __init__(self) -> None:
        super().__init__()
        self.same = Same(8, 8, 3, 2)
        self.even = nn.Conv2d(8, 8, (4, 3), padding="same")
        self.own = nn.Conv2d(8, 8, 2, padding="same", padding_mode="reflect")
        self.register_buffer("shift", torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        images, _, height, width = x.size()
        x = (x - self.shift).mul_(2)
        if height * width > 9 and x.dim() == 4:
            x = self.same(x)
        while x.shape[-1] * 2 <= width + 1:
            x = F.interpolate(x, scale_factor=2)
        if len(x) != images or x.dtype == torch.float16:
            raise ValueError
        x = x[:, :, :height, :width]
        return F.relu(self.own(F.relu(self.even(x)))).to(x.device)


class Normalised(nn.Module):
    """Divided by what is seen, of channels and of places: its spread, its length, its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.weight = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        away = x - x.mean(1, keepdim=True)
        x = away / torch.sqrt(away.pow(2).mean(1, keepdim=True) + 1e-3) * self.weight
        x = self.conv(x) * torch.rsqrt(x.var((2, 3), keepdim=True, unbiased=False) + 0.1)
        x = F.relu(x) / (1 + F.normalize(x, dim=1) + x.var(1, correction=1).unsqueeze(1))
        each = torch.norm(x, dim=(2, 3), keepdim=True)
        shares = x / x.sum(1, keepdim=True).add(1) - x.sum((2, 3)).reciprocal()[:, :, None, None]
        return (
            shares
            + torch.log(1 / (1 + x))
            + each / (each.mean(1, keepdim=True) + 1e-3) * (x.mean(1, keepdim=True) * each)
        )


class Responses(nn.Module):
    """Channels put last, weighed by how much each responds (Woo et al. 2023, arXiv:2301.00808)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) + 0.1
        each = y.norm(p=2, dim=(1, 2), keepdim=True)
        weighed = y * (each / (each.mean(dim=-1, keepdim=True) + 1e-6))
        y = y + torch.addcmul(self.beta.view(1, 1, 1, -1), self.gamma.view(1, 1, 1, -1), weighed)
        y = y + torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        y = y / (y.std(-1, keepdim=True, unbiased=False) + 0.1)
        return y.permute(0, 3, 1, 2) * x[:, :, :1] + x[:, :1, :, :1]


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "gate": lambda: Gate(by_features=False),
    "gate by features": lambda: Gate(by_features=True),
    "grouped": Grouped,
    "channels last": Last,
    "shuffle": Shuffle,
    "parts": Parts,
    "in place": InPlace,
    "attention": Attention,
    "neighbours": Neighbours,
    "curves": Curves,
    "gated halves": lambda: nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.GLU(1)),
    "regrouped": Regrouped,
    "shortcut": Shortcut,
    "shifted": Shifted,
    "mirrored": Mirrored,
    "larger": Larger,
    "resized": Resized,
    "sized": Sized,
    "normalised": Normalised,
    "responses": Responses,
    "activations": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 1), nn.Hardswish(inplace=True), nn.PReLU(8), nn.Mish(), nn.Tanh()
    ),
}
BY_EVERY_RULE = (
    "shuffle",
    "regrouped",
    "shortcut",
    "shifted",
    "mirrored",
    "larger",
    "resized",
    "sized",
)
BY_GRADIENT = [name for name in BLOCKS if name not in BY_EVERY_RULE]


def _around(block: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), block, nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 3 * 2, 5),
    )  # fmt: skip
    return randomise(module)


def _networks() -> dict[str, Callable[[], tuple[dn.Network, nn.Module]]]:
    def drawn(name: str) -> Callable[[], tuple[dn.Network, nn.Module]]:
        @cache
        def make() -> tuple[dn.Network, nn.Module]:
            module = _around(BLOCKS[name]())
            return dn.trace(module, (3, 24, 21), {"conv1": "1", "conv2": "4", "conv3": "7"}), module

        return make

    def known(build: Callable[[], nn.Module]) -> Callable[[], tuple[dn.Network, nn.Module]]:
        @cache
        def make() -> tuple[dn.Network, nn.Module]:
            torch.manual_seed(0)
            module = randomise(build())
            return dn.trace(module, (3, 64, 64)), module

        return make

    few = [CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 1)]
    return {
        **{name: drawn(name) for name in BLOCKS},
        **{name: known(partial(get_model, name, weights=None)) for name in KNOWN},
        "convnext, few blocks": known(partial(ConvNeXt, few, num_classes=7)),
    }


KNOWN = ("efficientnet_b0", "shufflenet_v2_x0_5", "mobilenet_v3_small", "regnet_y_400mf")
NETWORKS = _networks()


@pytest.fixture(params=NETWORKS)
def pair(request: pytest.FixtureRequest) -> tuple[dn.Network, nn.Module]:
    return NETWORKS[request.param]()


def _gradient(
    module: nn.Module, x: Tensor, layer: str, shape: tuple[int, ...], place: tuple[int, ...]
) -> Tensor:
    """What autograd sends down from one activation of a submodule's output, times its height."""
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *a: seen.append(a[-1]))
    x = x.clone().requires_grad_()
    module(x)
    handle.remove()
    maps = seen[-1] if seen[-1].shape[1:] == shape else seen[-1].permute(0, 3, 1, 2)
    assert maps.shape[1:] == shape
    height = maps[0][place]
    (down,) = torch.autograd.grad(height, x)
    return (down * height.detach())[0]


def test_a_batch_of_any_size_scores_as_in_the_module(pair: tuple[dn.Network, nn.Module]) -> None:
    net, module = pair
    x = image(net, n=3)
    with torch.no_grad():
        assert relative_error(run(net, x), module(x)) <= BOUND


def test_the_gradient_goes_down_as_autograd_has_it(pair: tuple[dn.Network, nn.Module]) -> None:
    net, module = pair
    x = image(net)
    called = {name for name, _ in module.named_modules()}
    layers = [name for name in net.landmarks.values() if name in called]
    assert layers
    for layer in layers:
        channels, height, width = shape = net.layer(layer).shape
        units = [f"{layer}:0", f"{layer}:{channels - 1}@0,{width - 1}", f"{layer}:1@{height - 1},0"]
        for found in dn.project(net, x, units, "gradient"):
            truth = _gradient(module, x, layer, shape, (found.unit.channel, *found.position))
            assert relative_error(found.pixels, truth) <= BOUND, str(found.unit)


def test_occluded_images_score_as_in_the_plain_loop(pair: tuple[dn.Network, nn.Module]) -> None:
    net, _ = pair
    x, side = image(net), net.input_size[1] // 3
    options = {"size": side, "stride": side}
    assert_same(
        dn.occlusion(net, x, strategy="incremental", **options),
        dn.occlusion(net, x, strategy="plain", **options),
    )


def test_every_step_that_is_left_sees_a_window_or_the_whole_map(
    pair: tuple[dn.Network, nn.Module],
) -> None:
    net, _ = pair
    vectors = set(on_vectors(net.nodes, range(1, len(net.nodes))))
    whole = {
        node.op.kind
        for place, node in enumerate(net.nodes)
        if node.op is not None and node.op.window is None and place not in vectors
    }
    assert whole <= {
        "expansion", "reshape", "global average pooling", "adaptive average pooling",
        "fully connected", "group normalisation", "transposed convolution", "interpolation",
        "pixel shuffle", "pixel unshuffle", "adaptive max pooling", "circular padding",
        "convolution along a line", "permutation",
    }  # fmt: skip


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_rule_that_a_step_does_not_have_is_refused_with_the_step(name: str) -> None:
    net, _ = NETWORKS[name]()
    assert net.layer("conv1").rules == ops.RULES
    assert net.layer("conv3").rules == ("gradient",)
    assert dn.project(net, image(net), "conv1:0", "deconv")
    for unit in ("conv3:0", "conv3:0@1,1"):
        with pytest.raises(ProjectionError, match=r"Take gradient, .* without it is '2") as caught:
            dn.project(net, image(net), unit, "guided")
        assert "no way down by the rule 'guided'" in str(caught.value)


@pytest.mark.parametrize("name", BY_EVERY_RULE)
def test_what_moves_and_chooses_values_goes_down_by_every_rule(name: str) -> None:
    net, module = NETWORKS[name]()
    inner = [layer for layer in net.layers if re.fullmatch(r"2\.relu(:\d)?", layer)]
    assert_agrees(
        net, module, ["conv1", *inner, "conv2", "conv3"], corners=((0, 0), (0, 1), (1, 1))
    )


def test_an_instance_norm_with_running_statistics_is_a_batch_norm() -> None:
    norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    module = _around(norm)
    net = dn.trace(module, (3, 24, 21), {"conv1": "1", "conv2": "4"})
    assert net.layer("2").kind == "batch normalisation"
    assert net.layer("conv2").rules == ops.RULES
    x = image(net)
    with torch.no_grad():
        assert relative_error(run(net, x), module(x)) <= BOUND


@pytest.mark.parametrize("name", ["activations", "shortcut"])
def test_in_inference_mode_projections_are_the_same(name: str) -> None:
    net, _ = NETWORKS[name]()
    x = image(net)
    with torch.inference_mode():
        found = [dn.project(net, given, "conv3:1", "gradient") for given in (x, x.clone())]
    truth = dn.project(net, x, "conv3:1", "gradient")
    assert all(torch.equal(one.pixels, truth.pixels) for one in found)


def test_a_gate_is_no_landmark() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Attention(), nn.Conv2d(8, 8, 1), nn.ELU())
    net = dn.trace(module.eval(), (3, 14, 13))
    assert "2.sigmoid" in net.layers and "2.sigmoid:2" in net.layers
    assert net.landmarks == {"conv1": "1", "conv2": "4"}


def test_a_step_of_a_norm_is_no_landmark() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), Normalised(), nn.Conv2d(8, 8, 1), nn.GELU()
    )
    net = dn.trace(module.eval(), (3, 14, 13))
    assert net.landmarks == {"conv1": "1", "conv2": "4"}


def test_torchs_own_shuffle_goes_down_by_every_rule() -> None:
    module = _around(nn.ChannelShuffle(4))
    net = dn.trace(module, (3, 24, 21), {"conv1": "1", "conv2": "4", "conv3": "7"})
    assert_agrees(net, module, ["conv1", "conv2", "conv3"])


def test_channels_that_are_put_in_a_wrong_order_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deconvnet.ops.channels.Shuffle.forward", lambda self, x: x)
    with pytest.raises(GraphError, match="does not reproduce its output"):
        dn.trace(_around(Shuffle()), (3, 24, 21))


def _wired(wire: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    class Wired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return wire(self, self.conv(x))

    return Wired()


UNKNOWN: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "never put first again": (lambda m, x: m.norm(x.permute(0, 2, 3, 1)), "layer normalisation of"),
    "rows for channels": (lambda m, x: F.relu(x.transpose(1, 2)), "permutation of maps"),
    "another order back": (
        lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 2, 1), "permutation of maps",
    ),
    "a mean of rows": (lambda m, x: x.permute(0, 2, 3, 1).mean(1), "mean of channels of maps"),
    "a mean of channels and rows": (lambda m, x: x.mean((1, 2)), "permutation of maps"),
    "a convolution between": (
        lambda m, x: F.conv2d(x.permute(0, 2, 3, 1), torch.ones(6, 6, 1, 1)).permute(0, 3, 1, 2),
        "convolution of maps",
    ),
    "images for channels": (lambda m, x: x.transpose(0, 1), "mixes images"),
    "one row": (lambda m, x: x[:, :, 0], "expected channels"),
    "one channel": (lambda m, x: x[:, 0], "expected channels"),
    "no rows": (lambda m, x: x[:, :, 4:4], "leaves nothing"),
    "where a maximum is": (lambda m, x: x * x.max(1, keepdim=True)[1], "1 is unknown"),
    "where a maximum is, by name": (
        lambda m, x: x * x.max(1, keepdim=True).indices, "'indices' is unknown",
    ),
    "a third half": (lambda m, x: x.chunk(2, 1)[2], "expected one of the 2 maps"),
    "a maximum of rows": (lambda m, x: x.max(2)[0], "maximum of .* over dimensions"),
    "a maximum with a number": (lambda m, x: x.maximum(m.norm.weight), "expected two maps"),
    "an odd GLU": (lambda m, x: F.glu(x[:, :3], 1), "even number of channels"),
    "both more and less": (lambda m, x: F.pad(x, (1, -1)), "crop first"),
    "images repeated": (lambda m, x: x.expand(2, 4, 12, 6), "expansion of"),
    "a power of a map": (lambda m, x: x**x, "power is unknown"),
    "every other channel": (lambda m, x: x[:, ::2], "expected some in order"),
    "chunks of rows": (lambda m, x: x.chunk(2, 2)[0], "split along dimension 2"),
    "a product that broadcasts": (lambda m, x: x * x[:, :2], "product of maps of shapes"),
    "an addcmul of two maps": (lambda m, x: torch.addcmul(x, x, x), "not one map, as a factor"),
    "another norm": (lambda m, x: x / x.norm(1, 1, keepdim=True), "norm with p=1"),
    "a variance of rows": (lambda m, x: x / x.var(2, keepdim=True), "variance of .* dimensions"),
    "half of the digits": (lambda m, x: x.to(torch.float16), "expected float32"),
    "a norm of the map": (lambda m, x: F.layer_norm(x, x.shape[1:]), "layer normalisation of"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_use_of_channels_is_refused_with_its_place(name: str) -> None:
    wire, told = UNKNOWN[name]
    with pytest.raises(UnknownOpError, match=rf"^At '[^']+': .*{told}"):
        dn.trace(_wired(wire), (3, 8, 8))
