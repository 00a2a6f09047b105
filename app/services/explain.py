"""What pages ask of the workers: projections by another rule, occlusion, predictions."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from app.compute.units import UnitResult, UnitSpec
from app.errors import Refusal
from app.services import uploads
from app.services.index import Opened
from app.state import AppState
from deconvnet import render
from deconvnet.address import Unit
from deconvnet.errors import IndexError_
from deconvnet.index import COLUMNS

RULES = ("deconv", "guided", "gradient")
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
        Refusal: 404, there is none.
    """
    index_id, slash, number = address.partition("/")
    if not slash:
        found = uploads.get_image(state, address)
        return Chosen(
            found.sha256, address, found.name, found.width, found.height, found.notes
        )  # fmt: skip
    opened = state.indexes.get(index_id)
    if not number.isdigit():
        raise Refusal(404, "not_found", f"'{address[:80]}' is no image; expected INDEX/NUMBER.")
    data = _indexed_bytes(opened, int(number))
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    return Chosen(state.artifacts.put(data), address, f"image {number}", width, height)


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
    state: AppState, opened: Opened, unit: Unit, rule: str, contrast: Contrast, timeout: float
) -> Sheet:
    """A unit's projections from its hits' own positions, by one rule.

    Args:
        contrast: "shared": the scale that fits all three rules, so that they compare; "own": the
            one that fits this rule's projections.
        timeout: seconds; what is done by then is kept for the next call.

    Raises:
        UnitError: they cannot be computed, or not yet.
        Refusal: the index keeps no pictures.
    """
    index = opened.index
    hits = index.top(unit)
    images = [_indexed_bytes(opened, hit.image_id) for hit in hits]
    hashes = await asyncio.to_thread(lambda: [state.artifacts.put(data) for data in images])
    rules = RULES if contrast == "shared" else (rule,)

    async def one(name: str, place: int) -> UnitResult:
        target = {"unit": str(unit.at(*hits[place].position))}
        model = opened.model["name"]
        return await explain(state, model, hashes[place], name, {}, target, timeout)

    wanted = [(name, place) for name in rules for place in range(len(hits))]
    results = await asyncio.gather(*(one(name, place) for name, place in wanted))
    return await asyncio.to_thread(
        _compose, state, opened, unit, rule, dict(zip(wanted, results, strict=True)), rules
    )


def _compose(
    state: AppState,
    opened: Opened,
    unit: Unit,
    rule: str,
    results: Mapping[tuple[str, int], UnitResult],
    rules: Sequence[str],
) -> Sheet:
    index = opened.index
    maps = {key: read_array(state, result.arrays["map"]) for key, result in results.items()}
    scale = render.shared_scale([torch.from_numpy(pixels) for pixels in maps.values()])
    side = index.tile(unit.layer)
    rows = -(-index.k // COLUMNS)
    sheet = np.full((rows * side, COLUMNS * side, 3), render.GREY, np.uint8)
    for (name, place), pixels in maps.items():
        if name == rule:
            row, column = divmod(place, COLUMNS)
            tile = render.signed(torch.from_numpy(pixels), scale)
            region = results[name, place].facts["region"]
            cell = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
            _place(cell, tile, region)
    data = render.save_png(sheet)
    line = (
        f"{opened.model['name']} {opened.model['weights_hash'][:12]} · {unit} · "
        f"rule {rule} · {scale.label} over {' and '.join(rules)}, zero is mid-grey"
    )
    return Sheet(state.artifacts.put(data), line)


def _place(cell: NDArray[np.uint8], picture: NDArray[np.uint8], region: Sequence[int]) -> None:
    """Copy what a unit sees into its tile, as the index's sheets have it.

    A region that the image's border cuts off fills the far side of its tile.
    """
    y0, x0, y1, x1 = region
    side = len(cell)
    top = y1 - side if y0 == 0 and y1 - y0 < side else y0
    left = x1 - side if x0 == 0 and x1 - x0 < side else x0
    if side >= max(picture.shape[:2]):
        top = left = 0
    part = picture[y0:y1, x0:x1]
    cell[y0 - top : y1 - top, x0 - left : x1 - left] = part[
        : side - (y0 - top), : side - (x0 - left)
    ]


def read_array(state: AppState, name: str) -> NDArray[Any]:
    """A result's numbers, by the array's content hash."""
    found: NDArray[Any] = np.load(io.BytesIO(state.artifacts.read(name)), allow_pickle=False)
    return found
