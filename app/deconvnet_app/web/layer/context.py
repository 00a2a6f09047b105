"""What a layer's page knows; also its JSON twin."""

from deconvnet_app.web.components import Chart, Fact, LayerCard, Link, Option, UnitTile
from deconvnet_app.web.page import Page


class LayerPage(Page):
    """A layer's units."""

    model: str
    layer: LayerCard
    layers: list[Link]
    facts: list[Fact]
    summary: Chart | None
    units: list[UnitTile]
    shown: int
    matching: int
    total: int
    sort: list[Option]
    only: list[Option]
    labels: list[Option]
    search: str
    view: list[Link]
    size: list[Link]
    patches: bool
    density: str
    hidden: list[tuple[str, str]]
    page_previous: str
    page_following: str
    range: str
    provenance: str
    clear: str
