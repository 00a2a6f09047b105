"""Batch jobs: submit, look at, cancel, and fetch what came of them."""

import asyncio
import hashlib
import inspect
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import reduce, wraps
from itertools import chain, islice
from operator import or_
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BeforeValidator, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from deconvnet import methods
from deconvnet_app.api.dependencies import Page, State
from deconvnet_app.api.openapi import (
    ETAG,
    LINK,
    LOCATION,
    RETRY_AFTER,
    WAITED,
    content,
    refusals,
    stored,
    told,
    unchanged,
)
from deconvnet_app.api.schemas import Paged
from deconvnet_app.api.strict_json import StrictRoute
from deconvnet_app.errors import Refusal
from deconvnet_app.http.files import Asked, IfNoneMatch, matches, picture
from deconvnet_app.limits import KEEP_ALIVE_S, KEY_CHARS, WAIT_S
from deconvnet_app.numbers import whole_number
from deconvnet_app.services import job_archive, job_events, jobs
from deconvnet_app.services.job_views import (
    ItemState,
    ItemView,
    JobRequest,
    JobState,
    JobView,
    inputs_of_at_most,
    request_of,
)
from deconvnet_app.urls import API

Partial = Annotated[bool, Query(description="what there is so far, though the job goes on")]


def _item_number(text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise Refusal(404, "not_found", f"No item has the number '{text[:80]}'.")
    return number


ItemNumber = Annotated[int, BeforeValidator(_item_number), Path(description="from 0", ge=0)]

SLOW_CLIENT_S = 5
AGAIN = {"Retry-After": "1"}

_WAIT = re.compile(r'\s*wait\s*=\s*"?([0-9]+)"?\s*(?:;.*)?', re.ASCII | re.IGNORECASE)


def body_type(most_inputs: int) -> Any:
    """The union of the registered methods' requests, told apart by `method`."""
    inputs = inputs_of_at_most(most_inputs)
    bodies = [request_of(method, inputs) for method in methods.all_methods()]
    union = reduce(or_, bodies)
    return Annotated[union, Field(discriminator="method")] if len(bodies) > 1 else union


def _hash(said: Any) -> str:
    """Of what JSON says, whatever its spaces, escapes, and the order of its names."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _etag(job: JobView) -> str:
    return f'"{job.id}-{job.version}"'


def _present(job: JobView, response: Response) -> None:
    response.headers["ETag"] = _etag(job)
    if not job.terminal:
        response.headers.update(AGAIN)


def make_router(most_inputs: int) -> APIRouter:
    """The routes, with the methods that are registered now; a job takes so many inputs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StrictRoute)
    for verb, path, function, given in (
        ("POST", "", _submit_route(most_inputs), {"status_code": 202, "responses": SUBMITTED}),
        ("GET", "", listing, {"responses": told(LINK)}),
        ("GET", "/{job}", read, {"responses": SHOWN | unchanged(), "response_model": JobView}),
        ("DELETE", "/{job}", delete, DELETED),
        ("GET", "/{job}/items", items, {"responses": told(LINK) | refusals(404)}),
        ("GET", "/{job}/items/{n}", item, {"responses": refusals(404)}),
        ("GET", "/{job}/items/{n}/{name}.png", png, _file("image/png", stored)),
        ("GET", "/{job}/items/{n}/{name}.npy", npy, _file("application/x-npy", stored)),
        ("GET", "/{job}/results.jsonl", results, _file("application/jsonl")),
        ("GET", "/{job}/errors.jsonl", errors, _file("application/jsonl")),
        ("GET", "/{job}/results.zip", results_zip, _file("application/zip")),
        ("GET", "/{job}/events", events, STREAMED),
        ("POST", "/{job}/cancel", cancel, {"status_code": 202, "responses": CHANGED}),
        ("POST", "/{job}/retry-failed", retry_failed, {"status_code": 202, "responses": CHANGED}),
    ):
        router.add_api_route(path, function, methods=[verb], **given)
    return router


_STANDS = {**ETAG, **RETRY_AFTER}
_DONE = {"model": JobView, "description": "It is at its end already", "headers": ETAG}
_MADE = {**_STANDS, **LOCATION, **WAITED}
DELETED = {"status_code": 204, "response_class": Response, "responses": refusals(404, 409)}
SHOWN = told(_STANDS) | refusals(404)
CHANGED = told(_STANDS, 202) | {200: _DONE} | refusals(404, 409, 429)
SUBMITTED = told(_MADE, 202) | {200: {**_DONE, "headers": _MADE}} | refusals(409, 429, 507)
TOLD = {
    "type": "object",
    "description": "An event of the stream; its data is JSON",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string", "enum": ["state", "item", "end"]},
        "data": {"type": "string"},
    },
    "required": ["id", "event", "data"],
}
STREAMED: dict[str, Any] = {
    "response_class": EventSourceResponse,
    "responses": content("text/event-stream", schema=TOLD) | refusals(404, 409, 429),
}


def _file(media_type: str, kind: Callable[[str], Any] = content) -> dict[str, Any]:
    return {
        "response_class": FileResponse if kind is stored else StreamingResponse,
        "responses": kind(media_type) | refusals(404, 409),
    }


async def submit(
    state: State,
    *,
    request: Request,
    response: Response,
    body: JobRequest,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1, max_length=KEY_CHARS, description="what makes two submissions one job"
        ),
    ] = None,
    prefer: Annotated[str | None, Header(description="wait=n: seconds to wait")] = None,
) -> JobView:
    """Apply a method to many images: 202 once the job is safe; 200 if it is done already."""
    said = "" if idempotency_key is None else await run_in_threadpool(_hash, await request.json())
    job = await jobs.submit(state, body, key=idempotency_key, body_sha256=said)
    wait_s = _wait_of(prefer)
    if wait_s:
        job = await job_events.wait(state, job, wait_s)
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    response.headers["Location"] = API.job(job.id)
    response.status_code = 200 if wait_s and job.terminal else 202
    _present(job, response)
    return job


def _submit_route(most_inputs: int) -> Callable[..., Awaitable[JobView]]:
    """`submit`, its body told apart by method: FastAPI reads the shape from the annotations."""

    @wraps(submit)
    async def route(*args: Any, **kwargs: Any) -> JobView:
        return await submit(*args, **kwargs)

    signature = inspect.signature(submit)
    fields = dict(signature.parameters)
    fields["body"] = fields["body"].replace(annotation=body_type(most_inputs))
    route.__signature__ = signature.replace(parameters=list(fields.values()))  # type: ignore[attr-defined] # read by inspect
    return route


def _wait_of(prefer: str | None) -> int:
    """The seconds of the first `wait=n` (RFC 7240); 0 where there is none that can be read."""
    for preference in (prefer or "").split(","):
        found = _WAIT.fullmatch(preference)
        if found:
            return min(int(found[1][:10]), WAIT_S)
    return 0


def listing(
    state: State,
    page: Page,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
) -> Paged[JobView]:
    """Jobs, newest first."""
    found, last = jobs.listing(state, job_state, page.after, page.limit)
    return Paged(items=found, next_cursor=page.link(last))


def read(
    state: State,
    response: Response,
    job: str,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """A job: its state, counts, rate and time left."""
    found = jobs.get(state, job)
    _present(found, response)
    if matches(if_none_match, _etag(found)):
        return Response(status_code=304, headers=dict(response.headers))
    return found


def items(
    state: State,
    page: Page,
    job: str,
    item_state: Annotated[ItemState | None, Query(alias="state")] = None,
) -> Paged[ItemView]:
    """A job's items, in the order of its inputs."""
    after = -1 if page.after is None else page.after
    found, last = jobs.items(state, job, item_state, after, page.limit)
    return Paged(items=[_linked(job, one) for one in found], next_cursor=page.link(last))


def item(state: State, job: str, n: ItemNumber) -> ItemView:
    """One item and what came of it."""
    return _linked(job, jobs.item(state, job, n))


def _linked(job: str, one: ItemView) -> ItemView:
    """Hashes of files as the addresses where they are."""
    pictures = {name: API.job(job, "items", one.n, f"{name}.png") for name in one.pictures}
    arrays = {name: API.job(job, "items", one.n, f"{name}.npy") for name in one.arrays}
    return one.model_copy(update={"pictures": pictures, "arrays": arrays})


def png(state: State, job: str, n: ItemNumber, name: str, asked: Asked) -> Response:
    """A picture of an item's result; `heatmap` is the method's main one."""
    found = _done(jobs.item(state, job, n))
    sha256 = _choose(found.pictures, name, "png")
    return picture(state.artifacts.path(sha256), sha256, asked)


def npy(state: State, job: str, n: ItemNumber, name: str, asked: Asked) -> Response:
    """An array of an item's result, as NumPy saves it; `map` is the method's main one."""
    found = _done(jobs.item(state, job, n))
    sha256 = _choose(found.arrays, name, "npy")
    return picture(state.artifacts.path(sha256), sha256, asked, "application/x-npy")


def _done(found: ItemView) -> ItemView:
    if found.state != "succeeded":
        detail = f"Item {found.n} is {found.state}; only a succeeded item has results."
        raise Refusal(409, "not_succeeded", detail)
    return found


def _choose(files: dict[str, str], name: str, suffix: str) -> str:
    if name not in files:
        known = ", ".join(f"{one}.{suffix}" for one in files) or f"none: outputs has no {suffix}"
        raise Refusal(404, "not_found", f"This item has no {name[:80]}.{suffix}; it has {known}.")
    return files[name]


def results(state: State, job: str, partial: Partial = False) -> StreamingResponse:
    """A line of JSON for every item that succeeded."""
    return _lines(state, job, "succeeded", partial)


def errors(state: State, job: str, partial: Partial = False) -> StreamingResponse:
    """A line of JSON for every item that failed."""
    return _lines(state, job, "failed", partial)


def _lines(state: State, job: str, item_state: str, partial: bool) -> StreamingResponse:
    found = _require_results(state, job, partial)
    items = iter(jobs.items_so_far(state, found, item_state))
    first = list(islice(items, 1))  # what cannot be read is told before the answer has begun

    def lines() -> Iterator[str]:
        for one in chain(first, items):
            yield _linked(job, one).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def _require_results(state: State, job: str, partial: bool) -> JobView:
    found = jobs.get(state, job)
    if not partial:
        jobs.require_ended(found)
    return found


def results_zip(state: State, job: str, partial: Partial = False) -> StreamingResponse:
    """Every picture and array that there is, with results.jsonl and errors.jsonl, as one ZIP."""
    found = _require_results(state, job, partial)
    headers = {"Content-Disposition": f'attachment; filename="{job}.zip"'}
    job_archive.require_files(state, found)
    made = job_archive.archive(state, found)
    return StreamingResponse(made, media_type="application/zip", headers=headers)


async def _news(state: State, job: str) -> AsyncIterator[asyncio.Event]:
    """Tells of the job's changes for as long as the stream is open."""
    if state.watchers.listeners() >= state.settings.event_streams:
        detail = f"{state.settings.event_streams} streams of events are open already."
        raise Refusal(429, "too_many_streams", detail, retry_after=5)
    with state.watchers.watch(job) as news:
        yield news


async def events(
    state: State,
    job: str,
    news: Annotated[asyncio.Event, Depends(_news)],
    last_event_id: Annotated[
        str,
        Header(
            pattern=r"^[0-9]{0,18}$",
            description="the last id that was received; what came after it is told",
        ),
    ] = "",
) -> EventSourceResponse:
    """What happens to the job, as it happens: "state", "item", and "end" at the end."""
    last = int(last_event_id or 0)  # empty: none yet
    await run_in_threadpool(job_events.after, state, job, last)
    told = job_events.follow(state, job, last, news)
    stream = (
        ServerSentEvent(id=str(version), event=kind, data=json.dumps(data))
        async for version, kind, data in told
    )
    return EventSourceResponse(stream, ping=KEEP_ALIVE_S, send_timeout=SLOW_CLIENT_S)


def retry_failed(state: State, response: Response, job: str) -> JobView:
    """Queue what failed of a finished job again; 200 if nothing did."""
    found, again = jobs.retry_failed(state, job)
    response.status_code = 202 if again else 200
    _present(found, response)
    return found


def delete(state: State, job: str) -> None:
    """Take a finished job and its results away."""
    jobs.delete(state, job)


def cancel(state: State, response: Response, job: str) -> JobView:
    """Start no further item and keep what is done; 200 if the job was at its end already."""
    found = jobs.cancel(state, job)
    response.status_code = 200 if found.terminal else 202
    _present(found, response)
    return found
