"""What happens to a job, told as it happens, from any point of its story."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from deconvnet_app.db import jobs as store
from deconvnet_app.errors import Refusal
from deconvnet_app.services.job_views import JobView, job_view
from deconvnet_app.state import AppState

PAGE = 500
TOGETHER_S = 0.1

Told = tuple[int, str, dict[str, Any]]


def after(state: AppState, job_id: str, version: int) -> tuple[list[Told], JobView]:
    """What happened after a version of a job, up to `PAGE` events, and how the job stands.

    Raises:
        Refusal: 404; 409 for a version that the job has not reached.
    """
    with state.db.read() as session:
        job = store.get(session, job_id)
        if job is None:
            raise Refusal(404, "not_found", f"Job '{job_id[:80]}' is unknown.")
        if version > job.version:
            detail = f"Last-Event-ID is {version}; job '{job_id}' has come to {job.version} only."
            raise Refusal(409, "event_ahead", detail)
        rows = store.events(session, job.seq, version, PAGE)
        return [(row.version, row.kind, row.data) for row in rows], job_view(job)


async def follow(
    state: AppState, job_id: str, version: int, news: asyncio.Event
) -> AsyncIterator[Told]:
    """Everything that happens to a job after a version of it, and at last how it ended ("end").

    Args:
        news: is set when the job changes (`Progress.watch`, entered before the first read).
    """
    while True:
        news.clear()
        try:
            told, job = await run_in_threadpool(after, state, job_id, version)
        except Refusal:  # deleted meanwhile
            return
        for one in told:
            yield one
            version = one[0]
        if version < job.version:
            continue
        if job.terminal:
            yield version, "end", job.model_dump(mode="json")
            return
        await news.wait()
        await asyncio.sleep(TOGETHER_S)  # what comes in a burst is read at once


async def wait(state: AppState, job: JobView, seconds: float) -> JobView:
    """The job once it is at its end, or as it stands after so many seconds; as given if deleted."""
    with state.watchers.watch(job.id) as news, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for _ in follow(state, job.id, 0, news):
                pass
    with contextlib.suppress(Refusal):
        return (await run_in_threadpool(after, state, job.id, 0))[1]
    return job
