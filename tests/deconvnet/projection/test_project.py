"""Projections against autograd through the untouched module, by every rule (support/oracles)."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvnet as dn
from deconvnet import zoo
from deconvnet.errors import AddressError, InputError, ParameterError, ProjectionError
from deconvnet.execution.forward import capture, record
from deconvnet.projection.descend import descend
from tests.support.judging import (
    BOUND,
    ORACLE_KIND,
    assert_agrees,
    image,
    randomise,
    spell,
)  # fmt: skip
from tests.support.networks import SIZE, Drawn, plans
from tests.support.oracles import RULES, relative_error

# Networks that take any size are judged at a small one, where a pass is 5 to 12 times as fast.
SIZES = dict.fromkeys(("vgg16", "googlenet", "resnet18", "resnet50"), 64) | {
    "vgg19": 32,
    "alexnet": 96,
    "squeezenet1_1": 64,
}


def _zoo(name: str, size: int | None = None) -> tuple[dn.Network, nn.Module]:
    spec = zoo.find(name)
    module = randomise(zoo.materialise(spec, None).module)
    side = size or SIZES.get(name, spec.input_size[1])
    return dn.trace(module, (3, side, side), landmarks=spec.landmarks), module


@pytest.mark.parametrize("name", zoo.names())
def test_every_landmark_of_the_zoo_agrees_with_autograd_under_every_rule(name: str) -> None:
    net, module = _zoo(name)
    assert_agrees(net, module, list(net.landmarks), corners=((0, 1),))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_crops_of_a_large_image_agree_with_autograd(name: str) -> None:
    net, module = _zoo(name, 224)
    assert_agrees(net, module, ["conv2", "conv4"], corners=((0, 0),), rules=["deconv"])


def test_contrast_normalisation_can_go_down_by_its_gradient() -> None:
    net, module = _zoo("zfnet64")
    assert_agrees(net, module, ["conv2", "conv5", "fc6"], rules=["gradient"], lrn="gradient")


@given(plan=plans(), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_drawn_networks_agree_with_autograd_at_every_layer(plan: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    module = randomise(Drawn(plan), seed)
    net = dn.trace(module, (3, *SIZE))
    judged = [n.name for n in net.nodes[1:] if n.op is not None and n.op.kind in ORACLE_KIND]
    last = judged[-4:]
    assert_agrees(net, module, last, rules=["deconv", "gradient"], seed=seed)
    assert_agrees(net, module, last[-1:], rules=["guided", "gradient"], lrn="gradient", seed=seed)


class _Parts(nn.Module):
    """A few layers, wired by a function."""

    def __init__(self, wire: Callable[["_Parts", Tensor], Tensor]) -> None:
        super().__init__()
        self.wire = wire
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.d = nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(8, 4, 1)
        self.relu, self.into = nn.ReLU(), nn.ReLU(inplace=True)
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", torch.rand(3, 1, 1) + 0.5)
        self.register_buffer("picture", torch.rand(3, 11, 12))
        self.register_buffer("gain", torch.rand(1, 11, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.wire(self, x)


def _branches_that_share_a_sum(m: _Parts, x: Tensor) -> Tensor:
    a = m.a(x)  # what comes down to `a` must not be added to what goes down to the ReLU
    return torch.relu(m.b(a + torch.relu(a) + m.c(a)))


def _dense(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x))
    b = torch.relu(m.b(a))
    return torch.relu(m.d(torch.cat([a, b], 1)) + a)


def _twice_itself(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x))
    a = a + a
    return torch.relu(m.b(a) - 0.5 * a)


def _concatenated_with_itself(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x))
    return torch.relu(m.d(torch.cat([a, a], 1)))


def _one_relu_everywhere(m: _Parts, x: Tensor) -> Tensor:
    a = m.relu(m.a(x))
    return m.relu(m.bn(m.b(m.relu(m.c(a)))) + a)


def _used_after_an_in_place_relu(m: _Parts, x: Tensor) -> Tensor:
    a = m.a(x)
    b = F.relu(a, inplace=True)
    return torch.relu(m.b(b) + a)


def _in_place_sum_and_relu(m: _Parts, x: Tensor) -> Tensor:
    a = m.a(x)
    b = m.into(m.b(a))
    a += b
    return a.relu_()


def _in_place_on_the_input(m: _Parts, x: Tensor) -> Tensor:
    return torch.relu(m.a(m.into(x)))


def _changed_through_a_view(m: _Parts, x: Tensor) -> Tensor:
    a = m.a(x)
    a.view(a.size(0), -1).relu_()
    return torch.relu(m.b(a))


def _viewed_then_changed(m: _Parts, x: Tensor) -> Tensor:
    a = m.a(x)
    seen = a.flatten(2)
    m.into(a)
    return torch.relu(m.fc(seen.mean(-1)))


def _constants(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a((x - m.mean) / m.std))
    return torch.relu(1 - 0.5 * m.b(a) + 2 * a)


def _divided_by_another_precision(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x / torch.tensor(3.0, dtype=torch.float32)))
    return torch.relu(m.b(a / 7) / (m.gain + 1))


def _constants_that_vary_over_the_map(m: _Parts, x: Tensor) -> Tensor:
    return torch.relu(m.b(torch.relu(m.a(x - m.picture)) * m.gain))


def _head_by_squeezing(m: _Parts, x: Tensor) -> Tensor:
    a = F.adaptive_avg_pool2d(torch.relu(m.a(x)), 1)
    return torch.relu(m.fc(a.squeeze(-1).squeeze(-1)))


def _head_by_means(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x))
    return torch.relu(
        m.fc(a.mean((-2, -1)) + a.flatten(2).mean(2) + a.mean([2, 3], True).flatten(1))
    )


def _global_maximum(m: _Parts, x: Tensor) -> Tensor:
    return torch.relu(m.fc(F.adaptive_max_pool2d(torch.relu(m.a(x)), 1).flatten(1)))


def _window_of_more_cells_than_a_byte_tells(m: _Parts, x: Tensor) -> Tensor:
    a = F.max_pool2d(F.pad(m.a(x), (4, 4, 4, 4), value=-1.0), 17)
    return torch.relu(m.fc(a.flatten(1)))


def _adaptive_in_the_middle(m: _Parts, x: Tensor) -> Tensor:
    return torch.relu(m.b(F.adaptive_avg_pool2d(torch.relu(m.a(x)), (5, 7))))


def _reshaped_in_the_middle(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(x))
    return torch.relu(m.b(a.view(a.size(dim=0), -1).reshape(-1, 4, 12, 11)))


def _uneven_padding(m: _Parts, x: Tensor) -> Tensor:
    a = torch.relu(m.a(F.pad(x, (0, 1, 2, 3))))
    return torch.relu(m.b(F.max_pool2d(F.pad(a, (1, 0)), 3, 2)))


WIRINGS = [
    _branches_that_share_a_sum, _dense, _twice_itself, _concatenated_with_itself,
    _one_relu_everywhere, _used_after_an_in_place_relu, _in_place_sum_and_relu,
    _in_place_on_the_input, _changed_through_a_view, _viewed_then_changed, _constants,
    _divided_by_another_precision, _constants_that_vary_over_the_map, _head_by_squeezing,
    _head_by_means, _global_maximum,
    _window_of_more_cells_than_a_byte_tells, _adaptive_in_the_middle, _reshaped_in_the_middle,
    _uneven_padding,
]  # fmt: skip


@pytest.mark.parametrize("wire", WIRINGS, ids=lambda f: f.__name__.strip("_"))
def test_awkward_wiring_agrees_with_autograd_at_every_layer(
    wire: Callable[[_Parts, Tensor], Tensor],
) -> None:
    torch.manual_seed(1)
    module = randomise(_Parts(wire))
    net = dn.trace(module, (3, 11, 12))
    layers = [n.name for n in net.nodes[1:] if n.op is not None and n.op.kind in ORACLE_KIND]
    assert_agrees(net, module, layers)


def test_an_activation_that_sees_nothing_but_padding_has_a_blank_projection() -> None:
    module = randomise(_Parts(lambda m, x: F.pad(m.a(x), (0, 3, 0, 3)) + 1))
    net = dn.trace(module, (3, 11, 12))
    beyond = dn.project(net, image(net), ["add:1@13,14", "add:1@13,2", "add:1@2,14"])
    assert [p.value for p in beyond] == [1, 1, 1]
    assert not any(p.pixels.any() for p in beyond)
    assert_agrees(net, module, ["add", "a"])


class _Rates(nn.Module):
    """Two branches that meet at one size though one moves by 1 pixel and the other by 2."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(3, 4, 6), nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.near(x).relu() + self.far(x))


def test_branches_that_move_at_different_rates_agree_with_autograd() -> None:
    module = randomise(_Rates())
    net = dn.trace(module, (3, 11, 11))
    assert_agrees(net, module, ["relu", "relu:2"], corners=((0, 0), (1, 1), (0, 1)))


@pytest.fixture(scope="module")
def small() -> dn.Network:
    torch.manual_seed(2)
    layers = [
        nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.LocalResponseNorm(3), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * 16, 5), nn.ReLU(),
    ]  # fmt: skip
    return dn.trace(randomise(nn.Sequential(*layers)), (3, 32, 32), {"conv1": "1", "conv2": "5"})


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_equals_its_singles(small: dn.Network, rule: str) -> None:
    x = image(small, n=5)
    units = ["conv2:1", "conv2:7@0,0", "conv1:2", "9:1", "conv2:3@7,7"]
    together = dn.project(small, x, units, rule)
    for i, (unit, ours) in enumerate(zip(units, together, strict=True)):
        alone = dn.project(small, x[i : i + 1], unit, rule)
        assert relative_error(ours.pixels, alone.pixels) <= BOUND
        assert (ours.position, ours.region) == (alone.position, alone.region)
        assert ours.value == pytest.approx(alone.value, rel=1e-12)


def test_many_units_of_one_image_equal_each_alone(small: dn.Network) -> None:
    x = image(small)
    units = [f"conv2:{c}@{y},{3}" for c in range(8) for y in range(8)] + ["conv1:0", "conv1:5"]
    for unit, ours in zip(units, dn.project(small, x, units), strict=True):
        assert relative_error(ours.pixels, dn.project(small, x, unit).pixels) <= BOUND


def test_a_tight_memory_budget_changes_nothing(
    small: dn.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, units = image(small), [f"conv2:{c}" for c in range(8)]
    ample = dn.project(small, x, units)
    monkeypatch.setenv("DECONVNET_MEMORY_MB", "0.01")
    for one, other in zip(ample, dn.project(small, x, units), strict=True):
        assert relative_error(one.pixels, other.pixels) <= BOUND


def test_a_unit_without_a_position_is_projected_from_its_strongest_one(small: dn.Network) -> None:
    x = image(small)
    values = capture(small, x, ["conv2"])["conv2"][0, 3]
    ours = dn.project(small, x, "conv2:3")
    y, column = ours.position
    assert ours.value == float(values.max()) == float(values[y, column])
    assert torch.equal(ours.pixels, dn.project(small, x, f"conv2:3@{y},{column}").pixels) or (
        relative_error(ours.pixels, dn.project(small, x, f"conv2:3@{y},{column}").pixels) <= BOUND
    )


def test_of_equal_maxima_the_first_row_by_row_is_taken() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU()).double()
    net = dn.trace(module, (1, 3, 3))
    flat = torch.ones(1, 1, 3, 3, dtype=torch.float64) * module[0].weight.sign().item()
    assert dn.project(net, flat, "1:0").position == (0, 0)


def test_the_height_scales_the_projection(small: dn.Network) -> None:
    x = image(small)
    recorded = record(small, x, ["conv2"])
    at = [torch.tensor([v]) for v in (0, 2, 4, 4)]
    unit = descend(small, recorded, "conv2", *at, torch.ones(1, dtype=torch.float64))
    own = recorded.activations["conv2"][0, 2, 4, 4]
    assert relative_error(descend(small, recorded, "conv2", *at), own * unit) <= BOUND


def test_pixels_are_zero_outside_the_region(small: dn.Network) -> None:
    x = image(small)
    strongest = int(capture(small, x, ["conv2"])["conv2"][0, :, 0, 0].argmax())
    projection = dn.project(small, x, f"conv2:{strongest}@0,0")
    y0, x0, y1, x1 = projection.region
    assert (y0, x0) == (0, 0) and y1 < 32 and x1 < 32
    inside = projection.pixels[:, y0:y1, x0:x1].clone()
    projection.pixels[:, y0:y1, x0:x1] = 0
    assert inside.any() and not projection.pixels.any()


def test_a_projection_is_the_same_every_time(small: dn.Network) -> None:
    x = image(small)
    one, other = (dn.project(small, x, "conv2:1").pixels for _ in range(2))
    assert torch.equal(one, other)


def test_projecting_leaves_the_input_alone(small: dn.Network) -> None:
    x = image(small).requires_grad_()
    before = x.detach().clone()
    pixels = dn.project(small, x, "conv2:1").pixels
    assert torch.equal(x, before) and x.grad is None and not pixels.requires_grad


def test_float32_agrees_with_float64_to_its_own_precision() -> None:
    _, module = _zoo("zfnet64")
    net64 = dn.trace(copy.deepcopy(module), (3, 64, 64))
    net32 = dn.trace(copy.deepcopy(module).float(), (3, 64, 64))
    x = image(net64)
    for unit in ("conv1:3@5,5", "conv3:7@2,2"):
        exact, rounded = (dn.project(net, x, unit).pixels for net in (net64, net32))
        assert rounded.dtype == torch.float32
        # 1e-7 for each rounding, over sums of some thousand terms; a flipped near-tie is not met.
        assert relative_error(rounded.double(), exact) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_modules_are_traced_and_projected(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 3),
        nn.ReLU(),
    )
    net = dn.trace(module.to(dtype).requires_grad_(False), (3, 16, 16))
    pixels = dn.project(net, torch.randn(1, 3, 16, 16), "5:1").pixels
    assert pixels.dtype == dtype and pixels.isfinite().all() and pixels.any()


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ("conv9:0", "nearest: conv"),
        ("conv2:8", "channels 0 to 7"),
        ("conv2:0@8,0", "8×8"),
        ("conv2", "conv3:117"),
    ],
)
def test_a_unit_that_does_not_exist_is_refused_with_what_does(
    small: dn.Network, unit: str, told: str
) -> None:
    with pytest.raises(AddressError, match=told):
        dn.project(small, image(small), unit)


def test_an_unknown_rule_is_refused(small: dn.Network) -> None:
    with pytest.raises(ParameterError, match="deconv, guided, gradient"):
        dn.project(small, image(small), "conv2:1", "backwards")


def test_images_and_units_that_do_not_pair_are_refused(small: dn.Network) -> None:
    with pytest.raises(ParameterError, match="2 images and 3 units"):
        dn.project(small, image(small, n=2), ["conv2:1"] * 3)


def test_no_units_give_no_projections(small: dn.Network) -> None:
    assert dn.project(small, image(small), []) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_with_nan_or_infinity_is_refused(small: dn.Network, value: float) -> None:
    x = image(small)
    x[0, 0, 3, 3] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        dn.project(small, x, "conv2:1")


@pytest.mark.parametrize("unit", ["conv2:1", "conv2:1@3,3"])
def test_weights_with_nan_are_an_error_and_not_a_blank_picture(unit: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    module[2].weight.data[1] = float("nan")
    net = dn.trace(module, (3, 16, 16), {"conv2": "3"})
    with pytest.raises(ProjectionError, match="NaN or infinity"):
        dn.project(net, torch.zeros(1, 3, 16, 16), unit)


def test_nothing_is_projected_through_a_softmax() -> None:
    net = dn.trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(1)), (3, 2, 2))
    with pytest.raises(ProjectionError, match=r"rule 'deconv'\. Project from a layer before it"):
        dn.project(net, torch.zeros(1, 3, 2, 2), "2:0")
    assert spell("1", (0,)) == "1:0"
    assert dn.project(net, torch.ones(1, 3, 2, 2), "1:0").pixels.any()


def test_a_layer_that_is_neither_map_nor_vector_is_refused() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2).relu().mean(2)

    net = dn.trace(Rows(), (3, 4, 4))
    with pytest.raises(ProjectionError, match="neither a map nor a vector"):
        dn.project(net, torch.zeros(1, 3, 4, 4), "relu:0")
