"""Where the checkout is, and how another process imports from it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTABLE = (ROOT, ROOT / "app")


def pythonpath() -> str:
    """A PYTHONPATH with the checkout's packages first."""
    own = [str(path) for path in IMPORTABLE]
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
