"""The occlusion page: a picture, a sliding square, and what it does to the answer."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import UploadFile

from deconvnet import methods
from deconvnet.address import Unit
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.compute.spec import Progress, UnitError, UnitResult, UnitSpec
from deconvnet_app.errors import Refusal
from deconvnet_app.services import explain, models, uploads
from deconvnet_app.services.units import class_name, spatial_layers, telling
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.components import Fact, Link, Option, Picture
from deconvnet_app.web.formatting import percent, short
from deconvnet_app.web.forms import make_fields
from deconvnet_app.web.occlusion.context import OcclusionPage, Underway
from deconvnet_app.web.occlusion.progress import complete, incomplete
from deconvnet_app.web.occlusion.view import make_result
from deconvnet_app.web.render import add_page, html, state_of

router = APIRouter()

METHOD = "occlusion"
_WAIT_S = 5.0  # for the first thing there is to show; with it, the page goes on by itself
_WAIT_FORM_S = 1.0  # for the numbers that an empty form begins with
_SAMPLES = 15
_MIB = 1024 * 1024
_MAPS = "#occlusion-main"  # on a narrow screen the maps stand below the controls


@dataclass(frozen=True)
class _Choice:
    """The page's state, as its URL spells it."""

    model: str
    image: str
    size: int
    stride: int
    fill: str
    target: int | None
    stopped: bool = False

    def url(self, **changes: Any) -> str:
        """This page with some of its state changed."""
        return Urls.occlusion(**{**vars(self), **changes})

    @property
    def params(self) -> dict[str, Any]:
        """The method's parameters."""
        return {"size": self.size, "stride": self.stride, "fill": self.fill}

    def unit(self, sha256: str) -> UnitSpec:
        """What a worker is asked for."""
        target = None if self.target is None else {"class": self.target}
        return explain.asked(self.model, sha256, METHOD, self.params, target)

    def form(self) -> list[tuple[str, str]]:
        """The same, as a form's fields."""
        return [(k, str(v)) for k, v in vars(self).items() if v is not None and k != "stopped"]


@dataclass(frozen=True)
class _Found:
    """What the workers gave; `map` may be on its way."""

    map: UnitResult | Progress | None = None
    projection: UnitResult | None = None
    predictions: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""

    @property
    def shown(self) -> UnitResult | None:
        """The map, or what there is of it."""
        return self.map.partial if isinstance(self.map, Progress) else self.map

    def underway(self, choice: _Choice) -> Underway | None:
        """How far the map is."""
        if isinstance(self.map, UnitResult):
            return complete(self.map, self.projection)
        if self.map is None:
            return None
        again = choice.url(stopped=False) + _MAPS if choice.stopped else ""
        return incomplete(self.map, choice.stride, choice.form(), again)


def _samples(opened: Opened | None, choice: _Choice) -> list[Link]:
    """The strongest image of telling units, each photograph once."""
    if opened is None or opened.index.rule is None:
        return []
    index = opened.index
    links: list[Link] = []
    seen: set[str] = set()
    layers = spatial_layers(index)
    for channel in telling(index, layers[-1], 4 * _SAMPLES) if layers else []:
        hit = index.top(Unit(layers[-1], channel))[0]
        source = hit.group or hit.label or hit.path
        if source in seen or len(links) == _SAMPLES:
            continue
        seen.add(source)
        address = f"{opened.id}/{hit.image_id}"
        links.append(
            Link(
                label=class_name(index, hit.label) or f"image {hit.image_id}",
                url=choice.url(image=address, target=None) + _MAPS,
                title=Urls.image(opened.id, hit.image_id, index.id),
                current=address == choice.image,
            )
        )
    return links


def _page(
    state: AppState,
    choice: _Choice,
    names: list[str],
    chosen: explain.Chosen | None,
    found: _Found,
    opened: Opened | None,
) -> OcclusionPage:
    url = choice.url() if chosen else Urls.occlusion(model=choice.model)
    schema = methods.get(METHOD).Params.model_json_schema()
    limits = state.settings
    result = None
    if chosen is not None and found.shown is not None:
        result = make_result(state, found.shown, found.projection, choice.image, choice.stride)
    return OcclusionPage(
        title="Occlusion" + (f" of {chosen.name}" if chosen else ""),
        url=url,
        twin=twin(url),
        section="occlusion",
        models=[Option(value=n, label=n, selected=n == choice.model) for n in names],
        image=choice.image,
        target="" if choice.target is None else str(choice.target),
        chosen=Picture(
            src=Urls.artifact(f"{chosen.sha256}.png"),
            width=chosen.width,
            height=chosen.height,
            alt=chosen.name,
            provenance=chosen.name,
        )
        if chosen
        else None,
        samples=_samples(opened, choice),
        fields=make_fields(schema, choice.params),
        predictions=[
            Fact(
                name=short(row["name"]),
                value=percent(row["probability"]),
                meter=row["probability"],
                url=choice.url(target=row["class"]),
                hint="mapped" if result and result.target == row["class"] else "",
            )
            for row in found.predictions
        ],
        result=result,
        problem=found.problem,
        underway=found.underway(choice),
        notes=list(chosen.notes) if chosen else [],
        limits=f"JPEG, PNG, WebP, BMP or GIF, up to {limits.file_bytes // _MIB} MiB and "
        f"{limits.image_pixels // 10**6} megapixels; drop or paste works too.",
        python=_python(choice),
    )


def _python(choice: _Choice) -> str:
    target = "" if choice.target is None else f"target={choice.target}, "
    return (
        "import deconvnet as dn\n"
        "from PIL import Image\n\n"
        f'net = dn.load("{choice.model}")\n'
        'x = net.preprocess(Image.open("picture.jpg"))\n'
        f"m = dn.occlusion(net, x, {target}size={choice.size}, stride={choice.stride}, "
        f'fill="{choice.fill}")\n'
        "m.probability, m.activity, m.label"
    )


async def _compute(state: AppState, choice: _Choice, image: str) -> _Found:
    spec, said = choice.unit(image), []
    try:
        said = await explain.predictions(state, choice.model, image, _WAIT_S)
        if choice.stopped:
            found = await asyncio.to_thread(state.compute.seen, spec)
        else:
            found = await state.compute.look(spec, _WAIT_S)
        if isinstance(found, Progress):
            return _Found(found, None, tuple(said))
        unit, rules = {"unit": found.facts["unit"]}, found.facts["rules"]
        ask = partial(explain.explain, state, choice.model, image)
        below = await ask(rules[0], {}, unit, _WAIT_S) if rules else None
    except UnitError as error:
        if error.code == "not_ready":
            return _Found(Progress(), None, tuple(said))
        return _Found(problem=models.remedy(error, choice.model))
    return _Found(found, below, tuple(said))


async def _usual(
    state: AppState, model: str, indexes: list[Opened], wait: float
) -> tuple[int, int]:
    """A size and stride that suit the network's input: a quarter of a small one's side.

    Args:
        wait: seconds, for a network without an index to be described.
    """
    described = indexes[0].model if indexes else None
    if described is None:
        with contextlib.suppress(Refusal):  # the page says why, once it is asked for a map
            described, _ = await models.described_or_bare(state, model, wait)
    side = min(described["input_size"][1:]) if described else 224
    size = min(side, max(4, side // 4 if side <= 96 else side // 6))
    return size, max(1, size // 4)


@add_page(router, Urls.OCCLUSION, "occlusion.html")
async def occlusion(
    request: Request,
    model: str | None = None,
    image: Annotated[str, Query(max_length=200)] = "",
    size: Annotated[int | None, Query(ge=1, le=4096)] = None,
    stride: Annotated[int | None, Query(ge=1, le=4096)] = None,
    fill: Annotated[str, Query(max_length=20)] = "grey",
    target: Annotated[str, Query(pattern=r"^\d{0,6}$", description="empty: the predicted")] = "",
    stopped: bool = False,
) -> OcclusionPage:
    """The maps of a picture under a sliding square; `stopped`: what there is of them."""
    state = state_of(request)
    names = await asyncio.to_thread(models.all_names, state)
    model = names[0] if model is None else model
    await asyncio.to_thread(models.require_model, state, model)
    indexes = await asyncio.to_thread(state.indexes.for_model, model)
    any_index = indexes or await asyncio.to_thread(state.indexes.all)
    wanted = int(target) if target else None
    wait = _WAIT_S if image else _WAIT_FORM_S
    usual = (size, stride) if size and stride else await _usual(state, model, indexes, wait)
    choice = _Choice(model, image, size or usual[0], stride or usual[1], fill, wanted, stopped)
    chosen, found = None, _Found()
    if image:
        chosen = await asyncio.to_thread(explain.find_image, state, image)
        found = await _compute(state, choice, chosen.sha256)
    opened = any_index[0] if any_index else None
    return await asyncio.to_thread(_page, state, choice, names, chosen, found, opened)


@router.post(Urls.OCCLUSION_STOP, include_in_schema=False)
async def stop(
    request: Request,
    model: Annotated[str, Form()],
    image: Annotated[str, Form(max_length=200)],
    size: Annotated[int, Form(ge=1, le=4096)],
    stride: Annotated[int, Form(ge=1, le=4096)],
    fill: Annotated[str, Form(max_length=20)],
    target: Annotated[int | None, Form(ge=0)] = None,
) -> Response:
    """Compute these maps no further, and show what there is of them."""
    state = state_of(request)
    choice = _Choice(model, image, size, stride, fill, target, stopped=True)
    chosen = await asyncio.to_thread(explain.find_image, state, image)
    await asyncio.to_thread(state.compute.abandon, choice.unit(chosen.sha256))
    return RedirectResponse(choice.url() + _MAPS, 303)


async def _keep(state: AppState, file: UploadFile | str | None) -> uploads.StoredImage:
    if not isinstance(file, UploadFile) or not file.filename:
        raise Refusal(422, "no_file", "No picture was sent. Choose a file first.")
    data = await file.read(state.settings.file_bytes + 1)
    return await asyncio.to_thread(uploads.store_image, state, data, file.filename)


@router.post(Urls.OCCLUSION, include_in_schema=False)
async def upload(request: Request) -> Response:
    """Take a picture, keep it, and go to its page."""
    state = state_of(request)
    async with request.form(max_files=1, max_fields=20) as form:
        model = form.get("model")
        name = model if isinstance(model, str) else None
        try:
            kept = await _keep(state, form.get("file"))
        except Refusal as refusal:
            page = await occlusion(request, name)
            page = page.model_copy(update={"problem": refusal.detail})
            return html("occlusion.html", page, refusal.status)
    return RedirectResponse(Urls.occlusion(model=name, image=kept.id) + _MAPS, 303)
