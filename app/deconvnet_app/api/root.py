"""The interface's front door and the two questions that watchdogs ask."""

from fastapi import APIRouter, Response

import deconvnet
from deconvnet_app import limits
from deconvnet_app.api.dependencies import State
from deconvnet_app.api.openapi import content
from deconvnet_app.api.schemas import Root
from deconvnet_app.db import counts
from deconvnet_app.errors import Refusal
from deconvnet_app.metrics import MEDIA_TYPE
from deconvnet_app.urls import API

health = APIRouter(tags=["health"])
router = APIRouter(tags=["root"])

COLLECTIONS = ("models", "methods", "datasets", "indexes", "jobs")  # images can only be posted


@health.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers, also while every thread waits for a database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz(state: State) -> dict[str, str]:
    """The database answers too, and jobs, computing and tidying up go on."""
    if found := state.troubles():
        told = "; ".join(f"{name}: {trouble}" for name, trouble in found.items())
        detail = f"A part of the server fails: {told}. The log says why."
        raise Refusal(503, "not_ready", detail, retry_after=5)
    with state.db.read() as session:
        counts.jobs_by_state(session)
    return {"status": "ok"}


@health.get("/metrics", response_class=Response, responses=content("text/plain"))
def metrics(state: State) -> Response:
    """Counters in Prometheus' format."""
    return Response(state.metrics.text(), media_type=MEDIA_TYPE)


@router.get("")
def root(state: State) -> Root:
    """The limits in force, the version, and where things are."""
    return Root(
        name="deconvnet",
        version=deconvnet.__version__,
        limits=dict(limits.in_force(state.settings)),
        links={
            "self": API.ROOT,
            "openapi": f"{API.ROOT}/openapi.json",
            **{name: API.collection(name) for name in COLLECTIONS},
        },
    )
