"""A network's diagram, which is the way to its layers."""

import asyncio

from fastapi import APIRouter, Request

from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.services import models
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.cards import (
    Description,
    index_card,
    index_provenance,
    index_query,
    layer_card,
    model_card,
    model_facts,
)
from deconvnet_app.web.components import LayerCard, Link
from deconvnet_app.web.model.context import ModelPage
from deconvnet_app.web.render import add_page, state_of

router = APIRouter()

_WAIT_S = 8.0  # for a network that has no index, and so must be loaded to be described
_FRESH_S = 0.3  # whether the index is current may be known on the next visit
_SAMPLES = 4


def _page(
    model: Description,
    opened: Opened | None,
    all_indexes: list[Opened],
    stale: str = "",
    no_weights: str = "",
) -> ModelPage:
    newest = all_indexes[0] if all_indexes else None
    index = index_query(opened, newest) if opened else None
    landmarks = set(model["landmarks"])
    stages: list[LayerCard] = []
    others: list[LayerCard] = []
    for row in model["layers"]:
        if row["name"] in landmarks:
            stages.append(layer_card(opened, model, row, index, _SAMPLES))
        else:
            others.append(layer_card(opened, model, row, index))
    stages.sort(key=lambda card: model["landmarks"].index(card.name))
    url = Urls.model(model["name"], index=index)
    return ModelPage(
        title=model["name"],
        url=url,
        twin=twin(url),
        section="models",
        crumbs=[
            Link(label="Networks", url=Urls.home()),
            Link(label=model["name"], url=url, current=True),
        ],
        card=model_card(model, opened, index),
        no_weights=no_weights,
        facts=model_facts(model),
        stages=stages,
        provenance=index_provenance(opened, "units of each layer") if opened else "",
        others=others,
        indexes=[
            index_card(
                one,
                current=opened is not None and one.id == opened.id,
                stale=stale if opened is not None and one.id == opened.id else "",
            )
            for one in all_indexes
        ],
    )


@add_page(router, Urls.MODEL, "model.html")
async def model(request: Request, model: str, index: str | None = None) -> ModelPage:
    """A network as a diagram; without weights here, what its architecture alone tells."""
    state = state_of(request)
    await asyncio.to_thread(models.require_model, state, model)
    indexes = await asyncio.to_thread(state.indexes.for_model, model)
    if not indexes and index is None:
        description, why = await models.described_or_bare(state, model, _WAIT_S)
        return await asyncio.to_thread(_page, description, None, [], no_weights=why)
    opened = await asyncio.to_thread(state.indexes.choose, model, index)
    stale = await models.freshness(state, opened, _FRESH_S)
    return await asyncio.to_thread(_page, opened.model, opened, indexes, stale)
