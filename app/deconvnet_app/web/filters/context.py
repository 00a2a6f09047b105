"""What the page of a layer's filters knows; also its JSON twin."""

from typing import Literal

from deconvnet_app.web.components import (
    Chart,
    Context,
    Crop,
    Fact,
    Link,
)
from deconvnet_app.web.page import Page


class FilterCell(Context):
    """One kernel of a layer."""

    channel: int
    crop: Crop
    url: str
    rms: str
    mark: Literal["", "dead", "dominant"]
    mark_note: str


class FiltersPage(Page):
    """A layer's kernels with their diagnostics."""

    model: str
    layer: str
    layers: list[Link]
    facts: list[Fact]
    cells: list[FilterCell]
    scales: list[Link]
    spread: Chart | None
    provenance: str
    waiting: str
    note: str
