"""Parts of Contexts that several pages share: tiles, cards, navigation, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from deconvnet.address import Unit
from deconvnet.index.store import COLUMNS
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.services.units import class_name, telling
from deconvnet_app.urls import Urls
from deconvnet_app.web.charts import field, volume
from deconvnet_app.web.components import (
    Fact,
    IndexCard,
    LayerCard,
    Link,
    ModelCard,
    Picture,
    UnitTile,
)
from deconvnet_app.web.formatting import ago, count, number, percent, shape, stamp

Description = Mapping[str, Any]  # a network in JSON values, as deconvnet.graph.describe gives it

_CRISP = 32  # tiles of fewer pixels than this are shown as blocks, so that pixels stay visible


def index_query(opened: Opened, newest: Opened | None) -> str | None:
    """The index's id if a URL must name it: not the one that is shown anyway."""
    return None if newest is not None and newest.id == opened.id else opened.id


def layer_row(opened: Opened, layer: str) -> Description:
    """What the network's description says of a layer."""
    rows: Sequence[Description] = opened.model["layers"]
    return next(row for row in rows if row["name"] == layer)


def index_provenance(opened: Opened, unit: str) -> str:
    """The line under a picture that comes from an index."""
    index = opened.index
    model = opened.model
    return (
        f"{model['name']} {model['weights_hash'][:12]} · {unit} · strongest positions · "
        f"rule {index.rule} · one scale for the unit's projections, zero is mid-grey · "
        f"{index.dataset['name']}, {count(index.dataset['count'], 'image')} · index {index.id[:12]}"
    )


def unit_sentence(opened: Opened, unit: Unit) -> str:
    """What the statistics say of a unit, in words."""
    stats = opened.index.stats(unit)
    if stats.dead:
        return f"Never fires in {count(stats.images, 'image')}."
    sentence = f"Fires in {percent(stats.fire_share)} of {count(stats.images, 'image')}"
    if stats.best_class:
        sentence += f", most for {class_name(opened.index, stats.best_class)}"
    return sentence + "."


def has_pictures(opened: Opened) -> bool:
    """Whether the index was built with sprites."""
    return opened.index.rule is not None


def unit_tile(opened: Opened, layer: str, channel: int, value: str, index: str | None) -> UnitTile:
    """A unit in a grid; the arrays of the layer's statistics make it cheap."""
    stats = opened.index.layer_stats(layer)
    unit = Unit(layer, channel)
    dead = bool(stats.dead[channel])
    best = class_name(opened.index, stats.best_class[channel])
    note = (
        f"{unit} · never fires"
        if dead
        else f"{unit} · fires in {percent(stats.fire_share[channel])} · up to "
        f"{number(float(stats.top[channel]))}" + (f" · {best}" if best else "")
    )
    tile, rows = opened.index.tile(layer), -(-opened.index.k // COLUMNS)
    sheet = None
    if has_pictures(opened) and not dead:
        sheet = Picture(
            src=Urls.sprite(opened.id, layer, channel, opened.index.id),
            width=2 * COLUMNS * tile,
            height=rows * tile,
            alt=f"Unit {channel}: {min(opened.index.k, 9)} projections, then their patches"
            + (f"; strongest for {best}" if best else ""),
            provenance=index_provenance(opened, str(unit)),
        )
    return UnitTile(
        address=str(unit),
        channel=channel,
        url=Urls.unit(opened.model["name"], unit, index=index),
        sheet=sheet,
        value=value,
        note=note,
        dead=dead,
        crisp=tile < _CRISP,
    )


def layer_links(opened: Opened, current: str, index: str | None) -> list[Link]:
    """The layers of an index, for moving between their grids."""
    model = opened.model["name"]
    return [
        Link(label=name, url=Urls.layer(model, name, index=index), current=name == current)
        for name in opened.index.layers
    ]


def neighbours(links: Sequence[Link]) -> tuple[Link | None, Link | None]:
    """What comes before and after the current link."""
    at = next((place for place, link in enumerate(links) if link.current), None)
    if at is None:
        return None, None
    return links[at - 1] if at else None, links[at + 1] if at + 1 < len(links) else None


def _loaded(model: Description) -> bool:
    """Whether it is a network with weights; else only its architecture."""
    return bool(model["weights_hash"])


def _weights(model: Description) -> str:
    return (model["weights"] or "random") if _loaded(model) else "none here"


def layer_card(
    opened: Opened | None, model: Description, row: Description, index: str | None,
    samples: int = 0, offset: int = 0,
) -> LayerCard:  # fmt: skip
    """A layer of the diagram; `samples` telling units of it."""
    name, size = row["name"], row["shape"]
    side = model["input_size"][1]
    indexed = opened is not None and name in opened.index.layers
    dead, tiles = None, []
    if opened is not None and indexed:
        stats = opened.index.layer_stats(name)
        dead = float(stats.dead.mean())
        tiles = [
            unit_tile(opened, name, channel, number(float(stats.top[channel])), index)
            for channel in telling(opened.index, name, samples, offset)
        ]
    model_name = model["name"]
    return LayerCard(
        name=name,
        node=row["node"],
        kind=row["kind"],
        shape=shape(size),
        channels=size[0],
        receptive_field=row["receptive_field"],
        jump=row["jump"],
        landmark=row["landmark"],
        indexed=indexed,
        url=Urls.layer(model_name, name, index=index) if indexed else Urls.model(model_name),
        filters_url=Urls.filters(model_name, name) if len(size) == 3 and _loaded(model) else "",
        dead_share=dead,
        dead="–" if dead is None else percent(dead),
        volume=volume(size, side),
        field=field(row["receptive_field"], side),
        samples=tiles,
    )


def index_card(opened: Opened, *, current: bool, stale: str = "") -> IndexCard:
    """An index and how fresh it is."""
    index = opened.index
    return IndexCard(
        id=opened.id,
        dataset=index.dataset["name"],
        images=index.dataset["count"],
        skipped=len(index.dataset["skipped"]),
        per_unit=index.k,
        units=sum(index.channels(layer) for layer in index.layers),
        built=stamp(opened.built),
        age=ago(opened.built),
        stale=stale,
        url=Urls.model(opened.model["name"], index=opened.id),
        current=current,
    )


def model_card(model: Description, opened: Opened | None, index: str | None) -> ModelCard:
    """A network, from its index or from its own description."""
    name = model["name"]
    return ModelCard(
        name=name,
        title=model["title"],
        source=model["source"],
        licence=model["licence"],
        input=shape(model["input_size"]),
        weights=f"{_weights(model)} {model['weights_hash'][:12]}".strip(),
        url=Urls.model(name, index=index),
        layers=layer_links(opened, "", index) if opened else [],
        index=index_card(opened, current=True) if opened else None,
        advice=""
        if opened or not _loaded(model)
        else f"Not indexed yet: deconvnet index {name} DATASET --out DIR finds what its units "
        "look for.",
    )


def model_facts(model: Description) -> list[Fact]:
    """Where a network comes from and how it wants its images."""
    preprocess = model["preprocess"]
    classes = model["classes"]
    rows = [
        ("Input", shape(model["input_size"])),
        ("Classes", str(len(classes)) if classes else "unnamed"),
        ("Weights", _weights(model)),
        ("Fingerprint", model["weights_hash"][:16] or "–"),
        ("Shorter side", f"{preprocess['resize'] or 'as the input'}"),
        ("Mean, deviation", f"{preprocess['mean']}, {preprocess['std']}"),
        ("Source", model["source"] or "–"),
        ("Licence", model["licence"] or "–"),
    ]
    return [Fact(name=name, value=value) for name, value in rows]
