"""What OpenAPI says of the operations besides what FastAPI finds in their signatures."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from deconvnet_app.api.openapi_examples import EXAMPLES, REFUSED
from deconvnet_app.catalog.models import model_names
from deconvnet_app.http.checks import OPEN, SAFE
from deconvnet_app.http.problems import Problem
from deconvnet_app.settings import Settings
from deconvnet_app.urls import API

Spec = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

MEDIA_TYPE = "application/problem+json"
TAKEN = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif")
REF = "#/components/schemas/{model}"
PATH_EXAMPLES = {
    "model": "zfnet64",
    "unit": "conv5:7",
    "dataset": "photos",
    "index": "photos",
    "image": f"img_{'0' * 32}",
    "job": f"job_{'0' * 32}",
    "n": 0,
    "name": "heatmap",
}


def header(text: str, example: str, *, always: bool = True) -> Spec:
    """A header of an answer; `always`: it is never left out."""
    schema = {"type": "string", "examples": [example]}
    return {"description": text, "schema": schema, "required": always}


ETAG = {"ETag": header("names this very content", '"5b1c…"')}
LOCATION = {"Location": header("where it is", f"/api/v1/jobs/{PATH_EXAMPLES['job']}")}
RETRY_AFTER = {
    "Retry-After": header("seconds after which to ask again, while it goes on", "1", always=False)
}
LINK = {
    "Link": header('the next page, rel="next"; not on the last', "</api/v1/jobs>", always=False)
}
WAITED = {
    "Preference-Applied": header("how long was waited, where it was asked", "wait=5", always=False)
}
PARTS = {"Accept-Ranges": header("parts may be asked for", "bytes")}
PART = {"Content-Range": header("which part of how much", "bytes 0-99/2048")}


def refusals(*statuses: int) -> Responses:
    """Problems that an operation may answer besides those that all may."""
    return {status: {"description": HTTPStatus(status).phrase} for status in statuses}


def told(headers: Spec, status: int = 200) -> Responses:
    """The headers of a success."""
    return {status: {"headers": headers}}


def content(media_type: str, headers: Spec | None = None, schema: Spec | None = None) -> Responses:
    """A success that is no JSON."""
    if schema is None:
        schema = {"type": "string"}
        if not media_type.startswith("text/"):
            schema["format"] = "binary"
    return {200: {"content": {media_type: {"schema": schema}}, "headers": headers or {}}}


def stored(media_type: str) -> Responses:
    """A stored file: whole, in part, or known to the client already."""
    whole = content(media_type, {**ETAG, **PARTS})[200]
    part = {**whole, "description": "The part that Range asks for", "headers": {**ETAG, **PART}}
    return {200: whole, 206: part, 304: unchanged()[304], **refusals(404, 416)}


def unchanged() -> Responses:
    """The client's ETag is still right."""
    return {304: {"description": "The client has this already", "headers": ETAG}}


def operation_id(route: APIRoute) -> str:
    """What generated clients call an operation: jobs_submit."""
    return "_".join([*map(str, route.tags[:1]), route.name])


def install(app: FastAPI, settings: Settings, datasets: list[str]) -> None:
    """Have the application give the whole description; it is made when first asked for."""

    def openapi() -> Spec:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, settings, datasets)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _describe(app: FastAPI, settings: Settings, datasets: list[str]) -> Spec:
    spec = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas: Spec = spec["components"]["schemas"]
    _, problems = models_json_schema([(Problem, "serialization")], ref_template=REF)
    schemas.update(problems["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
    _name_what_there_is(schemas, model_names(settings), datasets)
    if settings.auth:
        bearer = {"type": "http", "scheme": "bearer", "description": "the file `token`"}
        spec["components"]["securitySchemes"] = {"token": bearer}
        spec["security"] = [{"token": []}]
    for path, operations in spec["paths"].items():
        for verb, operation in operations.items():
            _complete(operation, verb.upper(), path, settings.auth and path not in OPEN)
    form = spec["paths"][API.collection("images")]["post"]["requestBody"]["content"]
    form["multipart/form-data"]["encoding"] = {"file": {"contentType": ", ".join(TAKEN)}}
    _link(spec["paths"])
    return spec


def _link(paths: Spec) -> None:
    """From what makes or lists a thing to what can be done with it."""
    for maker, verb, name, value in (
        ("/images", "post", "image", "$response.body#/id"),
        ("/jobs", "post", "job", "$response.body#/id"),
        ("/indexes", "get", "index", "$response.body#/items/0/id"),
        ("/datasets", "get", "dataset", "$response.body#/items/0/id"),
        ("/models", "get", "model", "$response.body#/items/0/name"),
    ):
        links = {}
        for path, operations in paths.items():
            asked = re.findall(r"{(\w+)}", path)
            if name not in asked:
                continue
            given = {one: value if one == name else PATH_EXAMPLES[one] for one in asked}
            for operation in operations.values():
                identity = operation["operationId"]
                links[identity] = {"operationId": identity, "parameters": given}
        for status, response in paths[f"{API.ROOT}{maker}"][verb]["responses"].items():
            if int(status) < 300:
                response["links"] = links


def _name_what_there_is(schemas: Spec, models: list[str], datasets: list[str]) -> None:
    """Which names a job may give, so that whoever reads the description alone can submit one."""
    for name, schema in schemas.items():
        if name.endswith("Job") and "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = models
            schema["examples"] = [_job_example(schema, datasets)]
    if datasets:
        schemas["DatasetInput"]["properties"]["dataset"]["enum"] = datasets


def _job_example(schema: Spec, datasets: list[str]) -> Spec:
    method = schema["properties"]["method"]["const"]
    inputs: Spec = {"dataset": (datasets or ["photos"])[0], "limit": 1}
    target = {"class": 2} if method == "occlusion" else {"unit": "conv5:7"}
    return {"model": "zfnet64", "method": method, "target": target, "inputs": inputs}


def _complete(operation: Spec, verb: str, path: str, asked: bool) -> None:
    """An operation's words, examples and problems."""
    text = operation.get("description", "")
    summary = re.split(r"(?<=[a-z0-9`)])[.;:]\s", f"{text} ", maxsplit=1)[0].strip().rstrip(".")
    operation["summary"] = summary
    if not asked:
        operation["security"] = []
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter["example"] = PATH_EXAMPLES[parameter["name"]]
    responses = operation["responses"]
    for status in _of_all(verb, asked, "requestBody" in operation):
        responses.setdefault(str(status), {})
    for status, response in responses.items():
        if int(status) >= 400:
            response.clear()
            response.update(_problem(int(status), path))
        elif response.get("description") in (None, "Successful Response"):
            response["description"] = summary
        response.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
    operation["responses"] = dict(sorted(responses.items()))


_REQUEST_ID = header("the request, as the log has it", "0b6f…")


def _of_all(verb: str, asked: bool, body: bool) -> list[int]:
    statuses = [400, 500, 503]
    statuses += [401] if asked else []
    statuses += [403] if verb not in SAFE else []
    return statuses + ([408, 413] if body else [])


def _problem(status: int, path: str) -> Spec:
    code, detail = REFUSED[status]
    example: Mapping[str, Any] = {
        "type": f"urn:deconvnet:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
        "request_id": "0b6f1a8c52d44d0e9a3c7f51e8b2d640",
        "errors": [{"pointer": "/params/size", "code": code, "detail": detail}]
        if status == 422
        else [],
    }
    schema = {"$ref": REF.format(model="Problem")}
    answer: Spec = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if status in (429, 503):
        answer["headers"] = dict(RETRY_AFTER)
    if status == 401:
        challenge = header("how to sign in", 'Bearer realm="deconvnet"')
        answer["headers"] = {"WWW-Authenticate": challenge}
    return answer
