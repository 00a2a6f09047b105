"""What a unit's page says of the unit: statistics, pairs, rules, and how to have them elsewhere."""

from deconvnet.address import Unit
from deconvnet.graph.describe import rules_of
from deconvnet.index.reader import Hit, UnitStats
from deconvnet.index.store import COLUMNS
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.services.explain import Sheet
from deconvnet_app.services.units import class_name
from deconvnet_app.urls import Urls
from deconvnet_app.web.cards import has_pictures, layer_row
from deconvnet_app.web.charts import crops, cut
from deconvnet_app.web.components import Crop, Fact, Link
from deconvnet_app.web.formatting import count, number, percent
from deconvnet_app.web.unit.context import Pair


def unit_facts(opened: Opened, unit: Unit, stats: UnitStats) -> list[Fact]:
    """A unit's statistics, and what it sees."""
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


def class_facts(opened: Opened, unit: Unit, stats: UnitStats, index: str | None) -> list[Fact]:
    """The classes that excite it most, each leading to its units."""
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


def make_pairs(
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
        rows = -(-len(hits) // COLUMNS)
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


def rule_links(
    opened: Opened, unit: Unit, rule: str, contrast: str, index: str | None
) -> list[Link]:
    """The ways down from the unit to the pixels."""
    model = opened.model["name"]
    return [
        Link(
            label=name.capitalize(),
            url=Urls.unit(model, unit, index=index, rule=name, contrast=contrast),
            current=name == (rule or opened.index.rule),
            title=_RULE_TITLES[name],
        )
        for name in rules_of(opened.model, unit.layer)
    ]


_RULE_TITLES = {
    "deconv": "ReLU rectifies what comes back (Zeiler & Fergus 2013)",
    "guided": "… and also where the forward pass was zero (Springenberg et al. 2014)",
    "gradient": "the derivative itself (Simonyan et al. 2013)",
}


def contrast_links(
    opened: Opened, unit: Unit, rule: str, chosen: str, index: str | None
) -> list[Link]:
    """The scales to show a rule on; none for the index's own pictures."""
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


def python_twin(opened: Opened, unit: Unit, hits: list[Hit], rule: str) -> str:
    """The strongest projection again, in Python."""
    at = unit.at(*hits[0].position) if hits else unit
    name = opened.model["name"]
    path = hits[0].path if hits else "image.jpg"
    shown = rule or opened.index.rule
    extra = "" if shown in (None, "deconv") else f', rule="{shown}"'
    return (
        "import deconvnet as dn\n"
        "from PIL import Image\n\n"
        f'net = dn.load("{name}")\n'
        f"x = net.preprocess(Image.open({path!r}))\n"
        f'p = dn.project(net, x, "{at}"{extra})\n'
        "p.pixels, p.region, p.value"
    )


def citation(opened: Opened, unit: Unit) -> str:
    """What it takes to find exactly these pictures again."""
    index, model = opened.index, opened.model
    return (
        f"{unit} of {model['name']} (weights {model['weights_hash'][:16]}), top {index.k} of "
        f"{count(index.dataset['count'], 'image')} of {index.dataset['name']}, "
        f"index {index.id[:16]}. Method: Zeiler & Fergus, arXiv:1311.2901."
    )
