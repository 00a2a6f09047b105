"""The REST interface under /api/v1."""

from fastapi import APIRouter

from deconvnet_app.api import catalog, images, jobs, root
from deconvnet_app.urls import API


def make_router(most_inputs: int) -> APIRouter:
    """All routes, with the methods that are registered now; a job takes so many inputs."""
    router = APIRouter()
    router.include_router(root.health)
    for part in (root.router, catalog.router, images.router, jobs.make_router(most_inputs)):
        router.include_router(part, prefix=API.ROOT)
    return router
