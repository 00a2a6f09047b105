"""deconvnet: see what each unit of a convolutional network looks for (Zeiler & Fergus 2013)."""

from deconvnet.address import Unit
from deconvnet.attribution import Deconvnet, Occlusion
from deconvnet.filters import FilterGrid, filters
from deconvnet.graph.network import Network
from deconvnet.graph.trace import trace
from deconvnet.index import ActivationIndex, Hit, open_index
from deconvnet.index_build import build_index
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
