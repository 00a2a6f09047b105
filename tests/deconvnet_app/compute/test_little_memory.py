"""A unit for which there is no memory is its item's error, and the worker computes the next."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import pythonpath

CHILD = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from deconvnet_app.compute.run import run_unit
from deconvnet_app.compute.spec import UnitSpec
from deconvnet_app.compute.resources import local_resources
from deconvnet_app.settings import Settings

folder = Path(sys.argv[1])
(folder / "net.py").write_text('''
from torch import nn
INPUT_SIZE = (3, 512, 512)
LANDMARKS = {"conv1": "1", "conv2": "3"}
def build():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 5),
    )
''')
models = {"net": f"{folder}/net.py:build"}
resources = local_resources(Settings(data_dir=folder / "data", models=models, device="cpu"))
buffer = io.BytesIO()
Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
image = resources.artifacts.put(buffer.getvalue())

def ending(method, **more):
    spec = UnitSpec(kind="explain", model="net", method=method, image=image, **more)
    found = run_unit(spec, resources)
    print(method, getattr(found, "code", "done"), getattr(found, "status", 200), flush=True)

deconv = {"target": {"unit": "conv2:1"}}
ending("deconv", **deconv)
pages = int(Path("/proc/self/statm").read_text().split()[0])
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 16 * 2**20, before[1]))
ending("occlusion", params={"size": 256, "stride": 128}, target={"class": 2})
ending("deconv", **deconv)
resource.setrlimit(resource.RLIMIT_AS, before)
ending("deconv", **deconv)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of an address space is Linux's")
def test_a_unit_without_memory_is_an_error_and_the_next_is_computed(
    root: Path, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path], cwd=root, capture_output=True, text=True,
        check=False, timeout=120, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": pythonpath()},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    first, *starved, last = ended.stdout.splitlines()
    assert (first, last) == ("deconv done 200", "deconv done 200")
    assert starved == ["occlusion out_of_memory 503", "deconv out_of_memory 503"]
