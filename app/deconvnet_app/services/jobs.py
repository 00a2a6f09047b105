"""Batch jobs as people ask for them: submit, look at, cancel.

A job applies one method of the registry to many images. What a request says is checked here against
the registry and the catalogue, so that an accepted job can only fail on its inputs or its network.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from deconvnet import methods
from deconvnet.errors import ParameterError, nearest
from deconvnet.graph.describe import Description
from deconvnet.methods import Misfit
from deconvnet_app.catalog.models import code_fingerprint, fingerprint, model_names, model_source
from deconvnet_app.db import images as image_store
from deconvnet_app.db import jobs as store
from deconvnet_app.db.models import Job
from deconvnet_app.errors import Fault, Refusal
from deconvnet_app.services import models
from deconvnet_app.services.job_views import (
    DatasetInput,
    ImageInput,
    ImagesInput,
    ItemView,
    JobRequest,
    JobView,
    item_view,
    job_view,
)
from deconvnet_app.state import AppState

LOADING_S = 10.0


async def submit(
    state: AppState, request: JobRequest, *, key: str | None = None, body_sha256: str = ""
) -> JobView:
    """Accept a job: once this returns, it survives whatever happens to the server.

    Args:
        key: a client's idempotency key; the same key again gives the first answer again.
        body_sha256: what the key stands for; its answer is kept, whatever becomes of the job.

    Raises:
        Refusal: 422, what is wrong with the request; 409 while the key's first submission is under
            way, 422 for a key used for another body; 429 when too many jobs wait.
        StorageFullError: no room for results.
    """
    with _in_flight(state, key):
        if key is not None:
            replayed = await run_in_threadpool(_replay, state, key, body_sha256)
            if replayed is not None:
                return replayed
        network = await models.require_loadable(state, request.model, LOADING_S)
        return await run_in_threadpool(_accept, state, request, network, key, body_sha256)


@contextmanager
def _in_flight(state: AppState, key: str | None) -> Iterator[None]:
    """A key is answered once at a time; only the event loop's thread comes here."""
    if key is None:
        yield
        return
    if key in state.keys_in_flight:
        detail = "A submission with this Idempotency-Key is under way. Ask again in a second."
        raise Refusal(409, "idempotency_key_in_flight", detail, retry_after=1)
    state.keys_in_flight.add(key)
    try:
        yield
    finally:
        state.keys_in_flight.discard(key)


def _replay(state: AppState, key: str, body_sha256: str) -> JobView | None:
    with state.db.read() as session:
        return _recall(session, key, body_sha256)


def _accept(
    state: AppState,
    request: JobRequest,
    network: Description | None,
    key: str | None,
    body_sha256: str,
) -> JobView:
    resolved, fingerprints = _resolve(state, request, network)
    with state.db.read() as session:
        inputs = _inputs(state, session, request.inputs)
    fingerprints["inputs"] = _inputs_fingerprint(inputs)
    state.artifacts.require_room(0)
    with state.db.write() as session:
        if key is not None:
            replayed = _recall(session, key, body_sha256)
            if replayed is not None:
                return replayed
        _require_queue(session, state.settings.queued_jobs)
        now = time.time()
        job = store.new(f"job_{uuid.uuid4().hex}", resolved, fingerprints, len(inputs), now)
        store.create(session, job, inputs)
        view = job_view(job)
        if key is not None:
            store.remember(session, key, body_sha256, job, view.model_dump(mode="json"))
    state.jobs.wake()
    return view


def _recall(session: Session, key: str, body_sha256: str) -> JobView | None:
    found = store.recall(session, key)
    if found is None:
        return None
    if found[0] != body_sha256:
        detail = "This Idempotency-Key was used for another body. Take a new key."
        raise Refusal(422, "idempotency_key_reused", detail)
    return JobView.model_validate(found[1])


def _require_queue(session: Session, most: int) -> None:
    if store.unfinished(session) >= most:
        detail = f"{most} jobs are not finished yet; no more are taken. Try again later."
        raise Refusal(429, "too_many_jobs", detail, retry_after=30)


def _resolve(
    state: AppState, request: JobRequest, network: Description | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request with every parameter's value, and the fingerprints of what it names."""
    if request.model not in (names := model_names(state.settings)):
        _refuse("/model", f"Model '{request.model}' is unknown; {nearest(request.model, names)}.")
    method, params = methods.get(request.method), request.params
    try:
        target = method.check_target(request.target)
    except ParameterError as error:
        _refuse("/target", str(error))
    if network is not None:
        _require_fit(method.misfits(network, target, params))
    resolved = request.model_dump(mode="json", by_alias=True)
    resolved["params"] = params.model_dump(mode="json", by_alias=True)
    if request.target is not None:
        resolved["target"] = request.target.model_dump(
            mode="json", by_alias=True, exclude_none=True
        )
    if isinstance(request.inputs, ImagesInput):
        resolved["inputs"] = {"images": len(request.inputs.images)}  # each is an item already
    source = model_source(state.settings, request.model)
    return resolved, {"network": fingerprint(source), "code": code_fingerprint()}


def _require_fit(found: Iterable[Misfit]) -> None:
    """Refuse what no image could make succeed."""
    faults = [Fault(f"/{one.place}", one.code, str(one.error)) for one in found]
    if faults:
        raise Refusal(422, "invalid", " ".join(fault.detail for fault in faults), faults)


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise Refusal(422, "invalid", detail, [Fault(pointer, "invalid", detail)])


def _inputs(
    state: AppState, session: Session, wanted: ImagesInput | DatasetInput
) -> Sequence[store.Input]:
    if isinstance(wanted, ImagesInput):
        _require_few(state, wanted.images)
        _require_distinct(wanted.images)
        known = image_store.hashes(session, [one.id for one in wanted.images])
        return [_image_input(known, n, one) for n, one in enumerate(wanted.images)]
    paths = _dataset_paths(state, wanted)
    _require_few(state, paths)
    return [store.Input(dataset=wanted.dataset, path=path) for path in paths]


def _inputs_fingerprint(inputs: Sequence[store.Input]) -> str:
    """SHA-256 of what the inputs are, in their order: contents of uploads, paths of a dataset."""
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(json.dumps([one.sha256, one.dataset, one.path]).encode())
    return digest.hexdigest()


def _require_few(state: AppState, inputs: Sequence[object]) -> None:
    most = state.settings.job_inputs
    if len(inputs) > most:
        _refuse("/inputs", f"{len(inputs)} inputs are too many: a job takes {most}. Split it.")


def _require_distinct(images: Sequence[ImageInput]) -> None:
    """A client tells its items apart by the names that it gave them."""
    seen: dict[str, int] = {}
    for n, one in enumerate(images):
        if one.custom_id is None:
            continue
        first = seen.setdefault(one.custom_id, n)
        if first < n:
            detail = (
                f"custom_id '{one.custom_id}' of /inputs/images/{n} is that of "
                f"/inputs/images/{first} too. Give each image a name of its own, or none."
            )
            fault = Fault(f"/inputs/images/{n}/custom_id", "duplicate", detail)
            raise Refusal(422, "duplicate_custom_id", detail, [fault])


def _image_input(known: Mapping[str, str], n: int, one: ImageInput) -> store.Input:
    if one.id not in known:
        detail = f"Image '{one.id}' is unknown. Upload it with POST /api/v1/images."
        fault = Fault(f"/inputs/images/{n}/id", "unknown", detail)
        raise Refusal(422, "unknown_image", detail, [fault])
    return store.Input(custom_id=one.custom_id, image=one.id, sha256=known[one.id])


def _dataset_paths(state: AppState, wanted: DatasetInput) -> list[str]:
    if wanted.dataset not in state.datasets.ids():
        hint = nearest(wanted.dataset, state.datasets.ids())
        _refuse("/inputs/dataset", f"Dataset '{wanted.dataset}' is unknown; {hint}.")
    paths = state.datasets.matching(wanted.dataset, wanted.glob)
    if not paths:
        _refuse(
            "/inputs/glob",
            f"No image of '{wanted.dataset}' matches '{wanted.glob}'; "
            f"GET /api/v1/datasets/{wanted.dataset}/images lists their paths.",
        )
    return paths[: wanted.limit]


def get(state: AppState, job_id: str) -> JobView:
    """A job; raises Refusal (404)."""
    with state.db.read() as session:
        return job_view(_job(session, job_id))


def listing(
    state: AppState, job_state: str | None, before: int | None, limit: int
) -> tuple[list[JobView], int | None]:
    """Jobs, newest first, and where the next page begins, if there is one."""
    with state.db.read() as session:
        rows = store.page(session, job_state, before, limit + 1)
        more = rows[limit - 1].seq if len(rows) > limit else None
        return [job_view(row) for row in rows[:limit]], more


def items(
    state: AppState, job_id: str, item_state: str | None, after: int, limit: int
) -> tuple[list[ItemView], int | None]:
    """A job's items in order, and where the next page begins, if there is one."""
    with state.db.read() as session:
        rows = store.items(session, _job(session, job_id).seq, item_state, after, limit + 1)
        more = rows[limit - 1].n if len(rows) > limit else None
        return [item_view(row) for row in rows[:limit]], more


def item(state: AppState, job_id: str, n: int) -> ItemView:
    """One item; raises Refusal (404)."""
    with state.db.read() as session:
        job = _job(session, job_id)
        found = store.item(session, job.seq, n) if 0 <= n < job.total else None
        if found is None:
            raise Refusal(404, "not_found", f"Job '{job_id}' has no item {n}.")
        return item_view(found)


def all_items(state: AppState, job_id: str, item_state: str) -> Iterator[ItemView]:
    """Every item in a state, in order, read a few at a time."""
    after: int | None = -1
    while after is not None:
        found, after = items(state, job_id, item_state, after, 200)
        yield from found


def items_so_far(state: AppState, job: JobView, item_state: str) -> Iterator[ItemView]:
    """As many items in a state as there were when the job was read: a running one makes more."""
    return islice(all_items(state, job.id, item_state), getattr(job.counts, item_state))


def cancel(state: AppState, job_id: str) -> JobView:
    """Start no further item; what is done stays. A job at its end is left as it is."""
    with state.db.write() as session:
        job = _job(session, job_id)
        if job.state in ("queued", "running"):
            store.stop(session, job, time.time(), None, "cancelling")
            state.jobs.cancelled(job.seq)
        return job_view(job)


def retry_failed(state: AppState, job_id: str) -> tuple[JobView, bool]:
    """Queue the failed items of a finished job again; whether there were any.

    Raises:
        Refusal: 404; 409 for a job that is not at its end; 429 when too many jobs wait.
    """
    with state.db.write() as session:
        job = _ended(session, job_id)
        _require_queue(session, state.settings.queued_jobs)
        again = store.retry(session, job, time.time())
        view = job_view(job)
    if again:
        state.jobs.wake()
    return view, again


def delete(state: AppState, job_id: str) -> None:
    """Take a finished job away; its files go soon after.

    Raises:
        Refusal: 404; 409 for a job that is not at its end.
    """
    with state.db.write() as session:
        store.remove(session, _ended(session, job_id), time.time())


def require_ended(job: JobView) -> None:
    """Raise Refusal (409) while a job goes on."""
    if not job.terminal:
        detail = f"Job '{job.id}' is {job.state}. Wait for its end, or ask with ?partial=true."
        raise Refusal(409, "not_finished", detail, retry_after=1)


def _ended(session: Session, job_id: str) -> Job:
    job = _job(session, job_id)
    if job.state not in store.TERMINAL:
        detail = f"Job '{job_id}' is {job.state}. Cancel it, or wait for its end."
        raise Refusal(409, "not_finished", detail, retry_after=1)
    return job


def _job(session: Session, job_id: str) -> Job:
    job = store.get(session, job_id)
    if job is None:
        raise Refusal(404, "not_found", f"Job '{job_id[:80]}' is unknown.")
    return job
