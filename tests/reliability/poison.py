"""Some pictures among many end the process that looks at them: they are set aside, no other is.

The pictures are computed by a network of a user's own whose file ends its process on a red corner
by a segmentation fault, on a green one by leaving, on a blue one by a signal, as broken native
code would. Exit code 1 if another item failed, or one of these did not, or for another reason.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import serving
from tests.reliability.workload import ask, finish, order, prepare, submit


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--fatal", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of which pictures are fatal")
    given = parser.parse_args()
    fatal = random.Random(given.seed).sample(range(given.pictures), given.fatal)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        settings = prepare(Path(name), given.pictures, tuple(fatal)) | {"workers": given.workers}
        with serving.server(Path(name, "data"), settings=settings) as served:
            job = submit(served, order())
            counts = finish(served, job)["counts"]
            lines = ask(served, "GET", f"/jobs/{job}/errors.jsonl")[1].splitlines()
            items = [json.loads(ask(served, "GET", f"/jobs/{job}/items/{n}")[1]) for n in fatal]
    errors = {line["n"]: line["error"] for line in map(json.loads, lines)}
    codes = sorted({error["code"] for error in errors.values()})
    said = next(iter(errors.values()), {}).get("detail")
    attempts = [item["attempt"] for item in items]
    print(
        f"{given.fatal} fatal pictures among {given.pictures}: {counts['succeeded']} succeeded, "
        f"{counts['failed']} failed after {attempts} attempts, in "
        f"{time.perf_counter() - started:.0f} s; errors.jsonl says {', '.join(codes)}: {said}"
    )
    right = set(errors) == set(fatal) and codes == ["quarantined"]
    return int(not right or counts["succeeded"] != given.pictures - given.fatal)


if __name__ == "__main__":
    sys.exit(main())
