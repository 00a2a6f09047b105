"""Batch jobs: submit, look at, cancel, and fetch what came of them."""

import asyncio
import hashlib
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import reduce, wraps
from operator import or_
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field, create_model

from app.api.deps import Page, State
from app.api.images import IfNoneMatch, picture
from app.api.links import API
from app.api.models import Paged
from app.errors import Refusal
from app.services import jobs
from app.services.job_views import ItemState, ItemView, JobRequest, JobState, JobView
from deconvnet import methods
from deconvnet.methods import Method

Partial = Annotated[bool, Query(description="what there is so far, though the job goes on")]

LONGEST_WAIT_S = 60
RETRY_AFTER = {"Retry-After": "1"}


def _body_of(method: Method) -> type[JobRequest]:
    """The request's shape for one method, with its parameters."""
    fields: Any = {
        "method": Literal[method.name],
        "params": (method.Params, Field(default_factory=dict, validate_default=True)),
    }
    return create_model(
        f"{method.name.title()}Job",
        __base__=JobRequest,
        __doc__=method.title,
        **fields,
    )


def body_type() -> Any:
    """The union of the registered methods' requests, told apart by `method`."""
    bodies = [_body_of(method) for method in methods.all_methods()]
    union = reduce(or_, bodies)
    return Annotated[union, Field(discriminator="method")] if len(bodies) > 1 else union


async def _body_hash(request: Request) -> str:
    return hashlib.sha256(await request.body()).hexdigest()


def _etag(job: JobView) -> str:
    return f'"{job.id}-{job.version}"'


def _present(job: JobView, response: Response) -> None:
    response.headers["ETag"] = _etag(job)
    if not job.terminal:
        response.headers.update(RETRY_AFTER)


def make_router() -> APIRouter:
    """The routes, with the methods that are registered now."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    router.add_api_route("", _submit_route(), methods=["POST"], status_code=202, name="submit")
    router.add_api_route("", listing, methods=["GET"])
    router.add_api_route("/{job}", read, methods=["GET"])
    router.add_api_route("/{job}/items", items, methods=["GET"])
    router.add_api_route("/{job}/items/{n}", item, methods=["GET"])
    router.add_api_route(
        "/{job}/items/{n}/{name}.png", png, methods=["GET"], response_class=FileResponse
    )
    router.add_api_route(
        "/{job}/items/{n}/{name}.npy", npy, methods=["GET"], response_class=FileResponse
    )
    router.add_api_route("/{job}/results.jsonl", results, methods=["GET"])
    router.add_api_route("/{job}/errors.jsonl", errors, methods=["GET"])
    router.add_api_route("/{job}/cancel", cancel, methods=["POST"], status_code=202)
    return router


async def submit(
    state: State,
    *,
    response: Response,
    body: JobRequest,
    body_sha256: Annotated[str, Depends(_body_hash)],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    prefer: Annotated[str | None, Header(description="wait=n: seconds to wait")] = None,
) -> JobView:
    """Apply a method to many images: 202 once the job is safe; 200 if it is done already."""
    plain = JobRequest.model_validate(body.model_dump(mode="json", by_alias=True))
    job = await run_in_threadpool(
        jobs.submit, state, plain, key=idempotency_key, body_sha256=body_sha256
    )
    wait_s = _wait_of(prefer)
    if wait_s:
        job = await _wait(state, job, wait_s)
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    response.headers["Location"] = API.job(job.id)
    response.status_code = 200 if wait_s and job.terminal else 202
    _present(job, response)
    return job


def _submit_route() -> Callable[..., Awaitable[JobView]]:
    """`submit`, its body told apart by method: FastAPI reads the shape from the annotations."""

    @wraps(submit)
    async def route(*args: Any, **kwargs: Any) -> JobView:
        return await submit(*args, **kwargs)

    signature = inspect.signature(submit)
    fields = dict(signature.parameters)
    fields["body"] = fields["body"].replace(annotation=body_type())
    route.__signature__ = signature.replace(parameters=list(fields.values()))  # type: ignore[attr-defined] # read by inspect
    return route


def _wait_of(prefer: str | None) -> int:
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,6})\b", prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else 0


async def _wait(state: State, job: JobView, wait_s: int) -> JobView:
    until = time.monotonic() + wait_s
    while not job.terminal and time.monotonic() < until:
        await asyncio.sleep(0.1)
        job = await run_in_threadpool(jobs.get, state, job.id)
    return job


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
    if if_none_match is not None and _etag(found) in if_none_match:
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


def item(state: State, job: str, n: int) -> ItemView:
    """One item and what came of it."""
    return _linked(job, jobs.item(state, job, n))


def _linked(job: str, one: ItemView) -> ItemView:
    """Hashes of files as the addresses where they are."""
    pictures = {name: API.job(job, "items", one.n, f"{name}.png") for name in one.pictures}
    arrays = {name: API.job(job, "items", one.n, f"{name}.npy") for name in one.arrays}
    return one.model_copy(update={"pictures": pictures, "arrays": arrays})


def png(state: State, job: str, n: int, name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A picture of an item's result; `heatmap` is the method's main one."""
    found = _done(jobs.item(state, job, n))
    sha256 = _choose(found.pictures, name, "png")
    return picture(state.artifacts.path(sha256), sha256, if_none_match)


def npy(state: State, job: str, n: int, name: str, if_none_match: IfNoneMatch = None) -> Response:
    """An array of an item's result, as NumPy saves it; `map` is the method's main one."""
    found = _done(jobs.item(state, job, n))
    sha256 = _choose(found.arrays, name, "npy")
    return picture(state.artifacts.path(sha256), sha256, if_none_match, "application/x-npy")


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
    found = jobs.get(state, job)
    if not (partial or found.terminal):
        detail = f"Job '{job}' is {found.state}. Wait for its end, or ask with ?partial=true."
        raise Refusal(409, "not_finished", detail, retry_after=1)

    def lines() -> Iterator[str]:
        for one in jobs.all_items(state, job, item_state):
            yield _linked(job, one).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def cancel(state: State, response: Response, job: str) -> JobView:
    """Start no further item and keep what is done; 200 if the job was at its end already."""
    found = jobs.cancel(state, job)
    response.status_code = 200 if found.terminal else 202
    _present(found, response)
    return found
