"""The parts that pages are made of: links, pictures, charts, tiles, cards, rows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Context(BaseModel):
    """Root of all contexts: immutable, and closed against misspelt fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Link(Context):
    """Somewhere to go."""

    label: str
    url: str
    current: bool = False
    title: str = ""


class Fact(Context):
    """One named value, with a meter (0 to 1) where it is a share."""

    name: str
    value: str
    hint: str = ""
    meter: float | None = None
    url: str = ""


class Picture(Context):
    """An image file with its size in its own pixels."""

    src: str
    width: int
    height: int
    alt: str
    provenance: str


class Crop(Context):
    """A square tile of a sprite sheet, in the sheet's pixels."""

    src: str
    sheet_width: int
    sheet_height: int
    x: float
    y: float
    size: float
    alt: str


class Bar(Context):
    """A rectangle of a chart, in the chart's own units."""

    x: float
    y: float
    width: float
    height: float
    label: str


class Chart(Context):
    """A bar chart: its geometry and its table."""

    title: str
    width: float
    height: float
    bars: list[Bar]
    left: str
    right: str
    columns: tuple[str, str]
    rows: list[tuple[str, str]]


class Option(Context):
    """A choice of a control."""

    value: str
    label: str
    selected: bool = False


class Field(Context):
    """A control of a form, made from a parameter's schema."""

    name: str
    label: str
    kind: Literal["number", "text", "select", "checkbox"]
    value: str
    minimum: float | None = None
    maximum: float | None = None
    step: str = "any"
    unit: str = ""
    help: str = ""
    options: list[Option] = []


class UnitTile(Context):
    """A unit in a grid: one sheet, its left half the projections, its right half the patches."""

    address: str
    channel: int
    url: str
    sheet: Picture | None
    value: str
    note: str
    dead: bool
    crisp: bool


class IndexCard(Context):
    """An index and how fresh it is."""

    id: str
    dataset: str
    images: int
    skipped: int
    per_unit: int
    units: int
    built: str
    age: str
    stale: str
    url: str
    current: bool = False


class LayerCard(Context):
    """A layer of the diagram: what it is, how large, what it sees, and how much of it is alive."""

    name: str
    node: str
    kind: str
    shape: str
    channels: int
    receptive_field: int
    jump: int
    landmark: bool
    indexed: bool
    url: str
    filters_url: str
    dead_share: float | None
    dead: str
    volume: str
    field: Bar
    samples: list[UnitTile]


class ModelCard(Context):
    """A network on the start page."""

    name: str
    title: str
    source: str
    licence: str
    input: str
    weights: str
    url: str
    layers: list[Link]
    index: IndexCard | None
    advice: str


class JobRow(Context):
    """A job in a list."""

    id: str
    short: str
    url: str
    method: str
    model: str
    state: str
    tone: Literal["calm", "busy", "good", "bad"]
    done: int
    total: int
    failed: int
    created: str
    rate: str
    left: str


class Feature(Context):
    """A unit worth looking at."""

    tile: UnitTile
    layer: str
    sentence: str
    facts: list[Fact]
    another: str
    crops: list[tuple[Crop, Crop]]


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


class FilterCell(Context):
    """One kernel of a layer."""

    channel: int
    crop: Crop
    url: str
    rms: str
    mark: Literal["", "dead", "dominant"]
    mark_note: str


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
    stop: list[tuple[str, str]] = []
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


class JobItem(Context):
    """One image of a job."""

    number: int
    name: str
    state: str
    tone: Literal["calm", "busy", "good", "bad"]
    detail: str
    picture: Picture | None
    downloads: list[Link]


class Call(Context):
    """One call of the REST interface."""

    method: str
    path: str
    summary: str
    parameters: list[str]
    url: str


class CallGroup(Context):
    """Calls about one subject."""

    name: str
    calls: list[Call]
