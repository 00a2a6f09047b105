"""The shapes of the interface's answers that are its own."""

from typing import Any, Generic, TypeVar

from pydantic import Field

from deconvnet_app.http.problems import Answer

T = TypeVar("T")


class Paged(Answer, Generic[T]):
    """One page; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


class Root(Answer):
    """What this server takes, and where things are."""

    name: str
    version: str
    limits: dict[str, int | float] = Field(
        description="what is taken at most: bytes, characters, pixels, seconds, or how many"
    )
    links: dict[str, str]


class MethodView(Answer):
    """A way of explaining; `params` is the JSON Schema of its parameters."""

    name: str
    title: str
    source: str
    explains: list[str]
    params: dict[str, Any]


class ModelSummary(Answer):
    """A network; its layers are at `links`."""

    name: str
    indexes: list[str]
    links: dict[str, str]


class ModelView(Answer):
    """A network and where it comes from."""

    name: str
    description: dict[str, Any] = Field(description="title, source, licence, input, classes …")
    missing: str = Field(
        "", description="why it has no weights here, and the remedy; empty: it has some"
    )
    indexes: list[str]
    links: dict[str, str]


class UnitView(Answer):
    """A unit, and what the indexes know of it."""

    model: str
    unit: str
    layer: dict[str, Any]
    channel: int
    indexes: dict[str, dict[str, Any]] = Field(description="index id → the unit's statistics")


class DatasetView(Answer):
    """A set of images that the operator has registered."""

    id: str
    count: int
    skipped: int = Field(description="links out of it, pipes, devices and the like, not listed")
    labels: list[str]
    links: dict[str, str]


class DatasetImage(Answer):
    """One image of a dataset."""

    n: int
    path: str
    bytes: int
    label: str | None
    group: str | None


class IndexView(Answer):
    """An index: which images excite each unit of a network most."""

    id: str
    content: str = Field(description="a hash of the index's content")
    model: str
    dataset: dict[str, Any]
    k: int
    layers: dict[str, int] = Field(description="layer → number of channels")
    links: dict[str, str]


class HitView(Answer):
    """One of a unit's strongest images."""

    rank: int
    image_id: int
    path: str
    value: float
    position: tuple[int, int] | None = Field(description="(y, x) in the layer's map")
    label: str | None
    group: str | None


class TopView(Answer):
    """A unit's strongest images, best first."""

    index: str
    unit: str
    hits: list[HitView]
    statistics: dict[str, Any]


class ImageView(Answer):
    """An uploaded image as it is kept: upright sRGB, PNG.

    `notes`: what the conversion of its latest upload left out or ignored.
    """

    id: str
    sha256: str
    width: int
    height: int
    name: str
    created_at: float
    notes: list[str] = Field(default_factory=list)
    links: dict[str, str]
