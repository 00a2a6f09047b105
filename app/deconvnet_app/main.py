"""The application: its parts put together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

import deconvnet
from deconvnet_app import api, web
from deconvnet_app.access import Access
from deconvnet_app.api import openapi
from deconvnet_app.artifacts import ArtifactStore, remove_unfinished
from deconvnet_app.catalog.datasets import Datasets
from deconvnet_app.catalog.indexes import IndexCatalog
from deconvnet_app.compute.backends.choose import make_backend
from deconvnet_app.compute.scheduler import Compute
from deconvnet_app.db import counts
from deconvnet_app.db.engine import Database
from deconvnet_app.http import problems
from deconvnet_app.http.checks import make_checks
from deconvnet_app.http.middleware import Guard
from deconvnet_app.imaging.decoder import Decoder
from deconvnet_app.jobs.coordinator import Coordinator
from deconvnet_app.jobs.janitor import Janitor
from deconvnet_app.jobs.watchers import Watchers
from deconvnet_app.lock import sole_owner
from deconvnet_app.metrics import Look, Metrics
from deconvnet_app.settings import Settings
from deconvnet_app.state import AppState
from deconvnet_app.urls import API, Urls

log = logging.getLogger(__name__)

ITEMS_PER_WORKER = 4


def create_app(settings: Settings) -> FastAPI:
    """The web pages and the REST interface over one data directory.

    Nothing starts before the application's lifespan does: until then no file is touched.
    """
    app = FastAPI(
        title="deconvnet",
        version=deconvnet.__version__,
        summary="What each unit of a convolutional network looks for",
        openapi_url=f"{API.ROOT}/openapi.json",
        docs_url=None,  # its pages load scripts from another host
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        form_limits={"max_files": 1, "max_fields": 20, "max_part_size": 64 * 1024},
        lifespan=_lifespan,
    )
    app.state.deconv = state = make_state(settings)
    answer = problems.answerer(web.error_page)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)
    checks = make_checks(settings, state.access)
    app.add_middleware(
        Guard,
        most=settings.request_bytes,
        most_parsed=settings.json_bytes,
        patience_s=settings.receive_s,
        rate=settings.receive_rate,
        metrics=state.metrics,
        checks=checks,
        answer=answer,
    )
    app.include_router(api.make_router(settings.job_inputs))
    openapi.install(app, settings, state.datasets.ids())
    app.include_router(web.router)
    app.mount(Urls.STATIC, web.Assets(), name="static")
    return app


def make_state(settings: Settings) -> AppState:
    """The application's parts, none of them started."""
    artifacts = ArtifactStore(settings.data_dir / "artifacts", settings.artifact_bytes)
    metrics = Metrics()
    compute = Compute(settings, artifacts, metrics, make_backend(settings))
    watchers = Watchers()
    db = Database(settings.database_place, watchers.changed, settings.address)
    datasets = Datasets(settings.datasets)
    jobs = Coordinator(db, compute, artifacts, datasets, ITEMS_PER_WORKER * settings.workers)
    indexes = IndexCatalog(settings.indexes, settings.models)
    access = Access(settings.data_dir)
    decoder = Decoder()
    _watch(metrics, compute, db)
    janitor = Janitor(db, artifacts, compute.cache, settings.retention_s)
    return AppState(
        settings=settings,
        access=access,
        metrics=metrics,
        artifacts=artifacts,
        compute=compute,
        decoder=decoder,
        db=db,
        jobs=jobs,
        datasets=datasets,
        indexes=indexes,
        watchers=watchers,
        janitor=janitor,
    )


def _watch(metrics: Metrics, compute: Compute, db: Database) -> None:
    """Let the metrics look up what others keep."""

    def stored(count: Callable[[Session], dict[str, float]]) -> Look:
        def look() -> dict[str, float]:
            with db.read() as session:
                return count(session)

        return look

    metrics.watch("deconvnet_units", "Units, waiting or running", "place", compute.depth)
    by_state = {"jobs": counts.jobs_by_state, "items": counts.items_by_state}
    for name, count in by_state.items():
        metrics.watch(f"deconvnet_{name}", f"{name.title()} by state", "state", stored(count))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: AppState = app.state.deconv
    settings = state.settings
    place = settings.database_place
    file = place if isinstance(place, Path) else None
    with sole_owner(settings.data_dir, settings.address, file):
        await asyncio.to_thread(_start, state)
        try:
            yield
        finally:
            await asyncio.to_thread(_stop, state)


def _start(state: AppState) -> None:
    if state.settings.auth:
        _ = state.access.token  # one that cannot be used is said now
    place = state.settings.database_place
    used = isinstance(place, Path) and place.exists() and any(state.artifacts.files())
    state.db.migrate(used=used)
    orphans = sum(map(remove_unfinished, (state.artifacts.root, state.compute.cache.root)))
    if orphans := orphans + state.access.remove_unfinished():
        log.info("%d unfinished files of an earlier run removed", orphans)
    state.compute.start()
    state.decoder.start()
    state.jobs.start()
    state.janitor.start()


def _stop(state: AppState) -> None:
    """Finish what runs, within the grace; the rest goes back to the queue as it was."""
    state.janitor.stop()
    state.jobs.drain()
    state.compute.stop(state.settings.drain_s)
    state.decoder.close()
    state.jobs.join(10)
    state.db.close()
