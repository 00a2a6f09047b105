"""The pages: HTML that is complete without JavaScript, each with its JSON twin."""

from fastapi import APIRouter

from deconvnet_app.web import login, media
from deconvnet_app.web.error.view import error_page
from deconvnet_app.web.filters import routes as filters
from deconvnet_app.web.home import routes as home
from deconvnet_app.web.jobs import routes as jobs
from deconvnet_app.web.layer import routes as layer
from deconvnet_app.web.model import routes as model
from deconvnet_app.web.occlusion import routes as occlusion
from deconvnet_app.web.render import Assets
from deconvnet_app.web.rest import routes as rest
from deconvnet_app.web.unit import routes as unit

router = APIRouter()
for part in (login, home, model, layer, unit, filters, occlusion, jobs, rest, media):
    router.include_router(part.router)

__all__ = ["Assets", "error_page", "router"]
