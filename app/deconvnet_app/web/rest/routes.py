"""The REST interface on one page, made from its OpenAPI description."""

from fastapi import APIRouter, Request

from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.formatting import curl
from deconvnet_app.web.render import add_page, state_of
from deconvnet_app.web.rest.context import Call, CallGroup, RestPage

router = APIRouter()

_VERBS = ("get", "post", "put", "patch", "delete")


@add_page(router, Urls.REST, "rest.html")
def rest(request: Request) -> RestPage:
    """Every call with what it does, by subject."""
    spec = request.app.openapi()
    groups: dict[str, list[Call]] = {}
    for path, calls in spec["paths"].items():
        for verb in _VERBS:
            if verb not in calls:
                continue
            call = calls[verb]
            groups.setdefault((call.get("tags") or ["general"])[0], []).append(
                Call(
                    method=verb.upper(),
                    path=path,
                    summary=(call.get("description") or call.get("summary", "")).replace("`", ""),
                    parameters=[one["name"] for one in call.get("parameters", ())],
                    url=path if verb == "get" and "{" not in path else "",
                )
            )
    return RestPage(
        title="REST API",
        url=Urls.REST,
        twin=twin(Urls.REST),
        section="api",
        groups=[CallGroup(name=name, calls=calls) for name, calls in groups.items()],
        openapi=request.app.openapi_url or "",
        example=curl(
            state_of(request).settings,
            f"{str(request.base_url).rstrip('/')}{Urls.api('/models')}",
        ),
    )
