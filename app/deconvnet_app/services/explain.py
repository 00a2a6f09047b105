"""What pages ask of the workers: projections by another rule, occlusion, predictions."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deconvnet.address import Unit
from deconvnet.errors import IndexError_
from deconvnet.graph.describe import rules_of
from deconvnet.ops.base import Rule
from deconvnet_app.artifacts import sha256
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.compute.spec import UnitResult, UnitSpec
from deconvnet_app.errors import Refusal
from deconvnet_app.numbers import whole_number
from deconvnet_app.services import uploads
from deconvnet_app.state import AppState

Contrast = Literal["shared", "own"]


@dataclass(frozen=True)
class Chosen:
    """A picture to explain.

    Attributes:
        sha256, address, name: its content, how URLs spell it, what people call it.
        notes: what its conversion left out or ignored.
    """

    sha256: str
    address: str
    name: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A unit's projections by one rule: `COLUMNS` tiles a row, best first; named by content."""

    artifact: str
    provenance: str


def find_image(state: AppState, address: str) -> Chosen:
    """The picture that "img_…" (an upload) or "INDEX/NUMBER" (an indexed image) names.

    Raises:
        Refusal: 404, there is none; 503, it is damaged in its index.
    """
    index_id, slash, number = address.partition("/")
    if not slash:
        found = uploads.get_image(state, address)
        return Chosen(
            found.sha256, address, found.name, found.width, found.height, found.notes
        )  # fmt: skip
    opened = state.indexes.get(index_id)
    if (rank := whole_number(number)) is None:
        raise Refusal(404, "not_found", f"'{address[:80]}' is no image; expected INDEX/NUMBER.")
    data = _indexed_bytes(opened, rank)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
    except (OSError, ValueError, SyntaxError) as error:
        detail = f"The picture of image {rank} in index '{index_id}' is damaged. Build it again."
        raise Refusal(503, "index_error", detail, retry_after=60) from error
    return Chosen(state.artifacts.put(data), address, f"image {rank}", width, height)


def _indexed_bytes(opened: Opened, image_id: int) -> bytes:
    try:
        return opened.index.image(image_id).read_bytes()
    except (IndexError_, OSError) as error:
        detail = f"Index '{opened.id}' keeps no picture of image {image_id}."
        raise Refusal(404, "not_found", detail) from error


async def predictions(
    state: AppState, model: str, image: str, timeout: float, top: int = 5
) -> list[dict[str, Any]]:
    """The likeliest classes, best first: {class, name, probability}."""
    spec = UnitSpec(kind="predict", model=model, image=image, top=top)
    result = await state.compute.run(spec, timeout)
    found: list[dict[str, Any]] = result.facts["classes"]
    return found


async def explain(
    state: AppState,
    model: str,
    image: str,
    method: str,
    params: Mapping[str, Any],
    target: Mapping[str, Any] | None,
    timeout: float,
) -> UnitResult:
    """A method on an image; raises UnitError."""
    return await state.compute.run(asked(model, image, method, params, target), timeout)


def asked(
    model: str,
    image: str,
    method: str,
    params: Mapping[str, Any],
    target: Mapping[str, Any] | None,
) -> UnitSpec:
    """A method on an image, as a worker is asked for it."""
    return UnitSpec(
        kind="explain",
        model=model,
        method=method,
        params=dict(params),
        target=None if target is None else dict(target),
        image=image,
    )


async def filters(
    state: AppState, model: str, layer: str, scale: Contrast, timeout: float
) -> UnitResult:
    """A layer's kernels; raises UnitError."""
    spec = UnitSpec(kind="filters", model=model, layer=layer, scale=scale)
    return await state.compute.run(spec, timeout)


async def rule_sheet(
    state: AppState, opened: Opened, unit: Unit, rule: Rule, contrast: Contrast, timeout: float
) -> Sheet:
    """A unit's projections from its hits' own positions, by one rule.

    Args:
        contrast: "shared": the scale that fits all rules of the layer, so that they compare; "own":
            the one that fits this rule's projections.
        timeout: seconds; what is done by then is kept for the next call.

    Raises:
        UnitError: they cannot be computed, or not yet.
        Refusal: the index keeps no pictures.
    """
    model = opened.model
    spec = await asyncio.to_thread(_asked_sheets, state, opened, unit, rule, contrast)
    made = await state.compute.run(spec, timeout)
    return Sheet(
        made.pictures[rule],
        f"{model['name']} {model['weights_hash'][:12]} · {unit} · rule {rule} · {made.provenance}",
    )


def _asked_sheets(
    state: AppState, opened: Opened, unit: Unit, rule: Rule, contrast: Contrast
) -> UnitSpec:  # fmt: skip
    """All rules of a shared scale at once; the images are stored if that is not done already."""
    hits = opened.index.top(unit)
    images = [_indexed_bytes(opened, hit.image_id) for hit in hits]
    named = {sha256(data): data for data in images}
    known = rules_of(opened.model, unit.layer)
    spec = UnitSpec(
        kind="sheets",
        model=opened.model["name"],
        images=tuple(map(sha256, images)),
        units=tuple(str(unit.at(*hit.position)) for hit in hits),
        rules=known if contrast == "shared" and rule in known else (rule,),
    )
    if state.compute.cached(spec) is None:
        state.artifacts.put_all(named)
    return spec


def read_array(state: AppState, name: str) -> NDArray[Any]:
    """A result's numbers, by the array's content hash."""
    found: NDArray[Any] = np.load(io.BytesIO(state.artifacts.read(name)), allow_pickle=False)
    return found
