"""A forward pass in crops gives the activations, switches and projections of the whole one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deconvnet as dn
from deconvnet.projection import project
from tests.support.judging import image, randomise
from tests.support.networks import SIZE, Drawn, plans


def both_ways(
    net: dn.Network, x: torch.Tensor, units: list[str], rule: str
) -> tuple[list[dn.Projection], list[dn.Projection]]:
    """The same projections, running only crops upwards, and running whole images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_local_pays", lambda *_: True)
        near = dn.project(net, x, units, rule=rule)
        patch.setattr(project, "_local_pays", lambda *_: False)
        far = dn.project(net, x, units, rule=rule)
    assert isinstance(near, list) and isinstance(far, list)
    return near, far


def assert_same(near: list[dn.Projection], far: list[dn.Projection]) -> None:
    """Values and pixels agree to the rounding of float64."""
    for ours, truth in zip(near, far, strict=True):
        assert ours.value == pytest.approx(truth.value, rel=1e-9, abs=1e-12)
        assert ours.region == truth.region
        scale = max(float(truth.pixels.abs().max()), 1e-12)
        assert float((ours.pixels - truth.pixels).abs().max()) <= 1e-9 * scale


@settings(max_examples=40)
@given(plans(), st.sampled_from(["deconv", "guided", "gradient"]), st.integers(0, 3), st.data())
def test_drawn_networks_agree(plan: list[str], rule: str, seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    net = dn.trace(randomise(Drawn(plan), seed), (3, *SIZE))
    x = image(net, seed, n=3)
    channels, height, width = net.nodes[-1].shape
    units = [
        f"{net.nodes[-1].name}:{data.draw(st.integers(0, channels - 1))}"
        f"@{data.draw(st.integers(0, height - 1))},{data.draw(st.integers(0, width - 1))}"
        for _ in range(3)
    ]
    assert_same(*both_ways(net, x, units, rule))


@pytest.mark.parametrize("name", ["zfnet64", "alexnet", "resnet18"])
@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv5"])
def test_networks_of_the_zoo_agree(name: str, layer: str) -> None:
    loaded = dn.load(name, weights=None, device="cpu")
    net = dn.trace(randomise(loaded.module), loaded.input_size, loaded.landmarks)
    _, height, width = net.layer(layer).shape
    units = [f"{layer}:{c}@{y},{x}" for c, y, x in
             [(0, 0, 0), (3, height - 1, width - 1), (5, height // 2, width // 3)]]  # fmt: skip
    assert_same(*both_ways(net, image(net, n=3), units, "deconv"))


def test_crops_are_chosen_only_where_places_are_given_and_it_is_less_work() -> None:
    net = dn.load("zfnet64", weights=None, device="cpu")
    unit = dn.Unit.parse("conv2:3@4,5")
    assert project._local_pays(net, "conv2", [unit], 1)
    assert not project._local_pays(net, "conv2", [dn.Unit("conv2", 3)], 1)
    assert not project._local_pays(net, "conv2", [unit] * 100, 1)
