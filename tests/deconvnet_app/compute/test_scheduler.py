"""What a unit tells while it runs, and how it is ended politely."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from deconvnet_app.artifacts import ArtifactStore
from deconvnet_app.compute.backends.base import Backend, Outcome
from deconvnet_app.compute.backends.choose import make_backend
from deconvnet_app.compute.backends.process import ProcessBackend
from deconvnet_app.compute.scheduler import Compute, Priority
from deconvnet_app.compute.spec import Lost, Progress, UnitResult, UnitSpec, WorkerLostError
from deconvnet_app.metrics import Metrics
from deconvnet_app.settings import Settings
from tests.support.server import SLOW, png

Make = Callable[..., Settings]


def put(settings: Settings, picture: bytes) -> str:
    return ArtifactStore(settings.data_dir / "artifacts").put(picture)


def occlusion(image: str, **params: object) -> UnitSpec:
    wanted = {"size": 8, "stride": 2, "fill": "black"} | params
    return UnitSpec(kind="explain", model="tiny", method="occlusion", params=wanted, image=image)


def told(backend: Backend, ticket: int, spec: UnitSpec, *, partials: bool) -> list[Outcome]:
    """Everything that is said of a unit, to its end."""
    while not backend.free():
        backend.poll(0.5)
    backend.submit(ticket, spec, partials=partials)
    return heard(backend)


def heard(backend: Backend) -> list[Outcome]:
    news: list[Outcome] = []
    while not news or isinstance(news[-1].value, Progress):
        news += backend.poll(0.5)
    return news


@pytest.fixture
def workers(tiny_settings: Make) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(tiny_settings(backend="process"))
    backend.start()
    yield backend
    backend.close()


def test_partial_results_come_before_the_result_and_do_not_change_it(
    workers: ProcessBackend, tiny_settings: Make
) -> None:
    spec = occlusion(put(tiny_settings(), png()))
    told_all = told(workers, 1, spec, partials=True)
    partials = [
        news.value.partial
        for news in told_all
        if isinstance(news.value, Progress) and news.value.partial is not None
    ]
    result = told_all[-1].value
    assert {news.ticket for news in told_all} == {1}
    assert isinstance(result, UnitResult)
    assert [part.facts["stride"] for part in partials] == [8, 4]
    assert result.facts["stride"] == 2
    quiet = told(workers, 2, spec, partials=False)
    assert not any(
        isinstance(news.value, Progress) and news.value.partial is not None for news in quiet
    )
    again = quiet[-1].value
    assert isinstance(again, UnitResult)
    assert (again.arrays, again.pictures, again.facts) == (
        result.arrays, result.pictures, result.facts,
    )  # fmt: skip


def test_a_unit_that_is_told_to_stop_leaves_its_worker_alive(
    workers: ProcessBackend, tiny_settings: Make
) -> None:
    before = workers.pids()
    while not workers.free():
        workers.poll(0.5)
    workers.submit(7, occlusion(put(tiny_settings(), png(SLOW))))
    workers.stop(7)
    (outcome,) = heard(workers)
    assert isinstance(outcome.value, Lost)
    assert (outcome.value.killed, outcome.value.died) == (True, False)
    result = told(workers, 8, occlusion(put(tiny_settings(), png())), partials=False)[-1].value
    assert isinstance(result, UnitResult)
    assert workers.pids() == before


@pytest.fixture
def compute(tiny_settings: Make) -> Iterator[Compute]:
    settings = tiny_settings(backend="process")
    compute = Compute(
        settings, ArtifactStore(settings.data_dir / "artifacts"), Metrics(), make_backend(settings)
    )
    compute.start()
    yield compute
    compute.stop(10)


def test_a_look_gives_what_there_is_and_only_the_whole_result_is_kept(compute: Compute) -> None:
    spec = occlusion(put(compute.settings, png()), size=16, stride=1)
    look = asyncio.run(compute.look(spec, 60))
    while isinstance(look, Progress):
        if look.partial is not None:
            assert look.partial.facts["stride"] > 1
            assert 0 < look.done <= look.total
        look = asyncio.run(compute.look(spec, 60))
    assert look.facts["stride"] == 1
    assert compute.cached(spec) == look.model_copy(update={"stored_bytes": 0})


def test_a_unit_nobody_wants_any_more_ends_and_can_be_asked_for_again(compute: Compute) -> None:
    spec = occlusion(put(compute.settings, png(SLOW)))
    task = compute.submit(spec, Priority.INTERACTIVE)
    compute.abandon(spec)
    with pytest.raises(WorkerLostError):
        task.future.result(60)
    assert compute.cached(spec) is None
    assert isinstance(asyncio.run(compute.run(spec)), UnitResult)


def test_a_jobs_unit_that_shall_end_ends_as_it_was_asked(compute: Compute) -> None:
    task = compute.submit(occlusion(put(compute.settings, png(SLOW))), Priority.JOB)
    compute.end(task.ticket)
    with pytest.raises(WorkerLostError) as ended:
        task.future.result(60)
    assert ended.value.wanted


def test_a_failure_is_told_to_whoever_looks_again_soon(compute: Compute) -> None:
    spec = occlusion("0" * 64)
    first = compute.submit(spec, Priority.INTERACTIVE)
    while not first.future.done():
        time.sleep(0.01)
    assert compute.submit(spec, Priority.INTERACTIVE) is first
