"""What the start page knows; also its JSON twin."""

from deconvnet_app.web.components import (
    Context,
    Crop,
    Fact,
    JobRow,
    LayerCard,
    Link,
    ModelCard,
    UnitTile,
)
from deconvnet_app.web.page import Page


class Feature(Context):
    """A unit worth looking at."""

    tile: UnitTile
    layer: str
    sentence: str
    facts: list[Fact]
    another: str
    crops: list[tuple[Crop, Crop]]


class HomePage(Page):
    """The start page."""

    feature: Feature | None
    ladder: list[LayerCard]
    provenance: str
    models: list[ModelCard]
    others: list[Link]
    bare: list[Link]
    problems: list[str]
    jobs: list[JobRow]
