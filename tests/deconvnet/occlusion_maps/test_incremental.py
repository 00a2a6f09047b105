"""Incremental occlusion equals the plain loop, on networks of every shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import deconvnet as dn
from tests.support.judging import image, randomise
from tests.support.networks import SIZE, SMOOTH, STEPS, Drawn, plans


def classifier(plan: list[str], seed: int) -> dn.Network:
    """A drawn network under a fully connected layer, in float64."""
    torch.manual_seed(seed)
    drawn = Drawn(plan)
    with torch.no_grad():
        features = drawn(torch.zeros(1, 3, *SIZE)).flatten(1).shape[1]
    module = nn.Sequential(drawn, nn.Flatten(), nn.Linear(features, 5))
    return dn.trace(randomise(module, seed), (3, *SIZE))


def assert_same(a: dn.OcclusionMap, b: dn.OcclusionMap) -> None:
    """Both maps agree to the rounding of float64."""
    for name in ("probability", "activity"):
        ours, truth = getattr(a, name), getattr(b, name)
        assert float((ours - truth).abs().max()) <= 1e-9 * max(1e-6, float(truth.abs().max())), name
    assert torch.equal(a.label, b.label)


@settings(max_examples=40)
@given(plans(STEPS + SMOOTH), st.integers(1, 12), st.integers(1, 12), st.integers(0, 3))
def test_drawn_networks_agree_with_the_plain_loop(
    plan: list[str], size: int, stride: int, seed: int
) -> None:
    net = classifier(plan, seed)
    x = image(net, seed)
    options = {"size": size, "stride": min(size, stride), "unit": f"{net.nodes[-3].name}:1"}
    assert_same(
        dn.occlusion(net, x, strategy="incremental", **options),
        dn.occlusion(net, x, strategy="plain", **options),
    )


@pytest.mark.parametrize("sides", [(0, 2, 0, 1), (0, 0, 0, 2), (1, 2, 3, 0)])
@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_map_followed_above_padding_of_some_sides_agrees_with_the_plain_loop(
    sides: tuple[int, int, int, int], size: int, adaptive: bool
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.AdaptiveAvgPool2d((5, 7)) if adaptive else nn.Conv2d(3, 3, 1),
        nn.ConstantPad2d(sides, -1.0), nn.BatchNorm2d(3), nn.ReLU(),
        nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5),
    )  # fmt: skip
    net = dn.trace(randomise(module), (3, 9, 11))
    x = image(net)
    for layer in ("1", "2", "3", "4"):
        options = {"size": size, "stride": size, "unit": f"{layer}:1"}
        assert_same(
            dn.occlusion(net, x, strategy="incremental", **options),
            dn.occlusion(net, x, strategy="plain", **options),
        )


@pytest.mark.parametrize("name", ["zfnet64", "alexnet", "resnet18", "googlenet", "squeezenet1_1"])
def test_networks_of_the_zoo_agree_with_the_plain_loop(name: str) -> None:
    loaded = dn.load(name, weights=None, device="cpu")
    net = dn.trace(randomise(loaded.module), loaded.input_size, loaded.landmarks)
    x = image(net)
    side = net.input_size[1]
    options = {"size": side // 4, "stride": side // 4}
    incremental = dn.occlusion(net, x, strategy="incremental", **options)
    assert_same(incremental, dn.occlusion(net, x, strategy="plain", **options))
    assert incremental.strategy.startswith("incremental")


def test_automatic_choice_is_by_multiply_adds_and_says_so() -> None:
    net = dn.load("zfnet64", weights=None, device="cpu")
    x = torch.rand(1, 3, 64, 64)
    assert dn.occlusion(net, x, size=8, stride=8).strategy.startswith("incremental, 2.")
    assert dn.occlusion(net, x, size=64, stride=64).strategy.startswith("plain; ")
