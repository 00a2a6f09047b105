"""The application: its parts put together, and the server around it."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import deconvnet
from app import api, web
from app.api import errors
from app.api.links import API
from app.api.middleware import Guard
from app.artifacts import ArtifactStore
from app.compute.scheduler import Compute
from app.datasets import Datasets
from app.db.engine import Database
from app.errors import DatabaseError_, DataDirBusyError
from app.imaging.decoder import Decoder
from app.jobs.coordinator import Coordinator
from app.lock import sole_owner
from app.services.index import IndexCatalog
from app.settings import Settings
from app.state import AppState
from app.urls import Urls

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
        lifespan=_lifespan,
    )
    app.state.deconv = make_state(settings)
    answer = errors.answerer(web.error_page)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)
    app.add_middleware(Guard, most=settings.request_bytes, answer=answer)
    app.include_router(api.make_router())
    app.include_router(web.router)
    app.mount(Urls.STATIC, web.Assets(), name="static")
    return app


def make_state(settings: Settings) -> AppState:
    """The application's parts, none of them started."""
    artifacts = ArtifactStore(settings.data_dir / "artifacts", settings.artifact_bytes)
    compute = Compute(settings, artifacts)
    db = Database(settings.data_dir / "deconvnet.sqlite")
    datasets = Datasets(settings.datasets)
    jobs = Coordinator(db, compute, artifacts, datasets, ITEMS_PER_WORKER * settings.workers)
    indexes = IndexCatalog(settings.indexes, settings.models)
    return AppState(settings, artifacts, compute, Decoder(), db, jobs, datasets, indexes)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: AppState = app.state.deconv
    settings = state.settings
    with sole_owner(settings.data_dir, f"http://{settings.host}:{settings.port}"):
        await asyncio.to_thread(_start, state)
        try:
            yield
        finally:
            await asyncio.to_thread(_stop, state)


def _start(state: AppState) -> None:
    state.db.migrate()
    orphans = state.artifacts.clean()
    if orphans:
        log.info("%d unfinished files of an earlier run removed", orphans)
    state.compute.start()
    state.decoder.start()
    state.jobs.start()


def _stop(state: AppState) -> None:
    """Finish what runs, within the grace; the rest goes back to the queue as it was."""
    state.jobs.drain()
    state.compute.stop(state.settings.drain_s)
    state.decoder.close()
    state.jobs.join(10)
    state.db.close()


class _Server(uvicorn.Server):
    """Tells its address once it answers."""

    announce: Callable[[str], None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order, which is a success; a second Ctrl-C does not wait."""
        del frame
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.announce and sockets:
            host, port = sockets[0].getsockname()[:2]
            self.announce(f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/")


def serve(settings: Settings, announce: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then let running work finish for `settings.drain_s` seconds.

    Args:
        announce: is given the address once the server answers.

    Returns:
        The exit code: 0; 2 when the port or the data directory is another's, or the database
        cannot be used.
    """
    try:
        listening = _listen(settings)
        settings = settings.model_copy(update={"port": listening.getsockname()[1]})
        with sole_owner(settings.data_dir, "a server that is starting"):
            database = Database(settings.data_dir / "deconvnet.sqlite")
            database.migrate()
            database.close()
    except (OSError, DataDirBusyError, DatabaseError_) as error:
        log.error("%s", error)
        return 2
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    server.announce = announce
    with listening:
        server.run(sockets=[listening])
    return 0 if server.started else 2


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise OSError(
            f"Port {settings.port} of {settings.host} cannot be used: {error.strerror}. Choose "
            "another with --port."
        ) from error
    return listening
