"""A unit's page: what it is on the left, the evidence on the right."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from deconvnet.address import Unit
from deconvnet.errors import AddressError
from deconvnet.ops.base import Rule
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.compute.spec import UnitError
from deconvnet_app.errors import Refusal
from deconvnet_app.services import models
from deconvnet_app.services.explain import Contrast, Sheet, rule_sheet
from deconvnet_app.services.units import require_layer, similar
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.cards import (
    has_pictures,
    index_provenance,
    index_query,
    layer_links,
    unit_sentence,
    unit_tile,
)
from deconvnet_app.web.charts import histogram
from deconvnet_app.web.components import Link
from deconvnet_app.web.render import add_page, state_of
from deconvnet_app.web.unit.context import UnitPage
from deconvnet_app.web.unit.view import (
    citation,
    class_facts,
    contrast_links,
    make_pairs,
    python_twin,
    rule_links,
    unit_facts,
)

router = APIRouter()

_WAIT_S = 8.0
_NEIGHBOURS = 8
_NINE = 9
_CRISP = 32


def _steps(
    opened: Opened, unit: Unit, query: dict[str, str | None]
) -> tuple[Link | None, Link | None]:
    model = opened.model["name"]

    def at(channel: int) -> Link | None:
        if not 0 <= channel < opened.index.channels(unit.layer):
            return None
        other = Unit(unit.layer, channel)
        return Link(label=str(other), url=Urls.unit(model, other, **query))

    return at(unit.channel - 1), at(unit.channel + 1)


def _beside(opened: Opened, unit: Unit, step: int, query: dict[str, str | None]) -> Link | None:
    """The unit of the same number in the layer before or after, or that layer's last unit."""
    layers = opened.index.layers
    place = layers.index(unit.layer) + step
    if not 0 <= place < len(layers):
        return None
    layer = layers[place]
    other = Unit(layer, min(unit.channel, opened.index.channels(layer) - 1))
    return Link(label=str(other), url=Urls.unit(opened.model["name"], other, **query))


def _page(
    opened: Opened, newest: Opened, unit: Unit, rule: str, contrast: str, made: Sheet | str | None
) -> UnitPage:
    index, model = opened.index, opened.model["name"]
    stats = index.stats(unit)
    named = index_query(opened, newest)
    hits = [] if stats.dead else index.top(unit)
    query = {"index": named, "rule": rule, "contrast": contrast}
    before, after = _steps(opened, unit, query)
    url = Urls.unit(model, unit, **query)
    sheet = made if isinstance(made, Sheet) else None
    provenance = sheet.provenance if sheet else index_provenance(opened, str(unit))
    downloads = [Link(label="JSON", url=twin(url), title=f"{model}-{unit}.json".replace(":", "-"))]
    if has_pictures(opened) and not stats.dead:
        sprite = Urls.sprite(opened.id, unit.layer, unit.channel, index.id)
        name = f"{model}-{unit}.png".replace(":", "-")
        downloads.insert(0, Link(label="PNG", url=sprite, title=name))
    common = similar(index, unit, _NEIGHBOURS) if not stats.dead else []
    return UnitPage(
        title=f"{unit} of {model}",
        url=url,
        twin=twin(url),
        section="models",
        crumbs=[
            Link(label="Networks", url=Urls.home()),
            Link(label=model, url=Urls.model(model, index=named)),
            Link(label=unit.layer, url=Urls.layer(model, unit.layer, index=named)),
            Link(label=str(unit.channel), url=url, current=True),
        ],
        previous=before,
        following=after,
        layer_previous=_beside(opened, unit, -1, query),
        layer_following=_beside(opened, unit, 1, query),
        model=model,
        address=str(unit),
        layer=unit.layer,
        channel=unit.channel,
        dead=stats.dead,
        sentence=unit_sentence(opened, unit),
        facts=unit_facts(opened, unit, stats),
        histogram=histogram(
            "Images by their largest activation",
            stats.histogram.edges,
            stats.histogram.counts,
            "image",
        ),
        classes=class_facts(opened, unit, stats, named),
        neighbours=[
            unit_tile(opened, unit.layer, channel, f"{shared}/{len(hits)}", named)
            for channel, shared in common
        ],
        layers=layer_links(opened, unit.layer, named),
        rules=rule_links(opened, unit, rule, contrast, named),
        contrasts=contrast_links(opened, unit, rule, contrast, named),
        rule=rule or str(index.rule),
        pairs=make_pairs(opened, unit, hits, sheet, own=not rule),
        crisp=index.tile(unit.layer) < _CRISP,
        nine=len(hits) == _NINE and index.k == _NINE,
        provenance=provenance,
        waiting=made if isinstance(made, str) else "",
        downloads=downloads,
        cite=citation(opened, unit),
        python=python_twin(opened, unit, hits, rule),
    )


@add_page(router, Urls.UNIT, "unit.html")
async def unit(
    request: Request,
    model: str,
    unit: Annotated[str, Path(max_length=300)],
    index: str | None = None,
    rule: Rule | Literal[""] = "",
    contrast: Literal["", "own"] = "",
) -> UnitPage | Response:
    """A unit: its statistics and its strongest images."""
    state = state_of(request)
    try:
        address = Unit.parse(unit)
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error
    opened = await asyncio.to_thread(models.choose_index, state, model, index)
    require_layer(opened.index, address.layer)
    if address.y is not None:
        plain = Unit(address.layer, address.channel)
        return RedirectResponse(Urls.unit(model, plain, index=index, rule=rule), 307)
    try:
        dead = opened.index.stats(address).dead
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error
    made: Sheet | str | None = None
    if rule and not dead:
        how: Contrast = "own" if contrast == "own" else "shared"
        try:
            made = await rule_sheet(state, opened, address, rule, how, _WAIT_S)
        except UnitError as error:
            made = error.detail
    newest = (await asyncio.to_thread(state.indexes.for_model, model))[0]
    return await asyncio.to_thread(_page, opened, newest, address, rule, contrast, made)
