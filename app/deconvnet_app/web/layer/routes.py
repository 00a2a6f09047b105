"""A layer's grid of units; everything that was chosen is in the URL."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request

from deconvnet.index.reader import LayerStats
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.services import models
from deconvnet_app.services.units import class_name, require_layer, select, statistic
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.cards import (
    index_provenance,
    index_query,
    layer_card,
    layer_links,
    layer_row,
    neighbours,
    unit_tile,
)
from deconvnet_app.web.charts import distribution
from deconvnet_app.web.components import Fact, Link, Option
from deconvnet_app.web.formatting import count, number, percent
from deconvnet_app.web.layer.context import LayerPage
from deconvnet_app.web.render import add_page, state_of

router = APIRouter()

Sort = Literal["channel", "activation", "mean", "often", "sparse", "selectivity"]
_SORT_NAMES: dict[str, str] = {
    "channel": "number",
    "activation": "strongest activation",
    "mean": "mean activation",
    "often": "fires most often",
    "sparse": "fires most rarely",
    "selectivity": "class selectivity",
}
_SUMMARIES = {
    "channel": "Strongest activation",
    "activation": "Strongest activation",
    "mean": "Mean activation",
    "often": "Share of images in which it fires",
    "sparse": "Share of images in which it fires",
    "selectivity": "Class selectivity",
}
_ONLY_NAMES = {"": "all units", "alive": "alive", "dead": "dead"}
_SIZES = {"s": "Small", "": "Medium", "l": "Large"}
_PAGE = 600


@dataclass(frozen=True)
class _Choice:
    """The page's state, as its URL spells it."""

    index: str | None = None
    sort: str = "channel"
    only: str = ""
    label: str = ""
    q: str = ""
    view: str = ""
    size: str = ""
    offset: int = 0

    def url(self, model: str, layer: str, **changes: Any) -> str:
        """This page with some of its state changed."""
        state = vars(replace(self, **changes))
        if state["sort"] == "channel":
            state["sort"] = None
        state["offset"] = state["offset"] or None
        return Urls.layer(model, layer, **state)


def _value(stats: LayerStats, sort: str, channel: int) -> str:
    value = float(statistic(stats, sort)[channel])
    if stats.dead[channel]:
        return "dead"
    return percent(value) if sort in ("often", "sparse") else number(value)


def _facts(stats: LayerStats, card_field: int, jump: int) -> list[Fact]:
    alive = ~stats.dead
    fires = float(np.median(stats.fire_share[alive])) if alive.any() else 0.0
    return [
        Fact(name="Sees", value=f"{card_field} px"),
        Fact(name="Jump", value=f"{jump} px"),
        Fact(name="Units", value=str(len(stats.mean))),
        Fact(name="Dead", value=f"{int(stats.dead.sum())} ({percent(float(stats.dead.mean()))})"),
        Fact(name="Median unit fires in", value=percent(fires)),
    ]


def _labels(opened: Opened, stats: LayerStats, chosen: str) -> list[Option]:
    names = {label: class_name(opened.index, label) for label in stats.best_class if label}
    if len(names) < 2:
        return []
    ordered = sorted(names, key=lambda label: names[label].casefold())
    rows = [Option(value=label, label=names[label], selected=label == chosen) for label in ordered]
    return [Option(value="", label="any class", selected=not chosen), *rows]


def _page(opened: Opened, newest: Opened | None, layer: str, choice: _Choice) -> LayerPage:
    index, model = opened.index, opened.model["name"]
    stats = index.layer_stats(layer)
    named = index_query(opened, newest)
    choice = replace(choice, index=named)
    channels = select(index, layer, choice.sort, choice.only, choice.label, choice.q)
    shown = channels[choice.offset : choice.offset + _PAGE].tolist()
    card = layer_card(opened, opened.model, layer_row(opened, layer), named)
    links = layer_links(opened, layer, named)
    before, after = neighbours(links)
    matching, total = len(channels), len(stats.mean)
    more = choice.offset + _PAGE < matching
    filtered = bool(choice.only or choice.label or choice.q)
    url = choice.url(model, layer)
    of = f" of {total}" if filtered else ""
    part = (
        f"{choice.offset + 1} to {choice.offset + len(shown)} of " if len(shown) < matching else ""
    )
    shared = {"index": named, "view": choice.view, "size": choice.size}
    return LayerPage(
        title=f"{layer} of {model}",
        url=url,
        twin=twin(url),
        section="models",
        crumbs=[
            Link(label="Networks", url=Urls.home()),
            Link(label=model, url=Urls.model(model, index=named)),
            Link(label=layer, url=url, current=True),
        ],
        layer_previous=before,
        layer_following=after,
        model=model,
        layer=card,
        layers=links,
        facts=_facts(stats, card.receptive_field, card.jump),
        summary=distribution(
            f"{_SUMMARIES[choice.sort]}, all units",
            statistic(stats, choice.sort),
            "unit",
        ),
        units=[
            unit_tile(opened, layer, channel, _value(stats, choice.sort, channel), named)
            for channel in shown
        ],
        shown=len(shown),
        matching=matching,
        total=total,
        sort=[Option(value=k, label=v, selected=k == choice.sort) for k, v in _SORT_NAMES.items()],
        only=[Option(value=k, label=v, selected=k == choice.only) for k, v in _ONLY_NAMES.items()],
        labels=_labels(opened, stats, choice.label),
        search=choice.q,
        view=[
            Link(
                label="Projections", url=choice.url(model, layer, view=""), current=not choice.view
            ),
            Link(
                label="Patches",
                url=choice.url(model, layer, view="patches"),
                current=bool(choice.view),
            ),
        ],
        size=[
            Link(label=name, url=choice.url(model, layer, size=key), current=choice.size == key)
            for key, name in _SIZES.items()
        ],
        patches=bool(choice.view),
        density=choice.size,
        hidden=[(key, str(value)) for key, value in shared.items() if value],
        page_previous=choice.url(model, layer, offset=max(0, choice.offset - _PAGE))
        if choice.offset
        else "",
        page_following=choice.url(model, layer, offset=choice.offset + _PAGE) if more else "",
        range=f"{part}{count(matching, 'unit')}{of}",
        provenance=index_provenance(opened, layer),
        clear=choice.url(model, layer, only="", label="", q="", offset=0) if filtered else "",
    )


@add_page(router, Urls.LAYER, "layer.html")
def layer(
    request: Request,
    model: str,
    layer: str,
    index: str | None = None,
    sort: Sort = "channel",
    only: Literal["", "alive", "dead"] = "",
    label: Annotated[str, Query(max_length=200)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
    view: Literal["", "patches"] = "",
    size: Literal["", "s", "l"] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
) -> LayerPage:
    """A layer's units, sorted and filtered as asked."""
    state = state_of(request)
    opened = models.choose_index(state, model, index)
    require_layer(opened.index, layer)
    newest = state.indexes.for_model(model)[0]
    choice = _Choice(index, sort, only, label, q, view, size, offset)
    return _page(opened, newest, layer, choice)
