"""deconvnet: see what each unit of a convolutional network looks for (Zeiler & Fergus 2013).

Public names are loaded when they are first used: importing the package loads neither torch nor
NumPy, so that `deconvnet.client` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deconvnet.address import Unit
    from deconvnet.analyses.filters import FilterGrid, filters
    from deconvnet.attribution import Deconvnet, Occlusion
    from deconvnet.data.preprocess import Preprocess
    from deconvnet.graph.network import Network
    from deconvnet.graph.trace import trace
    from deconvnet.index.build import build_index
    from deconvnet.index.reader import ActivationIndex, Hit, open_index
    from deconvnet.loading import load
    from deconvnet.occlusion_maps.occlude import OcclusionMap, occlusion
    from deconvnet.projection.project import Projection, project

__version__ = "0.1.0"

__all__ = [
    "ActivationIndex",
    "Deconvnet",
    "FilterGrid",
    "Hit",
    "Network",
    "Occlusion",
    "OcclusionMap",
    "Preprocess",
    "Projection",
    "Unit",
    "build_index",
    "filters",
    "load",
    "occlusion",
    "open_index",
    "project",
    "trace",
]

_MODULES = {
    "address": ("Unit",),
    "attribution": ("Deconvnet", "Occlusion"),
    "data.preprocess": ("Preprocess",),
    "analyses.filters": ("FilterGrid", "filters"),
    "graph.network": ("Network",),
    "graph.trace": ("trace",),
    "index.reader": ("ActivationIndex", "Hit", "open_index"),
    "index.build": ("build_index",),
    "loading": ("load",),
    "occlusion_maps.occlude": ("OcclusionMap", "occlusion"),
    "projection.project": ("Projection", "project"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'deconvnet' has no attribute '{name}'")
    value = getattr(import_module(f"deconvnet.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
