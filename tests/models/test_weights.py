"""Weights: local files load exactly, a misfit is named, a pickle's code never runs."""

import json
import pickle
import urllib.error
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deconvnet import zoo
from deconvnet.errors import WeightsError

NAME = "squeezenet1_1"  # the smallest


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    loaded = zoo.materialise(zoo.find(NAME), None, seed=7)
    return dict(loaded.module.state_dict())


def load(path: Path) -> dict[str, Tensor]:
    return dict(zoo.materialise(zoo.find(NAME), path).module.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_loads_exactly(state, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded = load(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_random_weights_are_drawn_from_a_seed():
    spec = zoo.find(NAME)
    first, same, other = (
        zoo.materialise(spec, None, seed=seed).module.state_dict()["features.0.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_drawing_random_weights_leaves_the_callers_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    zoo.materialise(zoo.find(NAME), None)
    assert torch.equal(torch.rand(2), expected)


def test_classes_kept_with_the_weights_size_the_last_layer(tmp_path):
    spec = zoo.find("zfnet64")
    path = tmp_path / "three.safetensors"
    metadata = {"classes": json.dumps(["cat", "dog", "owl"])}
    save_file(spec.build(classes=3).state_dict(), path, metadata=metadata)
    loaded = zoo.materialise(spec, path)
    assert loaded.classes == ("cat", "dog", "owl")
    assert loaded.module.get_submodule("fc8").out_features == 3


def test_a_wrong_shape_is_named_with_what_was_expected(state, tmp_path):
    path = tmp_path / "wrong.safetensors"
    save_file({**state, "features.0.weight": torch.zeros(64, 3, 5, 5)}, path)
    with pytest.raises(
        WeightsError, match=r"'features.0.weight' as \[64, 3, 5, 5\], expected \[64, 3, 3, 3\]"
    ):
        load(path)


def test_a_missing_tensor_is_named(state, tmp_path):
    path = tmp_path / "less.safetensors"
    save_file({n: t for n, t in state.items() if n != "classifier.1.bias"}, path)
    with pytest.raises(WeightsError, match=r"lack 'classifier.1.bias' \[1000\]"):
        load(path)


def test_a_superfluous_tensor_is_named(state, tmp_path):
    path = tmp_path / "more.safetensors"
    save_file({**state, "classifier.9.weight": torch.zeros(1)}, path)
    with pytest.raises(
        WeightsError, match=r"'classifier.9.weight', which the architecture has not"
    ):
        load(path)


def test_weights_that_are_not_finite_are_refused(state, tmp_path):
    path = tmp_path / "nan.safetensors"
    broken = state["features.0.bias"].clone()
    broken[3] = float("nan")
    save_file({**state, "features.0.bias": broken}, path)
    with pytest.raises(WeightsError, match=r"NaN or infinity in 'features.0.bias'"):
        load(path)


class Bomb:
    """Pickles into a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "code ran"))


def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "bomb.pth"
    torch.save({"weight": Bomb(ran)}, path)
    with pytest.raises(WeightsError, match="cannot be read as tensors alone"):
        load(path)
    path.write_bytes(pickle.dumps(Bomb(ran), protocol=2))
    with pytest.raises(WeightsError, match="cannot be read as tensors alone"):
        load(path)
    assert not ran.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(state, tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be read"):
        load(path)


def test_a_hostile_header_is_refused(tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere.safetensors' do not exist"):
        load(tmp_path / "nowhere.safetensors")


def test_without_a_network_the_error_says_how_to_give_a_local_file():
    def unreachable(which: str) -> dict[str, Tensor]:
        raise urllib.error.URLError("Name or service not known")

    spec = replace(zoo.find("vgg16"), fetch=unreachable)
    with pytest.raises(
        WeightsError, match=r"could not be downloaded: .*give a local file"
    ) as error:
        zoo.materialise(spec, "DEFAULT")
    assert "vgg16" in str(error.value)


def test_weights_of_an_unknown_name_are_answered_with_the_model():
    with pytest.raises(WeightsError, match=r"'vgg16' has no weights called 'IMAGENET9K'"):
        zoo.materialise(zoo.find("vgg16"), "IMAGENET9K")


def test_which_networks_have_weights_to_download_is_told_without_running_their_files():
    found = {name for name in zoo.names() if zoo.downloadable(name)}
    assert found == {name for name in zoo.names() if zoo.find(name).fetch is not None}


def test_a_network_without_shipped_or_downloadable_weights_says_so():
    with pytest.raises(WeightsError, match=r"'zfnet' has no weights to download; give weights="):
        zoo.materialise(zoo.find("zfnet"), "DEFAULT")
