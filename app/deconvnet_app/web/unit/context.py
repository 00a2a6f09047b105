"""What a unit's page knows; also its JSON twin."""

from deconvnet_app.web.components import Chart, Context, Crop, Fact, Link, UnitTile
from deconvnet_app.web.page import Page


class Pair(Context):
    """One hit of a unit: its projection beside its patch."""

    rank: int
    projection: Crop | None
    patch: Crop | None
    value: str
    position: str
    label: str
    path: str
    image: str
    occlude: str


class UnitPage(Page):
    """A unit: what it is on the left, the evidence on the right."""

    model: str
    address: str
    layer: str
    channel: int
    dead: bool
    sentence: str
    facts: list[Fact]
    histogram: Chart | None
    classes: list[Fact]
    neighbours: list[UnitTile]
    layers: list[Link]
    rules: list[Link]
    contrasts: list[Link]
    rule: str
    pairs: list[Pair]
    crisp: bool
    nine: bool
    provenance: str
    waiting: str
    downloads: list[Link]
    cite: str
    python: str
