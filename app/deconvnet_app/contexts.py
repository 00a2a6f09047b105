"""What each page knows: one Context per page, which is also the page's JSON twin.

Templates show these fields and compute nothing. A picture always comes with its alternative text
and its provenance line; a chart with its geometry and the table it draws.
"""

from typing import Literal

import pydantic

from deconvnet_app.parts import (
    CallGroup,
    Chart,
    Context,
    Fact,
    Feature,
    Field,
    FilterCell,
    IndexCard,
    JobItem,
    JobRow,
    LayerCard,
    Link,
    ModelCard,
    OcclusionResult,
    Option,
    Pair,
    Picture,
    Underway,
    UnitTile,
)


class Page(Context):
    """What every page has: its place, and the neighbours that the keys lead to."""

    title: str
    url: str
    twin: str
    section: Literal["models", "occlusion", "jobs", "api", ""] = ""
    crumbs: list[Link] = pydantic.Field(default_factory=list)
    previous: Link | None = None
    following: Link | None = None
    layer_previous: Link | None = None
    layer_following: Link | None = None


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


class ModelPage(Page):
    """A network as the diagram that leads to its layers.

    Attributes:
        no_weights: why it has none here, and how to give them; then its architecture is shown.
    """

    card: ModelCard
    no_weights: str
    facts: list[Fact]
    stages: list[LayerCard]
    provenance: str
    others: list[LayerCard]
    indexes: list[IndexCard]


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


class OcclusionPage(Page):
    """The occlusion laboratory; its whole state is the URL."""

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


class JobsPage(Page):
    """All jobs, and the form for a new one with its twins."""

    jobs: list[JobRow]
    method: str
    methods: list[Link]
    models: list[Option]
    sources: list[Option]
    fields: list[Field]
    target: str
    target_help: str
    curl: str
    python: str
    problem: str
    next_page: str


class JobPage(Page):
    """One job: progress, items, results."""

    row: JobRow
    facts: list[Fact]
    items: list[JobItem]
    downloads: list[Link]
    cancel: str
    problem: str
    request: str
    page_previous: str
    page_following: str


class RestPage(Page):
    """The REST interface."""

    groups: list[CallGroup]
    openapi: str
    example: str


class ErrorPage(Page):
    """What went wrong, and what to do."""

    status: int
    detail: str
    request_id: str
    links: list[Link]
