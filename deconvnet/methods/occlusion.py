"""Occlusion: P(class), a map's total activity and the label for every position of a grey square.

See `deconvnet.occlusion_maps.occlude`. The heatmap is the fall of the probability, clean minus
occluded, as the mean over the occluders that cover a pixel: red where hiding it hurts the class,
blue where it helps. Source: Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2 and figure 7.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from torch import Tensor

from deconvnet import render
from deconvnet.address import Unit
from deconvnet.errors import ParameterError
from deconvnet.graph.describe import Description
from deconvnet.graph.network import Network
from deconvnet.methods.base import (
    Explanation,
    Method,
    Misfit,
    Params,
    Run,
    Target,
    as_array,
    provenance,
    register,
)
from deconvnet.occlusion_maps.occlude import OcclusionMap, occlusion
from deconvnet.occlusion_maps.occluder import COLOUR, FILLS, NamedFill

_NAMED = 8  # labels that get a colour of their own


def _colour(value: str) -> str:
    if not re.match(COLOUR, value):
        raise ValueError(f"expected {', '.join(FILLS)}, or a colour such as #8090a0")
    return value


Colour = Annotated[
    str, AfterValidator(_colour), WithJsonSchema({"type": "string", "pattern": COLOUR})
]
Fill = Annotated[
    Annotated[NamedFill, Tag("named")] | Annotated[Colour, Tag("colour")],
    Discriminator(lambda value: "named" if value in FILLS else "colour"),
]


class OcclusionParams(Params):
    """Parameters of an occlusion map."""

    size: int = Field(
        32, ge=1, le=4096, description="Side of the square.", json_schema_extra={"unit": "px"}
    )
    stride: int = Field(
        8,
        ge=1,
        le=4096,
        description="Step between squares; at most their side.",
        json_schema_extra={"unit": "px"},
    )
    fill: Fill = Field(
        "grey",
        description="What it shows: grey, mean (the image's colour), black, blur, or #rrggbb.",
    )

    @model_validator(mode="after")
    def _covers(self) -> "OcclusionParams":
        if self.stride > self.size:
            raise ValueError(f"stride {self.stride} is larger than size {self.size}")
        return self


class OcclusionMethod(Method):
    """The three maps of figure 7, and the heatmap."""

    name = "occlusion"
    title = "Occlusion sensitivity"
    source = "Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2"
    explains = frozenset({"class", "unit"})
    needs_target = False
    Params = OcclusionParams

    def misfits(self, network: Description, target: Target, params: Any) -> Iterator[Misfit]:
        yield from super().misfits(network, target, params)
        name, output, side = network["name"], network["output"], max(network["input_size"][1:])
        if len(output) != 1:
            error = ParameterError(
                f"{name} gives {output} per image, expected one score per class: occlusion needs a "
                "classifier. Choose another network or another method."
            )
            yield Misfit("method", "wrong_kind", error)
        unit = None if target.unit is None else Unit.parse(target.unit)
        if unit is not None and unit.y is not None:
            error = ParameterError(
                "Occlusion follows a unit's whole map, not one position; give "
                f"'{unit.layer}:{unit.channel}' instead of '{unit}'."
            )
            yield Misfit("target/unit", "wrong_kind", error)
        if unit is None and not _has_maps(network):
            error = ParameterError(
                f"{name} has no landmark with a map; give a unit, layer:channel, as the target."
            )
            yield Misfit("target", "wrong_kind", error)
        if params.size > side:
            height, width = network["input_size"][1:]
            error = ParameterError(
                f"size is {params.size}, larger than the image of {height}×{width} pixels that "
                f"{name} takes; expected 1 to {side}."
            )
            yield Misfit("params/size", "out_of_range", error)

    def explain(self, net: Network, x: Tensor, params: Any, run: Run) -> Explanation:
        stages = occlusion(
            net, x, run.target.class_id, params.size, params.stride, params.fill, run.target.unit,
            progressive=True, on_progress=run.on_progress,
        )  # fmt: skip
        for stage in stages:
            if stage.stride == params.stride:
                return present(net, x, stage)
            if run.on_partial is not None:
                run.on_partial(present(net, x, stage))
        raise ParameterError("Occlusion gave no map.")


def _has_maps(network: Description) -> bool:
    """Whether one of its landmarks is a map, whose activity can be followed."""
    layers = {layer["name"]: layer for layer in network["layers"]}
    return any(len(layers[landmark]["shape"]) == 3 for landmark in network["landmarks"])


def _name(net: Network, label: int) -> str:
    return net.classes[label] if net.classes and label < len(net.classes) else f"class {label}"


def present(net: Network, x: Tensor, found: OcclusionMap) -> Explanation:
    """The maps of one run as arrays, pictures and facts."""
    photograph = render.photo(net.preprocess.denormalise(x[0].float().cpu()))
    fall = found.clean["probability"] - found.upsample("probability")
    limit = max(float(fall.abs().max()), 1e-6)
    activity = found.upsample("activity")
    low, high = float(activity.min()), float(activity.max())
    labels, counts = torch.unique(found.label, return_counts=True)
    order = counts.argsort(descending=True, stable=True).tolist()
    shown = [int(labels[i]) for i in order[:_NAMED]]
    colours = dict(zip(shown, render.palette(len(shown)), strict=True))
    legend: list[dict[str, Any]] = [
        {
            "class": int(labels[i]),
            "name": _name(net, int(labels[i])),
            "colour": colours.get(int(labels[i]), render.OTHER),
            "share": float(counts[i]) / found.label.numel(),
        }
        for i in order
    ]
    label_map = render.categorical(_nearest(found), colours)
    target = _name(net, found.target)
    return Explanation(
        arrays={
            "map": as_array(fall),
            "probability": as_array(found.probability),
            "activity": as_array(found.activity),
            "label": as_array(found.label),
            "positions": as_array(found.positions),
        },
        pictures={
            "heatmap": render.over(photograph, fall, limit),
            "fall": render.diverging(fall, limit),
            "activity": render.sequential(activity, low, high),
            "label": label_map,
            "image": photograph,
        },
        facts={
            "target": {"class": found.target, "name": target},
            "unit": str(found.unit),
            "rules": list(net.layer(found.unit.layer).rules),
            "clean": {
                **found.clean,
                "label": int(found.clean["label"]),
                "name": _name(net, int(found.clean["label"])),
            },
            "size": found.size,
            "stride": found.stride,
            "fill": found.fill,
            "grid": list(found.label.shape),
            "limit": limit,
            "activity_range": [low, high],
            "legend": legend,
        },
        provenance=provenance(
            net, f"P({target})",
            f"occluder {found.size} px, stride {found.stride} px, {found.fill}",
            f"fall of probability ±{limit:.3g}", f"activity of {found.unit}",
        ),
    )  # fmt: skip


def _nearest(found: OcclusionMap) -> Tensor:
    """[H, W]: the label of the occluder whose centre is nearest."""
    axes = []
    for axis, length in enumerate(found.shape):
        starts = found.positions[:, 0, 0] if axis == 0 else found.positions[0, :, 1]
        centres = starts + (found.size - 1) / 2
        axes.append((torch.arange(length)[:, None] - centres[None]).abs().argmin(1))
    return found.label[axes[0]][:, axes[1]]


register(OcclusionMethod())
