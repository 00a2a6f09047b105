"""Each operation of the table: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ on whole maps and on patches of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvnet as dn
from deconvnet import ops
from deconvnet.errors import UnknownOpError
from deconvnet.geometry.region import Region, Window
from deconvnet.ops import BackwardRule, Op, activation, base, conv, elementwise, linear, norm
from deconvnet.ops.activation import ReLU
from tests.support.judging import image, randomise

Make = Callable[[Tensor], Tensor] | nn.Module

# Nonlinear ones that are no ReLU.
ACTIVATIONS: dict[str, Any] = {
    **{kind: getattr(nn, kind)() for kind in activation.KINDS},
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "ELU, its slope": nn.ELU(0.3),
    "GELU, by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky ReLU, its slope by place": lambda x: F.leaky_relu(x, 0.3),
    "Hardtanh": nn.Hardtanh(-0.5, 2.0),
    "clamp": lambda x: x.clamp(max=0.4),
    "square": torch.square,
    "cube": lambda x: x**3,
    "exponential": torch.exp,
    "absolute value": torch.abs,
    "PReLU": nn.PReLU(4),
    "PReLU, one slope": nn.PReLU(),
}

# One-input operations that are linear, or linear once the image has set their switches and gates.
CASES: dict[str, Any] = {
    "convolution": nn.Conv2d(4, 6, 3, padding=1),
    "convolution, strided": nn.Conv2d(4, 6, (5, 3), stride=(2, 3), padding=(2, 0)),
    "convolution, dilated": nn.Conv2d(4, 6, 3, padding=2, dilation=(2, 3)),
    "convolution, grouped": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "convolution, same": nn.Conv2d(4, 6, (3, 5), padding="same"),
    "max-pool": nn.MaxPool2d(2),
    "max-pool, overlapping, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max-pool, padded": nn.MaxPool2d(3, 1, 1),
    "max-pool, dilated": nn.MaxPool2d((2, 3), (1, 2), dilation=2),
    "max-pool, adaptive": nn.AdaptiveMaxPool2d((4, 13)),
    "average": nn.AvgPool2d(2),
    "average, padding counted": nn.AvgPool2d(3, 2, 1),
    "average, padding not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average, ceil": nn.AvgPool2d((3, 2), (2, 3), (1, 0), ceil_mode=True),
    "average, own divisor": nn.AvgPool2d(3, 2, divisor_override=5),
    "adaptive average": nn.AdaptiveAvgPool2d((5, 4)),
    "adaptive average to one": nn.AdaptiveAvgPool2d(1),
    "ReLU": nn.ReLU(),
    "ReLU6": nn.ReLU6(),
    "ReLU, as Hardtanh from 0": nn.Hardtanh(0.0, 0.7),
    "slice": lambda x: x[:, 1:-1],
    "chunk": lambda x: x.chunk(3, dim=1)[1],
    "split": lambda x: torch.split(x, [1, 3], dim=1)[1],
    "batch norm": nn.BatchNorm2d(4),
    "contrast normalisation, odd": nn.LocalResponseNorm(5, alpha=0.5, k=2.0),
    "contrast normalisation, even": nn.LocalResponseNorm(4, alpha=0.5, beta=0.6, k=1.0),
    "contrast normalisation, wider than the map is deep": nn.LocalResponseNorm(9, alpha=0.5),
    "scale": lambda x: x * -2.5,
    "scale by channel": lambda x: x * torch.arange(1.0, 5.0).view(4, 1, 1),
    "scale by place": lambda x: x * torch.arange(13.0),
    "shift": lambda x: 3 - x,
    "mean": lambda x: x.mean((2, 3)),
    "flatten": nn.Flatten(),
    "reshape": lambda x: x.reshape(x.size(0), 2, 24, 13),
    "padding": nn.ZeroPad2d((1, 0, 2, 3)),
    "padding, mirrored": nn.ReflectionPad2d((1, 0, 3, 2)),
    "padding, repeated": nn.ReplicationPad2d((0, 2, 1, 3)),
    "padding, circular": nn.CircularPad2d((1, 2, 0, 3)),
    "padding of channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "crop": lambda x: x[:, :, 2:-1, 1:],
    "crop, strided": lambda x: x[..., 1::2, ::3],
    "mean of channels": lambda x: x.mean(1, keepdim=True),
    "maximum of channels": lambda x: x.amax(1, keepdim=True),
    "max-pool, adaptive, uneven": nn.AdaptiveMaxPool2d((5, 4)),
    "interpolation": nn.Upsample(scale_factor=(2, 1.5), mode="bilinear"),
    "interpolation to less": nn.Upsample(size=(5, 7), mode="bicubic", align_corners=True),
    "transposed convolution": nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), 1, (1, 0), groups=2),
    "pixel shuffle": nn.PixelShuffle(2),
    "identity": nn.Identity(),
    "dropout": nn.Dropout(),
    **ACTIVATIONS,
}  # fmt: skip

WAY = BackwardRule("gradient", "gradient")
LINEAR = {
    name for name in CASES.keys() - ACTIVATIONS
    if not name.startswith(("max", "ReLU", "contrast"))
}  # fmt: skip
WHOLE = {
    "adaptive average", "adaptive average to one", "mean", "flatten", "reshape",
    "padding, circular", "max-pool, adaptive, uneven", "interpolation", "interpolation to less",
    "transposed convolution", "pixel shuffle",
}  # fmt: skip
PATCHED = [name for name in CASES if name not in WHOLE]  # the others see everything


class _Around(nn.Module):
    """One operation as a module."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return self.make(x)


def _traced(name: str) -> tuple[dn.Network, nn.Module]:
    torch.manual_seed(0)
    module = randomise(_Around(CASES[name]))
    return dn.trace(module, (4, 12, 13)), module


def _op(net: dn.Network) -> Op:
    op = net.nodes[-1].op
    assert op is not None
    return op


def _on_map(part: Tensor, region: Region, size: tuple[int, int]) -> Tensor:
    """A patch laid on its map; what lies beyond the border is dropped."""
    clip = region.clip(*size)
    whole = part.new_zeros(*part.shape[:2], *size)
    inner = clip.shift(-region.y0, -region.x0)
    whole[..., clip.y0 : clip.y1, clip.x0 : clip.x1] = part[
        ..., inner.y0 : inner.y1, inner.x0 : inner.x1
    ]
    return whole


def _down(op: Op, g: Tensor, kept: Tensor | None, out: Region, size: tuple[int, int]) -> Tensor:
    part = op.descend(g, kept, WAY)[0]
    return part if op.window is None else _on_map(part, op.window.pull(out), size)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_what_torch_gives(name: str) -> None:
    net, module = _traced(name)
    x = image(net, n=2)
    with torch.no_grad():
        assert torch.allclose(_op(net).forward(x), module(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_what_may_overwrite_its_input_gives_the_same(name: str) -> None:
    net, _ = _traced(name)
    op, x = _op(net), image(net)
    assert torch.equal(op.forward_over(x.clone()), op.forward(x))


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_of_a_whole_map_is_autograd_s(name: str) -> None:
    net, module = _traced(name)
    op, x = _op(net), image(net, seed=1, n=2).requires_grad_()
    y = module(x)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (truth,) = torch.autograd.grad(y, x, g)
    with torch.no_grad():
        recorded, kept = op.record(WAY, x)
        whole = Region(0, 0, *y.shape[2:]) if y.dim() == 4 else Region(0, 0, 1, 1)
        back = _down(op, g, kept, whole, (12, 13))
        assert torch.allclose(recorded, y, rtol=1e-12, atol=1e-12)
    assert torch.allclose(back, truth, rtol=0, atol=1e-11)
    if name in LINEAR:
        zero = module(torch.zeros_like(x)).detach()
        assert torch.allclose(((y - zero) * g).sum(), (x * back).sum(), rtol=1e-10)


@pytest.mark.parametrize("name", PATCHED)
def test_the_adjoint_of_a_patch_is_that_of_a_map_that_is_zero_elsewhere(name: str) -> None:
    net, _ = _traced(name)
    op, x = _op(net), image(net, seed=1)
    y, kept = op.record(WAY, x)
    assert op.window is not None
    height, width = y.shape[2:]
    for out in (
        Region(0, 0, 1, 1),
        Region(height - 1, 1, height, 3),
        Region(0, 0, height - 1, width),
    ):
        g = torch.zeros_like(y)
        part = torch.randn(1, y.shape[1], out.height, out.width, dtype=torch.float64)
        g[..., out.y0 : out.y1, out.x0 : out.x1] = part
        cut = None if kept is None else kept[..., out.y0 : out.y1, out.x0 : out.x1]
        patch = op.descend(part, cut, WAY)[0]
        pulled = op.window.pull(out)
        assert patch.shape[2:] == (pulled.height, pulled.width)
        ours = _on_map(patch, pulled, (12, 13))
        theirs = _down(op, g, kept, Region(0, 0, height, width), (12, 13))
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PATCHED)
def test_a_patch_runs_up_as_its_part_of_the_map(name: str) -> None:
    net, _ = _traced(name)
    op, x = _op(net), image(net, seed=1)
    y = op.forward(x)
    assert op.window is not None
    height, width = y.shape[2:]
    for out in (Region(0, 0, 1, 2), Region(height - 2, width - 1, height, width)):
        seen = op.window.pull(out)
        around = F.pad(x, (9, 9, 9, 9), value=op.pad_value)
        patch = around[..., seen.y0 + 9 : seen.y1 + 9, seen.x0 + 9 : seen.x1 + 9]
        constant = op.constant
        if constant is not None:
            constant = constant[..., out.y0 : out.y1, out.x0 : out.x1].to(x)
        ours = op.forward_patch(patch, constant=constant)
        truth = y[..., out.y0 : out.y1, out.x0 : out.x1]
        assert torch.allclose(ours, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_a_sum_goes_down_to_every_branch_in_memory_of_its_own(count: int) -> None:
    op = elementwise.Sum([1.0, -2.0, 1.0][:count], None)
    g = torch.randn(1, 2, 3, 3)
    parts = op.descend(g, None, WAY)
    for part, sign in zip(parts, [1.0, -2.0, 1.0], strict=False):
        assert torch.equal(part, g * sign)
    assert len({part.data_ptr() for part in parts}) == count


def test_a_concatenation_is_split_where_it_was_joined() -> None:
    op = elementwise.Concatenate([2, 3])
    g = torch.randn(1, 5, 3, 3)
    assert [part.shape[1] for part in op.descend(g, None, WAY)] == [2, 3]
    assert torch.equal(torch.cat(op.descend(g, None, WAY), 1), g)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("deconv", [0.0, 2.0, 0.0, 4.0]),
        ("gradient", [0.0, 0.0, -3.0, 4.0]),
        ("guided", [0, 0, 0, 4.0]),
    ],
)
def test_the_three_rules_differ_at_the_rectifier(rule: Any, expected: list[float]) -> None:
    backward, op = BackwardRule(rule), ReLU()
    x, g = torch.tensor([[-1.0, -1.0, 1.0, 1.0]]), torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    _, kept = op.record(backward, x)
    assert op.descend(g, kept, backward)[0].tolist() == [expected]


def test_a_clipped_relu_passes_the_gradient_between_its_bounds_alone() -> None:
    backward, op = BackwardRule("gradient"), ReLU(6.0)
    y, kept = op.record(backward, torch.tensor([[-1.0, 3.0, 9.0]]))
    assert y.tolist() == [[0, 3, 6]]
    assert op.descend(torch.ones(1, 3), kept, backward)[0].tolist() == [[0, 1, 0]]


def test_contrast_normalisation_is_passed_by_unless_its_gradient_is_asked_for() -> None:
    op, x = norm.LocalResponseNorm(3, 1.0, 0.75, 1.0), torch.randn(1, 4, 2, 2)
    g = torch.randn(1, 4, 2, 2)
    assert op.record(BackwardRule("deconv"), x)[1] is None
    assert torch.equal(op.descend(g, None, BackwardRule("deconv"))[0], g)


def test_biases_stay_above() -> None:
    zero = torch.zeros(1, 6, 4, 4)
    op = conv.Conv(torch.randn(6, 4, 3, 3), torch.randn(6), Window((3, 3)), 1)
    assert not op.descend(zero, None, WAY)[0].any()
    assert (
        not linear.Linear(torch.randn(6, 4), torch.randn(6))
        .descend(torch.zeros(1, 6), None, WAY)[0]
        .any()
    )


def test_an_operation_is_entered_once() -> None:
    with pytest.raises(ValueError, match="in the op table already"):
        ops.register(nn.ReLU)(lambda *_: (ReLU(), []))


def test_an_operation_of_one_s_own_can_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Square(nn.ReLU):
        __module__ = "torch.nn.modules.activation"  # fx goes into modules that are not torch's

    monkeypatch.setattr("deconvnet.ops.base._TABLE", dict(base._TABLE))
    module = nn.Sequential(Square())
    with pytest.raises(UnknownOpError, match=r"deconvnet\.ops\.register"):
        dn.trace(module, (3, 4, 4))
    ops.register(Square)(lambda _, x: (ReLU(), [x]))
    assert dn.trace(module, (3, 4, 4)).nodes[1].op is not None


def test_what_the_table_knows_can_be_listed() -> None:
    known = base.known()
    assert known == sorted(known)
    assert {"Conv2d", "MaxPool2d", "ReLU", "relu", "cat", "local_response_norm"} <= set(known)
