"""The pages: HTML that is complete without JavaScript, each with its JSON twin."""

from fastapi import APIRouter

from deconvnet_app.web import (
    filters,
    home,
    jobs,
    layers,
    login,
    media,
    models,
    occlusion,
    rest,
    units,
)
from deconvnet_app.web.errors import error_page
from deconvnet_app.web.render import Assets

router = APIRouter()
for part in (login, home, models, layers, units, filters, occlusion, jobs, rest, media):
    router.include_router(part.router)

__all__ = ["Assets", "error_page", "router"]
