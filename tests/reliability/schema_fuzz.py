"""schemathesis with all its checks, stateful too, against a server's own OpenAPI description.

Exit code 1 if an answer is not as described, or is a fault of the server's. Some operations may
also refuse what the description allows (422, 415), since no description can say it: which pictures
are whole, whether a job's network, images and unit are there, and of which listing a cursor is.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.reliability import serving

LARGE = 10**6
CONFIG = """
[[operations]]
include-name = [
    "POST /api/v1/jobs", "POST /api/v1/images", "GET /api/v1/jobs", "GET /api/v1/jobs/{job}/items",
    "GET /api/v1/models", "GET /api/v1/models/{model}/layers", "GET /api/v1/indexes",
    "GET /api/v1/datasets", "GET /api/v1/datasets/{dataset}/images",
]
checks.positive_data_acceptance.expected-statuses = [
    "2xx", "3xx", "401", "403", "404", "409", "413", "415", "422", "429", "5xx",
]
"""


def prepare(root: Path) -> list[str]:
    """A dataset and an index of it; the arguments that serve them."""
    import deconvnet as dn

    (root / "photos").mkdir()
    for grey in (60, 160):
        Image.radial_gradient("L").point(lambda v, g=grey: v // 2 + g // 2).convert("RGB").save(
            root / "photos" / f"{grey}.png"
        )
    net = dn.load("zfnet64", device="cpu")
    index = root / "index" / "photos"
    dn.build_index(net, root / "photos", index, k=2, layers=["conv5"], progress=False)
    return ["--dataset", str(root / "photos"), "--index", str(index)]


def main() -> int:
    """Print what schemathesis found; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="of each operation")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    limits: dict[str, object] = dict.fromkeys(("submissions", "uploads", "queued_jobs"), LARGE)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "schemathesis.toml"
        config.write_text(CONFIG)
        with serving.server(root / "data", *prepare(root), settings=limits) as served:
            command = [
                str(Path(sys.executable).with_name("schemathesis")),
                *("--config-file", str(config), "--no-color", "run"),
                f"http://127.0.0.1:{served.port}/api/v1/openapi.json",
                *("--header", f"Authorization: Bearer {served.token}"),
                *("--checks", "all", "--phases", given.phases, "--seed", str(given.seed)),
                *("--max-examples", str(given.examples), "--continue-on-failure"),
            ]
            hooks = str(Path(__file__).with_name("schema_hooks.py"))
            environment = os.environ | {"SCHEMATHESIS_HOOKS": hooks}
            found = subprocess.run(command, env=environment, check=False, cwd=root)
            alive = served.process.poll() is None
        faults = [line for line in served.log if '"level": "error"' in line]
    print(f"schemathesis: exit code {found.returncode}; errors in the log: {len(faults)}")
    print(*faults[:5], sep="\n")
    return int(found.returncode != 0 or not alive or bool(faults))


if __name__ == "__main__":
    sys.exit(main())
