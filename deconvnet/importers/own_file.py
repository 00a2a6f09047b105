"""A user's own Python file, run like a script: what lies beside it can be imported.

Its imports stay apart: two files in two folders may each have a `utils` beside them, and neither
hides, nor is hidden by, a module of that name that this process has imported from elsewhere.
"""

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from deconvnet.errors import ModelError

# What everything else imports is never taken for something of a folder.
_KEPT = {*sys.stdlib_module_names, "PIL", "deconvnet", "numpy", "torch", "torchvision"}
_LOCK = threading.RLock()
_IMPORTED: dict[Path, dict[str, ModuleType]] = {}  # by folder, what its files have imported of it


def execute(path: Path, *, beside: bool = True) -> ModuleType:
    """The file as a module; run once for each content, so that a file that changed is run again.

    Args:
        beside: what lies in its folder can be imported.

    Raises:
        ModelError: it cannot be imported, and why.
    """
    return _executed(path, path.read_bytes(), beside)


@lru_cache(maxsize=64)
def _executed(path: Path, source: bytes, beside: bool) -> ModuleType:
    # A private name: a user's project nearly always has a package called "models".
    spec = importlib.util.spec_from_file_location(f"_deconvnet_model_{path.stem}", path)
    if spec is None:
        raise ModelError(f"'{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    if beside:
        _forget(path.parent)
    try:
        # Not by its loader: kept bytecode counts as fresh for the rest of the file's second.
        with importable(path.parent) if beside else nullcontext():
            exec(compile(source, path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"'{path}' cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """While this lasts, what lies in the folder is imported before all else."""
    folder = folder.resolve()
    with _LOCK:
        own = _IMPORTED.setdefault(folder, {})
        beside = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
        beside -= _KEPT
        others = {
            name: module for name, module in sys.modules.items()
            if name.partition(".")[0] in beside and not _is_of(module, folder)
        }  # fmt: skip
        for name in others:
            del sys.modules[name]
        before = set(sys.modules)
        sys.modules.update(own)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in set(sys.modules) - before:
                if _is_of(sys.modules[name], folder):
                    own[name] = sys.modules.pop(name)
            sys.modules.update(others)


def _forget(folder: Path) -> None:
    """Import anew what lies beside a file that is run anew."""
    with _LOCK:
        _IMPORTED.pop(folder.resolve(), None)


def _is_of(module: ModuleType | None, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", ()))
    return any(Path(place).resolve().is_relative_to(folder) for place in places)
