"""A unit's page: what it is on the left, the evidence on the right."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from app.compute.units import UnitError
from app.contexts import Crop, Fact, Link, Pair, UnitPage
from app.errors import Refusal
from app.services.explain import RULES, Contrast, Sheet, rule_sheet
from app.services.index import Opened, class_name, require_layer, similar
from app.urls import Urls, twin
from app.web.figures import crops, cut, histogram
from app.web.present import (
    has_pictures,
    index_provenance,
    index_query,
    layer_links,
    layer_row,
    unit_sentence,
    unit_tile,
)
from app.web.render import add_page, state_of
from app.web.words import count, number, percent
from deconvnet.address import Unit
from deconvnet.errors import AddressError
from deconvnet.index import COLUMNS, Hit, UnitStats

router = APIRouter()

_WAIT_S = 8.0
_NEIGHBOURS = 8
_NINE = 9
_CRISP = 32


def _facts(opened: Opened, unit: Unit, stats: UnitStats) -> list[Fact]:
    row = layer_row(opened, unit.layer)
    best = class_name(opened.index, stats.best_class)
    facts = [
        Fact(name="Fires in", value=percent(stats.fire_share), meter=stats.fire_share),
        Fact(name="Largest activation", value=number(stats.max)),
        Fact(name="Mean, deviation", value=f"{number(stats.mean)} ± {number(stats.std)}"),
    ]
    if stats.selectivity is not None:
        facts.append(
            Fact(
                name="Class selectivity",
                hint="0: all classes alike, 1: one alone",
                value=number(stats.selectivity),
                meter=min(1.0, max(0.0, stats.selectivity)),
            )
        )
    if best:
        facts.append(Fact(name="Strongest class", value=best))
    return [
        *facts,
        Fact(name="Sees", value=f"{row['receptive_field']} px, every {row['jump']} px"),
    ]


def _classes(opened: Opened, unit: Unit, stats: UnitStats, index: str | None) -> list[Fact]:
    if not stats.class_means or stats.class_means[0][1] <= 0:
        return []
    top = stats.class_means[0][1]
    model = opened.model["name"]
    return [
        Fact(
            name=class_name(opened.index, label),
            value=number(mean),
            meter=max(0.0, mean / top),
            url=Urls.layer(model, unit.layer, index=index, label=label, sort="mean"),
        )
        for label, mean in stats.class_means
    ]


def _pairs(
    opened: Opened, unit: Unit, hits: list[Hit], sheet: Sheet | None, own: bool
) -> list[Pair]:
    """One pair per hit; projections from `sheet`, or from the index's own where `own`."""
    index = opened.index
    tile = index.tile(unit.layer)
    texts = [
        (
            f"Projection of hit {n}, activation {number(hit.value)}",
            f"Patch of hit {n}" + (f", {class_name(index, hit.label)}" if hit.label else ""),
        )
        for n, hit in enumerate(hits, 1)
    ]
    pictures: list[tuple[Crop | None, Crop | None]] = [(None, None)] * len(hits)
    if has_pictures(opened):
        src = Urls.sprite(opened.id, unit.layer, unit.channel, index.id)
        found = crops(src, tile, index.k, texts)
        rows = -(-index.k // COLUMNS)
        made = Urls.artifact(f"{sheet.artifact}.png") if sheet else ""
        pictures = []
        for n, (projection, patch) in enumerate(found):
            other = cut(made, tile, (rows, COLUMNS), n, texts[n][0]) if made else None
            pictures.append((projection if own else other, patch))
    model = opened.model["name"]
    return [
        Pair(
            rank=rank,
            projection=projection,
            patch=patch,
            value=number(hit.value),
            position=f"{hit.position[0]}, {hit.position[1]}",
            label=class_name(index, hit.label),
            path=hit.path,
            image=Urls.image(opened.id, hit.image_id, index.id) if has_pictures(opened) else "",
            occlude=Urls.occlusion(model=model, image=f"{opened.id}/{hit.image_id}")
            if has_pictures(opened)
            else "",
        )
        for rank, (hit, (projection, patch)) in enumerate(zip(hits, pictures, strict=True), 1)
    ]


def _rules(opened: Opened, unit: Unit, rule: str, contrast: str, index: str | None) -> list[Link]:
    model = opened.model["name"]
    return [
        Link(
            label=name.capitalize(),
            url=Urls.unit(model, unit, index=index, rule=name, contrast=contrast),
            current=name == (rule or opened.index.rule),
            title=_RULE_TITLES[name],
        )
        for name in RULES
    ]


_RULE_TITLES = {
    "deconv": "ReLU rectifies what comes back (Zeiler & Fergus 2013)",
    "guided": "… and also where the forward pass was zero (Springenberg et al. 2014)",
    "gradient": "the derivative itself (Simonyan et al. 2013)",
}


def _contrasts(opened: Opened, unit: Unit, rule: str, chosen: str, index: str | None) -> list[Link]:
    if not rule:
        return []
    model = opened.model["name"]
    return [
        Link(
            label=label,
            url=Urls.unit(model, unit, index=index, rule=rule, contrast=value),
            current=value == chosen,
        )
        for value, label in (("", "One scale for all rules"), ("own", "Own scale"))
    ]


def _python(opened: Opened, unit: Unit, hits: list[Hit], rule: str) -> str:
    at = unit.at(*hits[0].position) if hits else unit
    name = opened.model["name"]
    path = hits[0].path if hits else "image.jpg"
    extra = f', rule="{rule}"' if rule and rule != "deconv" else ""
    return (
        "import deconvnet as dn\n"
        "from PIL import Image\n\n"
        f'net = dn.load("{name}")\n'
        f"x = net.preprocess(Image.open({path!r}))\n"
        f'p = dn.project(net, x, "{at}"{extra})\n'
        "p.pixels, p.region, p.value"
    )


def _cite(opened: Opened, unit: Unit) -> str:
    index, model = opened.index, opened.model
    return (
        f"{unit} of {model['name']} (weights {model['weights_hash'][:16]}), top {index.k} of "
        f"{count(index.dataset['count'], 'image')} of {index.dataset['name']}, "
        f"index {index.id[:16]}. Method: Zeiler & Fergus, arXiv:1311.2901."
    )


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
        facts=_facts(opened, unit, stats),
        histogram=histogram(
            "Images by their largest activation",
            stats.histogram.edges,
            stats.histogram.counts,
            "image",
        ),
        classes=_classes(opened, unit, stats, named),
        neighbours=[
            unit_tile(opened, unit.layer, channel, f"{shared}/{len(hits)}", named)
            for channel, shared in common
        ],
        layers=layer_links(opened, unit.layer, named),
        rules=_rules(opened, unit, rule, contrast, named),
        contrasts=_contrasts(opened, unit, rule, contrast, named),
        rule=rule or str(index.rule),
        pairs=_pairs(opened, unit, hits, sheet, own=not rule),
        crisp=index.tile(unit.layer) < _CRISP,
        nine=len(hits) == _NINE and index.k == _NINE,
        provenance=provenance,
        waiting=made if isinstance(made, str) else "",
        downloads=downloads,
        cite=_cite(opened, unit),
        python=_python(opened, unit, hits, rule),
    )


@add_page(router, Urls.UNIT, "unit.html")
async def unit(
    request: Request,
    model: str,
    unit: Annotated[str, Path(max_length=300)],
    index: str | None = None,
    rule: Literal["", "deconv", "guided", "gradient"] = "",
    contrast: Literal["", "own"] = "",
) -> UnitPage | Response:
    """A unit: its statistics and its strongest images."""
    state = state_of(request)
    try:
        address = Unit.parse(unit)
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error
    opened = await asyncio.to_thread(state.indexes.choose, model, index)
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
