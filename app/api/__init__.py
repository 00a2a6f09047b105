"""The REST interface under /api/v1."""

from fastapi import APIRouter

from app.api import catalog, images, jobs, root
from app.api.links import API
from app.api.models import Problem

PROBLEM = {
    "description": "A problem (RFC 9457)",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
}


def make_router() -> APIRouter:
    """All routes, with the methods that are registered now."""
    router = APIRouter()
    router.include_router(root.health)
    for part in (root.router, catalog.router, images.router, jobs.make_router()):
        router.include_router(part, prefix=API.ROOT, responses={"4XX": PROBLEM, "5XX": PROBLEM})
    return router
