"""What the occlusion page knows; also its JSON twin."""

import pydantic

from deconvnet_app.web.components import Context, Fact, Field, Link, Option, Picture
from deconvnet_app.web.page import Page


class LegendRow(Context):
    """One colour of the label map."""

    colour: str
    name: str
    share: str
    meter: float


class Underway(Context):
    """Work that a page is waiting for, or has waited for.

    Attributes:
        version: changes when there is more to show than this part itself.
        said: what a screen reader is told once for each version.
        detail: how far it is, how fast, how long still.
        stop: the fields of the form that ends it; empty: there is nothing to end.
        again: where to go on from, when it was stopped.
    """

    running: bool
    version: str
    said: str
    detail: str
    done: int
    total: int
    stop: list[tuple[str, str]] = pydantic.Field(default_factory=list)
    again: str = ""


class Panel(Context):
    """A map beside the others, sharing their crosshair; without a picture until it is made."""

    name: str
    title: str
    caption: str
    picture: Picture | None
    low: str
    high: str
    bar: str


class GridTable(Context):
    """A heatmap as a table: one row per occluder row."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


class OcclusionResult(Context):
    """The maps of one image under a moving occluder."""

    image: str
    target: int
    panels: list[Panel]
    facts: list[Fact]
    legend: list[LegendRow]
    tables: list[GridTable]
    geometry: dict[str, int]
    provenance: list[str]
    downloads: list[Link]


class OcclusionPage(Page):
    """The occlusion page; its whole state is the URL."""

    models: list[Option]
    image: str
    target: str
    chosen: Picture | None
    samples: list[Link]
    fields: list[Field]
    predictions: list[Fact]
    result: OcclusionResult | None
    problem: str
    underway: Underway | None
    notes: list[str]
    limits: str
    python: str
