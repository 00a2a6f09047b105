"""What every backend does: one set of tests on all three, the cluster a real one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deconvnet_app.artifacts import ArtifactStore, sha256
from deconvnet_app.compute.backends.base import Backend, Outcome
from deconvnet_app.compute.backends.choose import make_backend
from deconvnet_app.compute.scheduler import Compute, Priority
from deconvnet_app.compute.spec import Lost, Origin, Progress, UnitError, UnitResult, UnitSpec
from deconvnet_app.metrics import Metrics
from deconvnet_app.settings import Settings
from tests.support.server import KILLER, SLEEPER, SLOW, png

PICTURES = {"plain.png": png(), "other.png": png((200, 30, 90))}


@pytest.fixture(scope="module", params=["inline", "process", "ray"])
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: str
) -> Settings:
    folder = tmp_path_factory.mktemp("backend")
    (folder / "pictures").mkdir()
    for name, data in PICTURES.items():
        (folder / "pictures" / name).write_bytes(data)
    address = request.getfixturevalue("cluster").address if request.param == "ray" else None
    return Settings(
        data_dir=folder / "data",
        models={"tiny": tiny_model},
        weights={
            "tiny": str(Path(tiny_model.split(":", maxsplit=1)[0]).with_suffix(".safetensors"))
        },
        datasets={"pictures": folder / "pictures"},
        backend=request.param,
        ray_address=address,
        device="cpu",
    )


@pytest.fixture(scope="module", autouse=True)
def weights(tiny_model: str) -> None:
    """Weights of a fixed seed: every process of every machine has the same network."""
    import torch
    from safetensors.torch import save_file

    import deconvnet as dn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = dn.load(tiny_model, weights=None, device="cpu").module
    path = Path(tiny_model.split(":", maxsplit=1)[0]).with_suffix(".safetensors")
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, path)


@pytest.fixture(scope="module")
def backend(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Backend]:
    with pytest.MonkeyPatch.context() as patch:
        if settings.backend == "ray":
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(request.getfixturevalue("cluster").token))
        backend = make_backend(settings)
        yield backend
        backend.close()


def stored(settings: Settings, colour: tuple[int, int, int], **fields: object) -> UnitSpec:
    """A unit on an uploaded picture."""
    image = ArtifactStore(settings.data_dir / "artifacts").put(png(colour))
    given = {"kind": "explain", "model": "tiny", "method": "deconv", "image": image}
    return UnitSpec.model_validate(given | {"target": {"unit": "conv2:1"}} | fields)


def occlusion(settings: Settings, **fields: object) -> UnitSpec:
    params = {"size": 8, "stride": 2, "fill": "black"}
    wanted = {"method": "occlusion", "params": params, "target": None}
    return stored(settings, (10, 120, 60), **(wanted | fields))


def ready(backend: Backend) -> None:
    until = time.monotonic() + 120
    while not backend.free():
        backend.poll(0.2)
        assert time.monotonic() < until, "no worker became ready"


def ending(backend: Backend, ticket: int) -> list[Outcome]:
    """All news of a unit, to its end."""
    news: list[Outcome] = []
    until = time.monotonic() + 120
    while not news or isinstance(news[-1].value, Progress):
        news += backend.poll(0.5)
        assert time.monotonic() < until, f"nothing more is heard after {news}"
    assert {one.ticket for one in news} == {ticket}
    return news


def run(backend: Backend, ticket: int, spec: UnitSpec, *, partials: bool = False) -> list[Outcome]:
    ready(backend)
    backend.submit(ticket, spec, partials=partials)
    return ending(backend, ticket)


class Kept:
    """A backend that its user does not close."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def close(self) -> None:
        """Nothing: it is used on."""


HASHES: dict[str, dict[str, str]] = {}


def test_results_are_stored_and_have_the_same_content_on_every_backend(
    backend: Backend, settings: Settings
) -> None:
    origin = Origin(dataset="pictures", path="other.png")
    image = sha256(PICTURES["other.png"])
    specs = {
        "upload": stored(settings, (10, 120, 60)),
        "dataset": stored(settings, (0, 0, 0), image=image, origin=origin),
        "occlusion": occlusion(settings),
        "filters": UnitSpec(kind="filters", model="tiny", layer="conv1"),
        "describe": UnitSpec(kind="describe", model="tiny"),
        "sheets": UnitSpec(
            kind="sheets",
            model="tiny",
            images=tuple(
                str(stored(settings, colour).image) for colour in ((10, 120, 60), (1, 2, 3))
            ),
            units=("conv2:1@2,3", "conv2:1@7,0"),
            rules=("deconv", "gradient"),
        ),
    }
    artifacts = ArtifactStore(settings.data_dir / "artifacts")
    found = {}
    for ticket, (name, spec) in enumerate(specs.items(), 1):
        result = run(backend, ticket, spec)[-1].value
        assert isinstance(result, UnitResult), result
        assert result.image == spec.image
        for file in (*result.pictures.values(), *result.arrays.values()):
            assert sha256(artifacts.read(file)) == file
        found[name] = result.model_dump_json(exclude={"elapsed_s"})
    HASHES[settings.backend] = found
    assert found == HASHES["inline"]


def test_partial_results_come_first_and_their_files_are_there(
    backend: Backend, settings: Settings
) -> None:
    news = run(backend, 11, occlusion(settings, params={"size": 4, "stride": 1}), partials=True)
    assert isinstance(news[-1].value, UnitResult)
    partials = [one.value.partial for one in news if isinstance(one.value, Progress)]
    shown = [partial for partial in partials if partial is not None]
    assert shown
    artifacts = ArtifactStore(settings.data_dir / "artifacts")
    for partial in shown:
        assert artifacts.hold(*partial.pictures.values(), *partial.arrays.values())


def test_what_cannot_be_computed_is_the_units_error_and_the_worker_goes_on(
    backend: Backend, settings: Settings
) -> None:
    wrong = stored(settings, (1, 1, 1), target={"unit": "conv2:99"})
    value = run(backend, 21, wrong)[-1].value
    assert isinstance(value, UnitError)
    assert (value.code, value.fatal) == ("address_error", True)
    missing = run(backend, 22, stored(settings, (1, 1, 1), image="0" * 64))[-1].value
    assert isinstance(missing, UnitError)
    assert (missing.code, missing.status, missing.fatal) == ("input_missing", 404, False)
    assert isinstance(run(backend, 23, stored(settings, (1, 1, 1)))[-1].value, UnitResult)


def test_a_network_is_kept_loaded(backend: Backend, settings: Settings) -> None:
    """Loading traces the network, which takes longer than one projection of it."""
    run(backend, 31, stored(settings, (2, 1, 1)))
    news = run(backend, 32, stored(settings, (3, 1, 1)))[-1].value
    assert isinstance(news, UnitResult)
    described = run(backend, 33, UnitSpec(kind="describe", model="tiny"))[-1].value
    assert isinstance(described, UnitResult)
    assert described.elapsed_s < 0.2


def test_wake_ends_a_poll(backend: Backend) -> None:
    ready(backend)
    backend.wake()
    started = time.monotonic()
    assert backend.poll(30) == []
    assert time.monotonic() - started < 20


# Inline, a unit has ended when it is submitted, and dies with the tests.
elsewhere = pytest.mark.parametrize("settings", ["process", "ray"], indirect=True, scope="module")


@elsewhere
def test_a_unit_that_kills_its_worker_is_lost_and_the_worker_is_replaced(
    backend: Backend, settings: Settings
) -> None:
    lost = run(backend, 41, stored(settings, KILLER))[-1].value
    assert isinstance(lost, Lost)
    assert (lost.died, lost.killed, lost.away) == (True, False, False)
    assert isinstance(run(backend, 42, stored(settings, (4, 1, 1)))[-1].value, UnitResult)


@elsewhere
def test_a_unit_that_makes_steps_is_stopped_and_its_worker_stays(
    backend: Backend, settings: Settings
) -> None:
    ready(backend)
    spec = occlusion(settings, params={"size": 2, "stride": 1}, target={"class": 2})
    backend.submit(51, spec, partials=True)
    backend.stop(51)
    value = ending(backend, 51)[-1].value
    assert isinstance(value, Lost | UnitResult)  # it may have been too quick
    if isinstance(value, Lost):
        assert (value.died, value.killed) == (False, True)
    assert backend.free() == 1


@elsewhere
def test_a_unit_past_its_deadline_is_killed_and_the_next_one_is_computed(
    backend: Backend, settings: Settings
) -> None:
    ready(backend)
    inline = settings.model_copy(update={"backend": "inline", "unit_timeout_s": 2.0})
    compute = Compute(
        inline, ArtifactStore(settings.data_dir / "artifacts"), Metrics(), make_backend(inline)
    )
    compute.backend = Kept(backend)
    compute.start()
    hanging = compute.submit(stored(settings, SLEEPER), Priority.JOB)
    after = compute.submit(stored(settings, SLOW), Priority.JOB)
    error = hanging.future.exception(60)
    assert isinstance(error, UnitError)
    assert error.code == "deadline"
    assert after.future.result(120).pictures
    compute.stop(1)
