"""A layer's kernels, the odd ones marked with the number that says so."""

import asyncio
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request

from deconvnet.address import Unit
from deconvnet.analyses.filters import DEAD, DOMINANT
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.compute.spec import UnitError, UnitResult
from deconvnet_app.services import explain, models
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.cards import Description
from deconvnet_app.web.charts import distribution, inset
from deconvnet_app.web.components import Crop, Fact, Link
from deconvnet_app.web.filters.context import FilterCell, FiltersPage
from deconvnet_app.web.formatting import number, shape
from deconvnet_app.web.render import add_page, state_of

router = APIRouter()

_WAIT_S = 20.0
_NOTES = {
    "dead": f"below {DEAD:g} of the layer's median",
    "dominant": f"above {DOMINANT:g} times the layer's median",
}


def _cells(model: str, layer: str, made: UnitResult, linked: bool) -> list[FilterCell]:
    facts = made.facts
    cells = facts["cells"]
    columns, side = cells["columns"], cells["side"]
    rows = -(-len(facts["rms"]) // columns)
    src = Urls.artifact(f"{made.pictures['grid']}.png")
    found = []
    for channel, rms in enumerate(facts["rms"]):
        row, column = divmod(channel, columns)
        mark: Literal["", "dead", "dominant"] = ""
        if facts["dead"][channel]:
            mark = "dead"
        elif facts["dominant"][channel]:
            mark = "dominant"
        note = f"{layer}:{channel} · RMS {number(rms)}"
        found.append(
            FilterCell(
                channel=channel,
                crop=Crop(
                    src=src,
                    sheet_width=columns * side,
                    sheet_height=rows * side,
                    **inset(column * side, row * side, side),
                    alt=f"Filter {channel}, RMS {number(rms)}",
                ),
                url=Urls.unit(model, Unit(layer, channel)) if linked else "",
                rms=number(rms),
                mark=mark,
                mark_note=f"{note}, {mark}: {_NOTES[mark]}" if mark else note,
            )
        )
    return found


def _facts(facts: Description) -> list[Fact]:
    rms = np.array(facts["rms"])
    return [
        Fact(name="Kernels", value=shape(facts["shape"])),
        Fact(name="Call site", value=facts["node"]),
        Fact(name="Median RMS", value=number(float(np.median(rms)))),
        Fact(name="Dead", value=str(sum(facts["dead"])), hint=_NOTES["dead"]),
        Fact(name="Dominant", value=str(sum(facts["dominant"])), hint=_NOTES["dominant"]),
    ]


def _layers(model: Description, layer: str) -> list[Link]:
    name = model["name"]
    rows = {row["name"]: row for row in model["layers"]}
    return [
        Link(label=one, url=Urls.filters(name, one), current=one == layer)
        for one in model["landmarks"]
        if len(rows[one]["shape"]) == 3
    ]


def _page(
    model: Description, opened: Opened | None, layer: str, scale: str, made: UnitResult | str
) -> FiltersPage:
    name = model["name"]
    url = Urls.filters(name, layer, scale=scale)
    done = made if isinstance(made, UnitResult) else None
    linked = opened is not None and layer in opened.index.layers
    coloured = done is not None and done.facts["coloured"]
    return FiltersPage(
        title=f"Filters of {layer}, {name}",
        url=url,
        twin=twin(url),
        section="models",
        crumbs=[
            Link(label="Networks", url=Urls.home()),
            Link(label=name, url=Urls.model(name)),
            Link(label=f"{layer} filters", url=url, current=True),
        ],
        model=name,
        layer=layer,
        layers=_layers(model, layer),
        facts=_facts(done.facts) if done else [],
        cells=_cells(name, layer, done, linked) if done else [],
        scales=[
            Link(label=label, url=Urls.filters(name, layer, scale=value), current=value == scale)
            for value, label in (("", "Each its own scale"), ("shared", "One scale for all"))
        ],
        spread=distribution("Filters by their RMS", np.array(done.facts["rms"]), "filter")
        if done
        else None,
        provenance=f"{done.provenance}, zero is mid-grey" if done else "",
        waiting=made if isinstance(made, str) else "",
        note="The kernels in colour, as they meet the image."
        if coloured
        else "Each tile is one filter: its kernels on all input channels, in order.",
    )


async def _model(state: AppState, model: str) -> tuple[Description, Opened | None]:
    await asyncio.to_thread(models.require_model, state, model)
    indexes = await asyncio.to_thread(state.indexes.for_model, model)
    if indexes:
        return indexes[0].model, indexes[0]
    return await models.described(state, model, _WAIT_S), None


@add_page(router, Urls.FILTERS, "filters.html")
async def filters(
    request: Request, model: str, layer: str, scale: Literal["", "shared"] = ""
) -> FiltersPage:
    """A layer's kernels with their diagnostics."""
    state = state_of(request)
    description, opened = await _model(state, model)
    how: explain.Contrast = "shared" if scale else "own"
    made: UnitResult | str
    try:
        made = await explain.filters(state, model, layer, how, _WAIT_S)
    except UnitError as error:
        if error.code != "not_ready":
            raise
        made = error.detail
    return await asyncio.to_thread(_page, description, opened, layer, scale, made)
