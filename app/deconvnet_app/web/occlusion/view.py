"""An occlusion's maps as a page shows them: panels, legend, tables."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from deconvnet_app.compute.spec import UnitResult
from deconvnet_app.services.explain import read_array
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls
from deconvnet_app.web.components import Fact, Link, Picture
from deconvnet_app.web.formatting import number, percent, short
from deconvnet_app.web.occlusion.context import GridTable, LegendRow, OcclusionResult, Panel
from deconvnet_app.web.occlusion.progress import thinned
from deconvnet_app.web.render import static

_DIVERGING = "img/diverging.png"
_SEQUENTIAL = "img/sequential.png"


def _picture(made: UnitResult, name: str, side: tuple[int, int], alt: str) -> Picture:
    return Picture(
        src=Urls.artifact(f"{made.pictures[name]}.png"),
        height=side[0],
        width=side[1],
        alt=alt,
        provenance=made.provenance,
    )


def _panels(made: UnitResult, below: UnitResult | None, side: tuple[int, int]) -> list[Panel]:
    facts = made.facts
    target, unit = short(facts["target"]["name"]), facts["unit"]
    limit, (low, high) = facts["limit"], facts["activity_range"]

    def panel(name: str, title: str, caption: str, alt: str, *scale: str) -> Panel:
        picture = _picture(made, name, side, alt)
        lowest, highest, bar = scale or ("", "", "")
        bar = static(bar) if bar else ""
        return Panel(
            name=name,
            title=title,
            caption=caption,
            picture=picture,
            low=lowest,
            high=highest,
            bar=bar,
        )

    return [
        panel("image", "Input", "what the network sees", "The preprocessed picture"),
        panel(
            "heatmap",
            f"P({target})",
            "its fall when a place is hidden; red: hiding hurts",
            f"Heatmap over the picture: where hiding lowers the probability of {target}",
            number(-limit),
            number(limit),
            _DIVERGING,
        ),
        panel(
            "activity",
            f"Activity of {unit}",
            "total, with the place hidden",
            f"Map of the total activity of {unit}",
            number(low),
            number(high),
            _SEQUENTIAL,
        ),
        _projection(unit, below, side),
        panel("label", "Label", "most likely class, by place", "Map of the most likely class"),
    ]


def _projection(unit: str, made: UnitResult | None, side: tuple[int, int]) -> Panel:
    alt = f"Projection of {unit}" + (f" by the rule {made.facts['rule']}" if made else "")
    return Panel(
        name="projection",
        title=f"Projection of {unit}",
        caption="from its strongest position" if made else "comes when the maps are complete",
        picture=_picture(made, "heatmap", side, alt) if made else None,
        low="",
        high="",
        bar="",
    )


def _tables(
    maps: Mapping[str, NDArray[Any]], positions: NDArray[Any], facts: Mapping[str, Any]
) -> list[GridTable]:
    columns = [str(x) for x in positions[0, :, 1].tolist()]
    starts = positions[:, 0, 0].tolist()
    names = {row["class"]: short(row["name"]) for row in facts["legend"]}

    def table(title: str, rows: list[list[str]]) -> GridTable:
        named = [(str(y), row) for y, row in zip(starts, rows, strict=True)]
        return GridTable(title=title, columns=columns, rows=named)

    def numbers(name: str, form: str) -> list[list[str]]:
        return [[format(value, form) for value in row] for row in maps[name].tolist()]

    return [
        table(f"P({short(facts['target']['name'])})", numbers("probability", ".4f")),
        table(f"Activity of {facts['unit']}", numbers("activity", ".4g")),
        table("Label", [[names[value] for value in row] for row in maps["label"].tolist()]),
    ]


def _facts(facts: Mapping[str, Any]) -> list[Fact]:
    clean = facts["clean"]
    return [
        Fact(name="Most likely class", value=short(clean["name"])),
        Fact(
            name=f"P({short(facts['target']['name'])})",
            value=percent(clean["probability"]),
            meter=clean["probability"],
        ),
        Fact(name=f"Activity of {facts['unit']}", value=number(clean["activity"])),
        Fact(
            name="Occluder",
            value=f"{facts['size']} px, every {facts['stride']} px, {facts['fill']}; "
            f"{facts['grid'][0]} × {facts['grid'][1]} positions",
        ),
    ]


def make_result(
    state: AppState, made: UnitResult, below: UnitResult | None, image: str, stride: int
) -> OcclusionResult:
    """Everything that an occlusion's page shows.

    Args:
        below: the followed unit's projection.
        stride: what was asked for; `made` is coarse where its own is larger.
    """
    facts = made.facts
    names = ("probability", "activity", "label", "positions")
    maps = {name: read_array(state, made.arrays[name]) for name in names}
    positions = maps.pop("positions")
    fall = read_array(state, made.arrays["map"])
    height, width = fall.shape
    top, left = (int(n) for n in positions[0, 0])
    panels = _panels(made, below, (height, width))
    coarse = thinned(facts, stride)
    lines = [panel.picture.provenance for panel in panels if panel.picture]
    return OcclusionResult(
        image=image,
        target=facts["target"]["class"],
        panels=panels,
        provenance=[f"{x} · coarse, {coarse}" if coarse else x for x in dict.fromkeys(lines)],
        facts=_facts(facts),
        legend=[
            LegendRow(
                colour=row["colour"],
                name=short(row["name"]),
                share=percent(row["share"]),
                meter=row["share"],
            )
            for row in facts["legend"]
        ],
        tables=_tables(maps, positions, facts),
        geometry={
            "height": height,
            "width": width,
            "top": top,
            "left": left,
            "rows": positions.shape[0],
            "columns": positions.shape[1],
            "size": int(facts["size"]),
            "stride": int(facts["stride"]),
        },
        downloads=[] if coarse else _downloads(made),
    )


def _downloads(made: UnitResult) -> list[Link]:
    files = [(f"{name}.npy", key) for name, key in made.arrays.items()]
    files += [(f"{name}.png", made.pictures[name]) for name in ("heatmap", "activity", "label")]
    return [
        Link(label=name, url=Urls.artifact(key + name[-4:]), title=name) for name, key in files
    ]  # fmt: skip
