"""A traced network: its layers, its landmarks, its fingerprint."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

import deconvnet as dn
from deconvnet.errors import AddressError, GraphError, InputError, ModelError, ParameterError
from tests.support.judging import assert_agrees, randomise


def _module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5),
    )  # fmt: skip


@pytest.fixture(scope="module")
def net() -> dn.Network:
    return dn.trace(_module(), (3, 8, 8), landmarks={"conv1": "1", "conv2": "4"})


def test_landmarks_come_first_then_every_call_site(net: dn.Network) -> None:
    assert list(net.layers) == ["conv1", "conv2", "0", "1", "2", "3", "4", "5", "6"]
    assert [layer.name for layer in net.layers.values() if layer.landmark][:2] == ["conv1", "conv2"]


def test_a_layer_tells_its_shape_field_and_jump(net: dn.Network) -> None:
    layer = net.layer("conv2")
    assert (layer.node, layer.kind, layer.shape) == ("4", "ReLU", (6, 4, 4))
    assert (layer.receptive_field, layer.jump, layer.landmark) == (8, 2, True)
    assert (net.layer("6").shape, net.layer("6").jump) == ((5,), 0)


def test_a_layer_has_both_its_names(net: dn.Network) -> None:
    assert net.find("conv2") == net.find("4")


def test_a_missing_layer_is_refused_with_the_nearest(net: dn.Network) -> None:
    with pytest.raises(AddressError, match="'conv9' is not in Sequential; nearest: conv"):
        net.layer("conv9")


def test_the_input_is_no_layer(net: dn.Network) -> None:
    with pytest.raises(AddressError):
        net.find("input")


def test_a_landmark_that_is_no_call_site_is_refused() -> None:
    with pytest.raises(AddressError, match="Landmark 'conv1' is '9', which is not a call site"):
        dn.trace(_module(), (3, 8, 8), landmarks={"conv1": "9"})


@pytest.mark.parametrize("name", ["my layer", "", 3, "a@b"])
def test_a_landmark_that_no_unit_can_be_spelled_with_is_refused(name: Any) -> None:
    with pytest.raises(AddressError, match=r"A landmark is named .*expected a text"):
        dn.trace(_module(), (3, 8, 8), landmarks={name: "0"})


@pytest.mark.parametrize("classes", [3, "abcde", ["a"]])
def test_classes_that_are_not_a_name_for_each_output_are_refused(classes: Any) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    assert dn.trace(module, (3, 8, 8), classes=list("abcde")).classes == tuple("abcde")
    with pytest.raises(ParameterError, match=r"classes (is|has 1 names, expected 5)"):
        dn.trace(module, (3, 8, 8), classes=classes)


def test_a_module_that_was_not_traced_is_refused_with_how_to() -> None:
    x = torch.rand(1, 3, 8, 8)
    for ask in (lambda m: dn.project(m, x, "0:1"), lambda m: dn.occlusion(m, x)):
        with pytest.raises(InputError, match=r"is a Sequential, .* dn.trace\(module"):
            ask(_module())


def test_preprocessing_to_another_size_is_refused() -> None:
    with pytest.raises(ParameterError, match="preprocess is 'x'"):
        dn.trace(_module(), (3, 8, 8), preprocess="x")
    with pytest.raises(ParameterError, match=r"gives images of \(9, 8\), expected .* \(8, 8\)"):
        dn.trace(_module(), (3, 8, 8), preprocess=dn.Preprocess((9, 8)))


def test_the_input_is_no_landmark_and_a_list_names_none() -> None:
    with pytest.raises(AddressError, match="'input', which is not a call site"):
        dn.trace(_module(), (3, 8, 8), landmarks={"conv1": "input"})
    with pytest.raises(ParameterError, match="expected names for call sites"):
        dn.trace(_module(), (3, 8, 8), landmarks=["0"])


@pytest.mark.parametrize("size", [(8, 8), (3, 0, 8), (3, 8, 8.0), None, 8, "388"])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(GraphError, match="channels, height, width"):
        dn.trace(_module(), size)


def test_an_image_of_the_wrong_size_for_the_module_is_refused() -> None:
    with pytest.raises(GraphError, match=r"'6' cannot take \[150\]"):
        dn.trace(_module(), (3, 10, 10))
    with pytest.raises(GraphError, match="'0' cannot take"):
        dn.trace(_module(), (1, 8, 8))


def test_without_landmarks_the_last_relu_at_each_size_is_taken() -> None:
    assert dn.trace(_module(), (3, 8, 8)).landmarks == {"conv1": "1", "conv2": "4"}
    stages = dn.trace(get_model("resnet18", weights=None), (3, 64, 64)).landmarks
    assert list(stages) == [f"conv{i}" for i in range(1, 6)]
    assert stages["conv5"] == "layer4.1.relu:2"


def test_a_network_without_relus_has_no_landmarks() -> None:
    assert dn.trace(nn.Conv2d(3, 2, 3), (3, 8, 8)).landmarks == {}


def test_two_networks_may_share_a_relu() -> None:
    relu = nn.ReLU()
    one = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu).double().eval()
    other = nn.Sequential(nn.Conv2d(3, 2, 5), relu).double().eval()
    traced = [dn.trace(module, (3, 12, 12)) for module in (one, other)]
    for net, module in zip(traced, (one, other), strict=True):
        assert_agrees(net, module, list(net.landmarks))


def test_the_fingerprint_follows_weights_architecture_and_preprocessing() -> None:
    module = _module()
    first = dn.trace(module, (3, 8, 8)).fingerprint
    assert dn.trace(copy.deepcopy(module), (3, 8, 8), {"other": "1"}).fingerprint == first
    changed = copy.deepcopy(module)
    changed[3].bias.data[0] += 1e-3
    assert dn.trace(changed, (3, 8, 8)).fingerprint != first
    without = nn.Sequential(*(nn.Identity() if i == 1 else part for i, part in enumerate(module)))
    assert dn.trace(without, (3, 8, 8)).fingerprint != first
    prepared = dn.trace(module, (3, 8, 8), preprocess=dn.Preprocess((8, 8), mean=(0.5,) * 3))
    assert prepared.fingerprint != first


def test_the_fingerprint_follows_weights_that_are_trained_on() -> None:
    module = _module()
    net = dn.trace(module, (3, 8, 8))
    first = net.fingerprint
    with torch.no_grad():
        module[0].weight[0].mul_(2)
    assert net.fingerprint not in (first, "")
    assert net.fingerprint == dn.trace(module, (3, 8, 8)).fingerprint


class _Scaled(nn.Module):
    """A number and a tensor of its own that no parameter and no buffer holds."""

    def __init__(self, number: float, offset: float) -> None:
        super().__init__()
        self.number, self.offset = number, torch.full((3, 1, 1), offset)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * self.number + self.offset)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_Scaled(0.5, 1.0), _Scaled(0.25, 1.0)),
        (_Scaled(0.5, 1.0), _Scaled(0.5, 2.0)),
        (nn.LocalResponseNorm(3, alpha=0.1), nn.LocalResponseNorm(3, alpha=0.2)),
        (nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        (nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(5, 1, 2)),
        (*(nn.Sequential(nn.BatchNorm2d(3, eps=eps)) for eps in (1e-5, 1e-3)),),
    ],
    ids=["number", "tensor", "lrn", "average", "maximum", "norm"],
)
def test_the_fingerprint_follows_what_an_operation_does(one: nn.Module, other: nn.Module) -> None:
    prints = [dn.trace(part, (3, 8, 8)).fingerprint for part in (one, one, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_network_in_double_precision_has_a_fingerprint_of_all_its_digits() -> None:
    module = _module().double()
    first = dn.trace(module, (3, 8, 8)).fingerprint
    module[0].weight.data.mul_(1 + 1e-12)
    assert dn.trace(module, (3, 8, 8)).fingerprint != first


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"nearest: .*vgg16"):
        dn.load("vgg15", weights=None)


def test_a_model_of_one_s_own_is_loaded_from_its_file(tmp_path: "pytest.TempPathFactory") -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\nINPUT_SIZE = (3, 8, 8)\nLANDMARKS = {'conv1': '1'}\n\n\n"
        "def build():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())\n"
    )
    net = dn.load(f"{file}:build")
    assert (net.input_size, net.landmarks) == ((3, 8, 8), {"conv1": "1"})
    assert dn.project(net, torch.rand(1, 3, 8, 8), "conv1:1").pixels.shape == (3, 8, 8)


_BUILD = "from torch import nn\ndef build(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
FILES = {
    "size": ("INPUT_SIZE = (32, 40)", r"INPUT_SIZE = \(32, 40\), expected three whole numbers"),
    "a word": ("INPUT_SIZE = 'big'", "INPUT_SIZE = 'big', expected"),
    "landmarks": ("LANDMARKS = ['0']", "LANDMARKS = .*, expected a dictionary"),
    "preprocess": ("PREPROCESS = 5", r"PREPROCESS = 5, expected a dn\.Preprocess"),
    "classes": ("CLASSES = 5", "CLASSES = 5, expected a sequence of names"),
    "fails": ("def build(): raise KeyError('boom')", "could not be built: KeyError: 'boom'"),
    "argument": ("def build(depth): pass", "could not be built: TypeError: .*'depth'"),
    "a module": ("build = nn.ReLU()", "is a ReLU, expected a function or class that makes one"),
    "exit": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_of_one_s_own_says_wrongly_is_told(name: str, tmp_path: Path) -> None:
    line, told = FILES[name]
    (tmp_path / "net.py").write_text(f"{_BUILD}{line}\n")
    with pytest.raises(ModelError, match=told):
        dn.load(f"{tmp_path / 'net.py'}:build")


UNSEEN = {
    "densenet121": ["features.relu0", "features.denseblock2.denselayer3.relu1", "relu"],
    "mobilenet_v2": ["features.2.conv.0.2", "features.14.conv.0.2", "features.5.add"],
    "vgg11_bn": ["features.2", "features.14", "classifier.1"],
    "regnet_x_400mf": [f"trunk_output.block{at}.activation" for at in ("2.block2-0", "4.block4-3")],
    "inception_v3": ["Conv2d_4a_3x3.relu", "Mixed_5b.cat", "Mixed_6b.cat"],
    "mnasnet0_5": ["layers.8.0.layers.1", "layers.10.0.layers.4"],
}  # fmt: skip


@pytest.mark.parametrize("name", UNSEEN)
def test_networks_outside_the_zoo_agree_with_autograd(name: str) -> None:
    torch.manual_seed(0)
    arguments = (
        {"init_weights": False, "aux_logits": False, "transform_input": False}
        if name == "inception_v3" else {}
    )  # fmt: skip
    module = randomise(get_model(name, weights=None, **arguments))
    net = dn.trace(module, (3, 80, 80) if name == "inception_v3" else (3, 64, 64))
    assert_agrees(net, module, UNSEEN[name], corners=((0, 1),))


def test_the_table_prints_one_layer_a_line(net: dn.Network) -> None:
    assert len(repr(net.layers).splitlines()) == len(net.layers)
    assert "3×8×8" in repr(net) and isinstance(net.module(torch.zeros(1, 3, 8, 8)), Tensor)
