"""Captum's conventions, beside Captum itself wherever both are right."""

import captum.attr as theirs
import pytest
import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.errors import InputError, ParameterError


class Plain(nn.Module):
    """Own ReLU modules and no shared ones: what Captum's hooks can see."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(12 * 3 * 3, 20), nn.ReLU(), nn.Linear(20, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(5)
    return Plain().double().eval()


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(
        4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Captum announces its hooks
@pytest.mark.parametrize("target", [2, [0, 5, 1, 1], torch.tensor([3, 2, 1, 0])])
@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        ("deconv", theirs.Deconvolution),
        ("guided", theirs.GuidedBackprop),
        ("gradient", theirs.Saliency),
    ],
)
def test_outputs_agree_with_captum(
    module: nn.Module, inputs: Tensor, target: object, rule: str, reference: type
) -> None:
    ours = dn.Deconvnet(module, rule=rule).attribute(inputs, target=target)
    leaf = inputs.clone().requires_grad_()
    options = {"abs": False} if reference is theirs.Saliency else {}
    expected = reference(module).attribute(leaf, target=target, **options)
    torch.testing.assert_close(ours, expected.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layer", ["features.4", "features.1", "head.2"])
def test_neurons_agree_with_captum(module: nn.Module, inputs: Tensor, layer: str) -> None:
    neuron = (7,) if layer.startswith("head") else (7, 3, 2)
    ours = dn.Deconvnet(module).attribute(inputs, layer=layer, neuron=neuron)
    reference = theirs.NeuronDeconvolution(module, module.get_submodule(layer))
    expected = reference.attribute(inputs.clone().requires_grad_(), neuron)
    torch.testing.assert_close(ours, expected.detach(), rtol=1e-9, atol=1e-12)


def test_a_layer_may_be_given_as_a_module(module: nn.Module, inputs: Tensor) -> None:
    by_name = dn.Deconvnet(module).attribute(inputs, layer="features.4", neuron=(1, 2, 2))
    by_module = dn.Deconvnet(module).attribute(
        inputs, layer=module.get_submodule("features.4"), neuron=(1, 2, 2)
    )
    assert torch.equal(by_name, by_module)


def test_a_projection_is_the_attribution_times_the_height(
    module: nn.Module, inputs: Tensor
) -> None:
    net = dn.trace(module, (3, 32, 32))
    projection = dn.project(net, inputs[:1], "features.4:3")
    assert isinstance(projection, dn.Projection)
    attribution = dn.Deconvnet(module).attribute(inputs[:1], layer="features.4", neuron=3)
    torch.testing.assert_close(projection.pixels, attribution[0] * projection.value)


@pytest.mark.parametrize(
    ("window", "strides"),
    [((3, 8, 8), (3, 4, 4)), ((3, 7, 5), (3, 3, 2)), ((1, 16, 16), (1, 9, 16))],
)
@pytest.mark.parametrize("together", [1, 5])
def test_occlusion_agrees_with_captum(
    module: nn.Module,
    inputs: Tensor,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    together: int,
) -> None:
    options = {"sliding_window_shapes": window, "strides": strides, "baselines": 0.3, "target": 4}
    ours = dn.Occlusion(module).attribute(inputs, **options, perturbations_per_eval=together)
    expected = theirs.Occlusion(module).attribute(inputs, **options)  # it returns float32
    torch.testing.assert_close(ours.float(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": 6}, "target is 6"),
        ({"target": None}, "6 outputs"),
        ({"target": [1, 2]}, "2 targets for 4"),
        ({"target": 1.5}, "target is 1.5"),
        ({"target": True}, "target is True"),
        ({"layer": "features.4"}, "neuron is None"),
        ({"layer": "features.4", "neuron": 1.0}, "neuron is 1.0"),
        ({"layer": "features.4", "neuron": (0, 99, 0)}, "neuron is"),
    ],
)
def test_bad_arguments_are_named(
    module: nn.Module, inputs: Tensor, options: dict[str, object], says: str
) -> None:
    with pytest.raises(ParameterError, match=says):
        dn.Deconvnet(module).attribute(inputs, **options)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu = nn.Conv2d(3, 3, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.a(self.relu(self.a(x))))


def test_a_module_that_is_called_twice_is_no_call_site() -> None:
    module, x = _Twice(), torch.rand(1, 3, 8, 8)
    with pytest.raises(ParameterError, match="'relu', which is called several times"):
        dn.Deconvnet(module).attribute(x, layer=module.relu, neuron=0)
    assert dn.Deconvnet(module).attribute(x, layer="relu:2", neuron=0).shape == x.shape


def test_occlusion_leaves_a_module_in_training_as_it_is(inputs: Tensor) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double().train()  # fmt: skip
    before = {name: value.clone() for name, value in module.state_dict().items()}
    options = {"target": 1, "sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16)}
    found = dn.Occlusion(module).attribute(inputs, **options)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(found, dn.Occlusion(module.eval()).attribute(inputs, **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sliding_window_shapes": 8}, "sliding_window_shapes is 8"),
        ({"sliding_window_shapes": (3, 8, 8.0)}, "sliding_window_shapes is"),
        ({"strides": (3, 4.5, 4)}, "strides is"),
        ({"baselines": "a"}, "baselines is 'a'"),
        ({"baselines": torch.zeros(5)}, "tensor that broadcasts"),
        ({"perturbations_per_eval": 2.5}, "perturbations_per_eval is 2.5"),
    ],
)
def test_what_is_no_whole_number_or_picture_is_named(
    module: nn.Module, inputs: Tensor, options: dict[str, object], says: str
) -> None:
    usual = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    with pytest.raises(ParameterError, match=says):
        dn.Occlusion(module).attribute(inputs, target=0, **{**usual, **options})


def test_an_array_for_a_tensor_is_named(module: nn.Module, inputs: Tensor) -> None:
    with pytest.raises(InputError, match="inputs is a ndarray, expected a tensor"):
        dn.Occlusion(module).attribute(inputs.numpy(), sliding_window_shapes=(3, 2, 2), target=1)


def test_bad_windows_are_named(module: nn.Module, inputs: Tensor) -> None:
    with pytest.raises(ParameterError, match="sliding_window_shapes"):
        dn.Occlusion(module).attribute(inputs, target=0, sliding_window_shapes=(3, 8))
    with pytest.raises(ParameterError, match="strides"):
        dn.Occlusion(module).attribute(inputs, target=0, sliding_window_shapes=(3, 4, 4), strides=5)
