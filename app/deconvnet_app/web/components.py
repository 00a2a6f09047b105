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
