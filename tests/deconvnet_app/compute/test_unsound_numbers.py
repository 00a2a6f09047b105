"""Weights that are not finite, or too large to compute with: an error of the unit, never a picture.

A weights file with NaN is refused when it is read (`tests/models`); a network of one's own may make
such weights itself.
"""

import itertools
from pathlib import Path

import pytest

from deconvnet_app.compute.resources import Resources, local_resources
from deconvnet_app.compute.run import run_unit
from deconvnet_app.compute.spec import UnitError, UnitResult, UnitSpec
from deconvnet_app.settings import Settings
from tests.support.server import TINY, png

PARAMS = {"occlusion": {"size": 4, "stride": 2}}


def unsound(folder: Path, layer: str, value: str) -> Resources:
    """A resources with a network one of whose weights has that value."""
    spoil = f"    net.{layer}.weight.data.view(-1)[5] = float('{value}')\n"
    build = f"    torch.manual_seed(0)\n    net = Tiny()\n{spoil}    return net\n"
    (folder / "net.py").write_text(TINY.replace("    return Tiny()\n", build))
    models = {"net": f"{folder}/net.py:build"}
    return local_resources(Settings(data_dir=folder / "data", models=models, device="cpu"))


def explained(resources: Resources, method: str, target: str) -> object:
    spec = UnitSpec(
        kind="explain", model="net", method=method, image=resources.artifacts.put(png()),
        target={"unit": target}, params=PARAMS.get(method, {}),
    )  # fmt: skip
    return run_unit(spec, resources)


ASKED = [
    *itertools.product(["deconv", "guided", "gradient"], ["conv1:0", "conv2:0", "conv2:0@2,2"]),
    *itertools.product(["occlusion"], ["conv1:0", "conv2:0"]),  # it takes no position
]


@pytest.mark.parametrize(("method", "target"), ASKED)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "3e38"])
def test_no_method_draws_a_picture(tmp_path: Path, method: str, target: str, value: str) -> None:
    resources = unsound(tmp_path, "conv1", value)
    found = explained(resources, method, target)
    resources.close()
    assert isinstance(found, UnitError), found
    assert found.code in ("input_error", "projection_error")
    assert "NaN or infinity" in found.detail


def test_a_unit_that_such_weights_do_not_reach_is_explained(tmp_path: Path) -> None:
    resources = unsound(tmp_path, "fc", "nan")
    assert isinstance(explained(resources, "deconv", "conv2:0"), UnitResult)
    resources.close()


def test_kernels_that_are_not_finite_are_not_drawn(tmp_path: Path) -> None:
    resources = unsound(tmp_path, "conv1", "nan")
    spec = UnitSpec(kind="filters", model="net", layer="conv1")
    found = run_unit(spec, resources)
    resources.close()
    assert isinstance(found, UnitError)
    assert (found.code, found.fatal) == ("weights_error", True)


def test_a_network_whose_file_has_changed_is_built_anew(tmp_path: Path) -> None:
    resources = unsound(tmp_path, "conv1", "nan")
    assert isinstance(explained(resources, "deconv", "conv2:0"), UnitError)
    unsound(tmp_path, "conv1", "0.1").close()
    assert isinstance(explained(resources, "deconv", "conv2:0"), UnitResult)
    resources.close()
