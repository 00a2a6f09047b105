"""The backend that the settings ask for."""

from deconvnet_app.compute.backends.base import Backend
from deconvnet_app.compute.backends.inline import InlineBackend
from deconvnet_app.compute.backends.process import ProcessBackend
from deconvnet_app.compute.backends.ray.backend import RayBackend
from deconvnet_app.settings import Settings


def make_backend(settings: Settings) -> Backend:
    """The backend that the settings name."""
    if settings.backend == "inline":
        return InlineBackend(settings)
    if settings.backend == "ray":
        return RayBackend(settings)
    return ProcessBackend(settings)
