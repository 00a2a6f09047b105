"""The zoo: each network as published, with its landmarks, and nothing but the allowed imports."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import deconvnet as dn
from deconvnet import zoo
from deconvnet.errors import ModelError

NAMES = [
    "alexnet",
    "alexnet2012",
    "googlenet",
    "resnet18",
    "resnet50",
    "squeezenet1_1",
    "vgg16",
    "vgg19",
    "zfnet",
    "zfnet64",
]
PARAMETERS = {
    "alexnet": 61_100_840,
    "alexnet2012": 60_965_224,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "squeezenet1_1": 1_235_496,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "zfnet": 62_357_608,
}
SIDES = {  # of the maps conv1 … conv5
    "alexnet": [55, 27, 13, 13, 13],
    "alexnet2012": [55, 27, 13, 13, 13],
    "googlenet": [112, 56, 28, 14, 7],
    "resnet18": [112, 56, 28, 14, 7],
    "resnet50": [112, 56, 28, 14, 7],
    "squeezenet1_1": [111, 55, 27, 13, 13],
    "vgg16": [224, 112, 56, 28, 14],
    "vgg19": [224, 112, 56, 28, 14],
    "zfnet": [110, 26, 13, 13, 13],
    "zfnet64": [32, 16, 8, 8, 8],
}
FIELDS = {  # receptive field and jump of conv1 … conv5, in pixels
    "alexnet": ([11, 51, 99, 131, 163], [4, 8, 16, 16, 16]),
    "alexnet2012": ([11, 51, 99, 131, 163], [4, 8, 16, 16, 16]),
    "vgg16": ([5, 14, 40, 92, 196], [1, 2, 4, 8, 16]),
    "zfnet": ([7, 27, 75, 107, 139], [2, 8, 16, 16, 16]),
    "zfnet64": ([7, 27, 51, 67, 83], [2, 4, 8, 8, 8]),
}
CONCATENATED = {
    ("googlenet", "conv3"),
    ("googlenet", "conv4"),
    ("googlenet", "conv5"),
    ("squeezenet1_1", "conv2"),
    ("squeezenet1_1", "conv3"),
    ("squeezenet1_1", "conv4"),
    ("squeezenet1_1", "conv5"),
}


def build(name: str) -> nn.Module:
    """A zoo network without the cost of drawing its weights."""
    with torch.device("meta"):
        return zoo.find(name).build()


def test_the_zoo_holds_the_ten_networks():
    assert zoo.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_network_says_where_it_is_from(name):
    spec = zoo.find(name)
    assert spec.name == name
    assert spec.title
    assert spec.source
    assert spec.licence
    assert spec.classes is None or len(spec.classes) == 1000


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_the_number_of_parameters_is_the_published_one(name, count):
    assert sum(p.numel() for p in build(name).parameters()) == count


def test_zfnet_has_62_36_million_parameters_at_1000_classes():
    millions = sum(p.numel() for p in build("zfnet").parameters()) / 1e6
    assert round(millions, 2) == 62.36


def test_zfnet_has_the_papers_shapes():
    sides: list[int] = []
    module = build("zfnet").eval()
    for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"):
        module.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output: sides.append(output.shape[-1])
        )
    with torch.device("meta"):
        assert module(torch.empty(1, 3, 224, 224)).shape == (1, 1000)
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]


def test_zfnet_normalises_after_the_pool_and_alexnet2012_before():
    def order(name: str) -> list[str]:
        nodes = [node.name for node in dn.load(name, weights=None, device="cpu").nodes]
        return [node for node in nodes if node in ("relu1", "pool1", "norm1")]

    assert order("zfnet") == ["relu1", "pool1", "norm1"]
    assert order("alexnet2012") == ["relu1", "norm1", "pool1"]


def test_alexnet2012_sees_half_of_the_channels_in_layers_2_4_and_5():
    groups = [m.groups for m in build("alexnet2012").modules() if isinstance(m, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]


def test_contrast_normalisation_has_the_papers_constants():
    norm = build("zfnet").get_submodule("norm1")
    assert isinstance(norm, nn.LocalResponseNorm)
    # torch divides alpha by the size, the paper does not.
    assert (norm.k, norm.size, norm.alpha / norm.size, norm.beta) == (2.0, 5, 1e-4, 0.75)


@pytest.mark.parametrize("name", NAMES)
def test_landmarks_are_the_rectified_outputs_of_five_stages(name):
    net = dn.load(name, weights=None, device="cpu")
    stages = [net.layer(f"conv{number}") for number in range(1, 6)]
    for stage in stages:
        expected = "concatenation" if (name, stage.name) in CONCATENATED else "ReLU"
        assert stage.kind == expected, stage
        assert stage.landmark
    assert [stage.shape[-1] for stage in stages] == SIDES[name]
    for fully in ("fc6", "fc7"):
        if fully in net.landmarks:
            assert net.layer(fully).kind == "ReLU"
    if name in FIELDS:
        fields, jumps = FIELDS[name]
        assert [stage.receptive_field for stage in stages] == fields
        assert [stage.jump for stage in stages] == jumps


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_zoo_imports_torch_torchvision_and_the_zoo_alone(name):
    tree = ast.parse((zoo.models_dir() / f"{name}.py").read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
    assert {m for m in imported if m.split(".")[0] not in ("torch", "torchvision")} == {
        "deconvnet.zoo"
    }


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ModelError, match=r"'vgg61' is not in the zoo; nearest: vgg1[69]"):
        zoo.find("vgg61")


def test_a_users_file_is_found_by_path_and_function(tmp_path: Path):
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "INPUT_SIZE = (3, 32, 32)\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(),\n"
        "        nn.Flatten(), nn.Linear(3600, 2))\n"
    )
    net = dn.load(f"{file}:build", device="cpu")
    assert net.input_size == (3, 32, 32)
    assert next(iter(net.layers)) == "conv1"


def test_a_users_file_that_fails_is_named_with_its_error(tmp_path: Path):
    file = tmp_path / "net.py"
    file.write_text("raise ValueError('no such thing')\n")
    with pytest.raises(ModelError, match=r"ValueError: no such thing"):
        zoo.find(f"{file}:build")


def test_googlenet_sees_what_its_weights_were_trained_on() -> None:
    from torchvision.models import googlenet

    pixels = torch.rand(1, 3, 8, 8)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    module = googlenet(weights=None, init_weights=False, transform_input=True)
    theirs = module._transform_input((pixels - mean) / std)
    prepared = zoo.find("googlenet").preprocess
    own_mean, own_std = (torch.tensor(v).view(3, 1, 1) for v in (prepared.mean, prepared.std))
    assert torch.allclose((pixels - own_mean) / own_std, theirs, atol=1e-5)
