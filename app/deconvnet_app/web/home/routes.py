"""The start page, and the jump to whatever a text names."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from deconvnet.address import Unit
from deconvnet.errors import AddressError
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.services import jobs, models
from deconvnet_app.services.units import spatial_layers, telling
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.cards import (
    has_pictures,
    index_provenance,
    layer_card,
    layer_row,
    model_card,
    unit_sentence,
    unit_tile,
)
from deconvnet_app.web.charts import crops
from deconvnet_app.web.components import LayerCard, Link
from deconvnet_app.web.formatting import number
from deconvnet_app.web.home.context import Feature, HomePage
from deconvnet_app.web.jobs.rows import job_row
from deconvnet_app.web.render import add_page, state_of

router = APIRouter()

_SAMPLES = 4
_STAGES = 5
_CHOICE = 40  # telling units per layer, shown one after another


def _feature(opened: Opened, seed: int) -> Feature | None:
    index = opened.index
    deep = (spatial_layers(index)[2:] or spatial_layers(index))[::-1]
    best = {layer: telling(index, layer, index.channels(layer))[:_CHOICE] for layer in deep}
    turns = [(layer, best[layer][turn]) for turn in range(_CHOICE) for layer in deep
             if turn < len(best[layer])]  # fmt: skip
    if not turns or not has_pictures(opened):
        return None
    layer, channel = turns[seed % len(turns)]
    unit = Unit(layer, channel)
    tile = unit_tile(opened, layer, channel, "", None)
    if tile.sheet is None:
        return None
    texts = [
        (f"Projection {n + 1}, activation {number(hit.value)}", f"Patch {n + 1}")
        for n, hit in enumerate(index.top(unit)[:9])
    ]
    pairs = crops(tile.sheet.src, index.tile(layer), index.k, texts)
    return Feature(
        tile=tile,
        layer=layer,
        sentence=unit_sentence(opened, unit),
        facts=[],
        another=Urls.home(seed=seed + 1),
        crops=pairs,
    )


def _ladder(opened: Opened, seed: int) -> list[LayerCard]:
    layers = spatial_layers(opened.index)[:_STAGES]
    model = opened.model
    return [
        layer_card(opened, model, layer_row(opened, layer), None, _SAMPLES, seed)
        for layer in layers
    ]


def _link(model: str) -> Link:
    return Link(label=model, url=Urls.model(model))


@add_page(router, Urls.HOME, "home.html", "/home.json")
def home(request: Request, seed: Annotated[int, Query(ge=0, le=10**9)] = 0) -> HomePage:
    """Networks, indexes, running jobs and a unit worth looking at."""
    state = state_of(request)
    indexed = models.indexed_models(state)
    newest = indexed[0][1] if indexed else None
    rest = models.all_names(state)[len(indexed) :]
    ready = {name: models.has_weights(state, name) for name in rest}
    url = Urls.home(seed=seed or None)
    return HomePage(
        title="What each unit looks for",
        url=url,
        twin=twin(url),
        section="models",
        feature=_feature(newest, seed) if newest else None,
        ladder=_ladder(newest, seed) if newest and has_pictures(newest) else [],
        provenance=index_provenance(newest, "units of each layer") if newest else "",
        models=[model_card(model, opened, None) for model, opened in indexed],
        others=[_link(name) for name in rest if ready[name]],
        bare=[_link(name) for name in rest if not ready[name]],
        problems=state.indexes.problems(),
        jobs=[job_row(job) for job in jobs.listing(state, None, None, 5)[0]],
    )


def _destination(state: AppState, text: str) -> str:
    indexed = models.indexed_models(state)
    for model, opened in indexed:
        if text == model["name"]:
            return Urls.model(text)
        if text in opened.index.layers:
            return Urls.layer(model["name"], text)
    try:
        unit = Unit.parse(text)
    except AddressError:
        unit = None
    for model, opened in indexed:
        if unit is not None and unit.layer in opened.index.layers:
            return Urls.unit(model["name"], Unit(unit.layer, unit.channel))
    if indexed:
        model, opened = indexed[0]
        deepest = (spatial_layers(opened.index) or list(opened.index.layers))[-1]
        return Urls.layer(model["name"], deepest, q=text, sort="selectivity")
    return Urls.home()


@router.get(Urls.SEARCH, include_in_schema=False)
def search(request: Request, q: Annotated[str, Query(max_length=200)] = "") -> RedirectResponse:
    """A unit, layer or network by its name; any other text is looked for among the classes."""
    text = q.strip()
    target = _destination(state_of(request), text) if text else Urls.home()
    return RedirectResponse(target, 303)
