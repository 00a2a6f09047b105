"""C libraries that are compiled here and loaded before all others (LD_PRELOAD)."""

import shutil
import subprocess
from pathlib import Path


def compiled(folder: Path, name: str) -> Path | None:
    """The library made of the C file of that name beside this one; None: there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library
