"""Jobs: all of them, the form for a new one with its curl and Python twins, and results."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from deconvnet import methods
from deconvnet.methods import Method
from deconvnet.naming import distinct
from deconvnet_app.errors import Refusal, invalid
from deconvnet_app.numbers import BEYOND, whole_number
from deconvnet_app.services import jobs, models, uploads
from deconvnet_app.services.job_views import ItemView, JobRequest, request_of
from deconvnet_app.services.units import spatial_layers
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.components import Fact, Link, Option, Picture
from deconvnet_app.web.formatting import TOKEN_IS, curl, number, stamp
from deconvnet_app.web.forms import make_fields, read_fields
from deconvnet_app.web.jobs.context import JobItem, JobPage, JobsPage
from deconvnet_app.web.jobs.rows import TONES, job_row
from deconvnet_app.web.render import add_page, html, state_of

router = APIRouter()

_PAGE = 25
_ITEMS = 48
_FIRST_LIMIT = 20


def _method(name: str) -> Method:
    if name not in methods.names():
        raise Refusal(404, "not_found", f"Method '{name[:80]}' is unknown.")
    return methods.get(name)


def _usual_target(state: AppState, method: Method) -> str:
    if "class" in method.explains:
        return ""
    for _, opened in models.indexed_models(state):
        layers = spatial_layers(opened.index)
        if layers:
            return f"{layers[-1]}:0"
    return "conv5:0"


def _target_help(method: Method) -> str:
    if "class" not in method.explains:
        return "A unit, such as conv5:7, or conv5:7@3,4 for one position."
    unit = " or a unit" if "unit" in method.explains else ""
    return f"A class by its number{unit}; empty: the predicted class of each image."


def _body(
    model: str, method: str, params: Mapping[str, Any], target: str, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "method": method, "params": dict(params)}
    if target:
        number = whole_number(target)
        body["target"] = {"unit": target} if number is None else {"class": number}
    return {**body, "inputs": dict(inputs)}


def _twins(body: Mapping[str, Any], request: Request) -> tuple[str, str]:
    """The same job for curl and for Python."""
    url = f"{str(request.base_url).rstrip('/')}{Urls.api('/jobs')}"
    settings = state_of(request).settings
    headers = '"Content-Type": "application/json"'
    if settings.auth:
        headers += ',\n                "Authorization": "Bearer " + os.environ["DECONVNET_TOKEN"]'
    text = json.dumps(body, indent=2, ensure_ascii=False)
    quoted = text.replace("'", "'\\''")
    call = f"{url} \\\n  -H 'Content-Type: application/json' \\\n  -d '{quoted}'"
    spelled = text.replace(": true", ": True").replace(": false", ": False")
    spelled = spelled.replace(": null", ": None")
    python = (
        f"{TOKEN_IS if settings.auth else ''}import json\nimport os\n"
        f"from urllib.request import Request, urlopen\n\njob = {spelled}\n"
        f'post = Request("{url}", json.dumps(job).encode(),\n'
        f"               {{{headers}}})\n"
        'print(json.load(urlopen(post))["id"])'
    )
    return curl(settings, call), python


def _page(
    request: Request, name: str, before: int | None, given: Mapping[str, str], problem: str
) -> JobsPage:
    state = state_of(request)
    method = _method(name)
    rows, older = jobs.listing(state, None, before, _PAGE)
    schema = method.Params.model_json_schema()
    params = read_fields(schema, given) if given else {}
    names = models.all_names(state)
    datasets = state.datasets.ids()
    model = given.get("model", names[0])
    target = given.get("target", _usual_target(state, method))
    fields = make_fields(schema, params)
    shown = {"params": read_fields(schema, {field.name: field.value for field in fields})}
    inputs = {"dataset": (datasets or ["ID"])[0], "glob": "**", "limit": _FIRST_LIMIT}
    body = _body(model, name, shown["params"], target, inputs)
    in_shell, in_python = _twins(body, request)
    url = Urls.jobs(method=name if name != methods.names()[0] else None, before=before)
    return JobsPage(
        title="Jobs",
        url=url,
        twin=twin(url),
        section="jobs",
        jobs=[job_row(job) for job in rows],
        method=name,
        methods=[
            Link(
                label=one.title,
                url=f"{Urls.jobs(method=one.name)}#new-title",
                current=one.name == name,
                title=one.source,
            )
            for one in methods.all_methods()
        ],
        models=[Option(value=one, label=one, selected=one == model) for one in names],
        sources=[
            *(
                Option(value=one, label=one, selected=one == given.get("dataset"))
                for one in datasets
            ),
            Option(value="", label="only the uploaded ones", selected=not datasets),
        ],
        fields=fields,
        target=target,
        target_help=_target_help(method),
        curl=in_shell,
        python=in_python,
        problem=problem,
        next_page=Urls.jobs(method=name, before=older) if older is not None else "",
    )


@add_page(router, Urls.JOBS, "jobs.html")
def listing(
    request: Request,
    method: str | None = None,
    before: Annotated[int | None, Query(ge=0, lt=BEYOND)] = None,
) -> JobsPage:
    """Every job, newest first, and the form."""
    return _page(request, method or methods.names()[0], before, {}, "")


def _request(given: Mapping[str, str], images: list[dict[str, str]]) -> JobRequest:
    method = _method(given.get("method", ""))
    params = read_fields(
        method.Params.model_json_schema(),
        {key.removeprefix("params."): value for key, value in given.items()},
    )
    inputs: dict[str, Any] = {"images": images}
    if not images:
        limit = given.get("limit", "").strip()
        number = whole_number(limit)
        inputs = {
            "dataset": given.get("dataset", ""),
            "glob": given.get("glob") or "**",
            "limit": (limit or None) if number is None else number,
        }
        if not inputs["dataset"]:
            raise Refusal(422, "no_images", "No images: choose a dataset or upload some pictures.")
    body = _body(
        given.get("model", ""), method.name, params, given.get("target", "").strip(), inputs
    )
    try:
        return request_of(method).model_validate(body)
    except ValidationError as error:
        raise invalid(error) from error


async def _uploads(state: AppState, form: FormData) -> list[dict[str, str]]:
    kept = []
    for file in form.getlist("files"):
        if isinstance(file, UploadFile) and file.filename:
            data = await file.read(state.settings.file_bytes + 1)
            image = await asyncio.to_thread(uploads.store_image, state, data, file.filename)
            kept.append(image)
    names = distinct(image.name for image in kept)
    return [{"id": image.id, "custom_id": name} for image, name in zip(kept, names, strict=True)]


@router.post(Urls.JOBS, include_in_schema=False)
async def submit(request: Request) -> Response:
    """Take the form as a job and go to its page."""
    state = state_of(request)
    given: dict[str, str] = {}
    try:
        async with request.form(max_files=500, max_fields=100) as form:
            given = {key: value for key, value in form.items() if isinstance(value, str)}
            images = await _uploads(state, form)
        job = await jobs.submit(state, _request(given, images))
    except Refusal as refusal:
        known = given.get("method", "")
        name = known if known in methods.names() else methods.names()[0]
        plain = {key.removeprefix("params."): value for key, value in given.items()}
        page = await asyncio.to_thread(_page, request, name, None, plain, refusal.detail)
        return html("jobs.html", page, refusal.status)
    return RedirectResponse(Urls.job(job.id), 303)


def _item(job: str, one: ItemView) -> JobItem:
    name = one.custom_id or one.path or one.image or ""
    main = "heatmap" if "heatmap" in one.pictures else next(iter(one.pictures), "")
    picture = None
    if main:
        picture = Picture(
            src=Urls.artifact(f"{one.pictures[main]}.png"),
            width=160,
            height=160,
            alt=f"{main} of {name}",
            provenance=one.provenance or "",
        )
    error = (one.error or {}).get("detail", "")
    return JobItem(
        number=one.n,
        name=name,
        state=one.state,
        tone=TONES[one.state],
        detail=error,
        picture=picture,
        downloads=[
            *(
                Link(label=f"{key}.npy", url=Urls.artifact(f"{value}.npy"))
                for key, value in list(one.arrays.items())[:1]
            ),
            Link(label="all", url=Urls.api(f"/jobs/{job}/items/{one.n}"), title="as JSON"),
        ],
    )


@add_page(router, Urls.JOB, "job.html")
def job(request: Request, job: str, after: Annotated[int, Query(ge=-1, lt=BEYOND)] = -1) -> JobPage:
    """One job: its progress, its items, its results."""
    state = state_of(request)
    found = jobs.get(state, job)
    items, last = jobs.items(state, job, None, after, _ITEMS)
    row = job_row(found)
    url = Urls.job(job, after=after if after >= 0 else None)
    partial = None if found.terminal else "true"
    counts = found.counts
    return JobPage(
        title=f"Job {row.short}",
        url=url,
        twin=twin(url),
        section="jobs",
        crumbs=[
            Link(label="Jobs", url=Urls.jobs()),
            Link(label=row.short, url=url, current=True),
        ],
        row=row,
        facts=[
            Fact(name="Job", value=job),
            Fact(name="Succeeded", value=str(counts.succeeded)),
            Fact(name="Failed", value=str(counts.failed)),
            Fact(name="Skipped", value=str(counts.skipped)),
            Fact(name="Rate", value=f"{number(found.rate)} items/s" if found.rate else "–"),
            Fact(name="Created", value=stamp(found.created_at)),
            Fact(name="Started", value=stamp(found.started_at)),
            Fact(name="Finished", value=stamp(found.finished_at)),
            *(
                Fact(name=f"Fingerprint of {key}", value=str(value)[:16])
                for key, value in found.fingerprints.items()
            ),
        ],
        items=[_item(job, one) for one in items],
        downloads=[
            Link(label=name, url=Urls.api(f"/jobs/{job}/{name}", partial=partial))
            for name in ("results.jsonl", "errors.jsonl", "results.zip")
        ],
        cancel="" if found.terminal else Urls.cancel(job),
        problem=str((found.error or {}).get("detail", "")),
        request=json.dumps(found.request, indent=2, ensure_ascii=False),
        page_previous=Urls.job(job, after=max(-1, after - _ITEMS)) if after >= 0 else "",
        page_following=Urls.job(job, after=last) if last is not None else "",
    )


@router.post(Urls.CANCEL, include_in_schema=False)
def cancel(request: Request, job: str) -> RedirectResponse:
    """Start no further item; what is done stays."""
    jobs.cancel(state_of(request), job)
    return RedirectResponse(Urls.job(job), 303)
