"""What the three rules have in common as methods: one unit, projected, beside its patch."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from deconvnet import render
from deconvnet.address import Unit
from deconvnet.errors import ProjectionError
from deconvnet.graph.describe import Description, layer_of
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import without_rule
from deconvnet.methods.base import (
    Explains,
    Explanation,
    Method,
    Misfit,
    Params,
    Run,
    Target,
    as_array,
    provenance,
)
from deconvnet.ops.base import Rule
from deconvnet.projection.project import Projection, project


class DescentParams(Params):
    """Parameters of a projection."""

    lrn: Literal["identity", "gradient"] = Field(
        "identity",
        description="What local response normalisation becomes on the way down: passed by, as in "
        "Zeiler & Fergus, or its derivative.",
    )


class Descent(Method):
    """A projection of one unit by one rule."""

    rule: ClassVar[Rule]
    explains: ClassVar[frozenset[Explains]] = frozenset({"unit"})
    needs_target = True
    Params = DescentParams

    def misfits(self, network: Description, target: Target, params: Any) -> Iterator[Misfit]:
        found = list(super().misfits(network, target, params))
        yield from found
        if found or target.unit is None:
            return
        layer = layer_of(network, Unit.parse(target.unit))
        name, known = layer["name"], layer["rules"]
        if len(layer["shape"]) not in (1, 3):
            why = (
                f"Layer '{name}' is {layer['shape']}, neither a map nor a vector of features. "
                "Project from a layer before it."
            )
        elif self.rule not in known:
            why = without_rule(name, self.rule, known)
        else:
            return
        yield Misfit("target/unit", "wrong_kind", ProjectionError(why))

    def explain(self, net: Network, x: Tensor, params: Any, run: Run) -> Explanation:
        assert run.target.unit is not None
        found = project(net, x, run.target.unit, self.rule, lrn=params.lrn)
        assert isinstance(found, Projection)
        photograph = net.preprocess.denormalise(x[0].float().cpu())
        scale = render.own_scale(found.pixels)
        y0, x0, y1, x1 = found.region
        pixels = found.pixels.float().cpu()
        value = f"{found.value:.4g}"
        return Explanation(
            arrays={"map": as_array(pixels)},
            pictures={
                "heatmap": render.signed(pixels, scale),
                "projection": render.signed(pixels[:, y0:y1, x0:x1], scale),
                "patch": render.photo(photograph[:, y0:y1, x0:x1]),
                "image": render.photo(photograph),
            },
            facts={
                "unit": str(found.unit.at(*found.position)),
                "value": found.value,
                "position": list(found.position),
                "region": list(found.region),
                "rule": self.rule,
                "scale": scale.limit,
            },
            provenance=provenance(
                net, str(found.unit.at(*found.position)), f"activation {value}",
                f"rule {self.rule}", f"normalisation {params.lrn}", scale.label,
            ),
        )  # fmt: skip
