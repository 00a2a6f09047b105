"""What a method of explanation is, and the registry that every face is made from.

A method registered here appears in Python, on the command line, in the REST API and in the pages
with no further code: its parameters' schema says all that a form or a help text needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from deconvnet.address import Unit
from deconvnet.errors import AddressError, DeconvnetError, ParameterError, nearest
from deconvnet.graph.describe import Description, describe, layer_of
from deconvnet.graph.network import Network
from deconvnet.render import Pixels

Explains = Literal["unit", "class"]
OnProgress = Callable[[int, int], None]


class Target(BaseModel):
    """What is explained: a class of the output or a unit; neither: what the method chooses."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    class_id: int | None = Field(
        None,
        alias="class",
        ge=0,
        strict=True,
        description="A class of the network's output, from 0.",
    )
    unit: str | None = Field(
        None,
        description="A unit, layer:channel or layer:channel@y,x, such as conv5:7.",
        max_length=200,
        examples=["conv5:7"],
    )

    @model_validator(mode="after")
    def _parses(self) -> "Target":
        if self.unit is not None:
            Unit.parse(self.unit)
        return self


class Params(BaseModel):
    """Base of every method's parameters: frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Explanation:
    """What a method found.

    Attributes:
        arrays: name → numbers; "map" is the main one, [H, W] or [c, H, W] on the network's input.
        pictures: name → uint8 [h, w, 3]; "heatmap" is the main one.
        facts: name → JSON value: values, positions, legends.
        provenance: one line: network, weights, unit or class, method, parameters, contrast.
    """

    arrays: dict[str, NDArray[Any]]
    pictures: dict[str, Pixels]
    facts: dict[str, Any]
    provenance: str


@dataclass(frozen=True)
class Run:
    """What a run is given besides network and image."""

    target: Target = field(default_factory=lambda: Target.model_validate({}))
    on_progress: OnProgress | None = None
    on_partial: Callable[[Explanation], None] | None = None


@dataclass(frozen=True)
class Misfit:
    """What of a request a network can never do, whatever the image.

    Attributes:
        place: "target/class", "params/size", …, as in a job's body.
        code: a stable word: "out_of_range", "unknown_unit" or "wrong_kind".
    """

    place: str
    code: str
    error: DeconvnetError


_AnyParams = Params  # inside `Method` the name is an attribute


class Method(ABC):
    """One way to explain.

    Attributes:
        name: how it is asked for. title, source: what it is called, and where it comes from.
        explains: what its target may be. needs_target: whether it must be given.
        Params: its parameters; each field carries a description, bounds and, in
            json_schema_extra, its "unit".
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    explains: ClassVar[frozenset[Explains]]
    needs_target: ClassVar[bool]
    Params: ClassVar[type[_AnyParams]]

    @abstractmethod
    def explain(self, net: Network, x: Tensor, params: Any, run: Run) -> Explanation:
        """Explain one image, [1, c, H, W]."""

    def run(
        self, net: Network, x: Tensor, target: Target | None = None, params: Any = None, **run: Any
    ) -> Explanation:
        """Check target and parameters, then `explain`.

        Args:
            params: an instance of `Params`, a dict, or None for the defaults.
            run: `on_progress(done, total)` and `on_partial(explanation)`.

        Raises:
            ParameterError: a target that the method does not explain, or bad parameters.
            DeconvnetError: the first misfit.
        """
        chosen, aim = self.parse(params), self.check_target(target)
        for misfit in self.misfits(describe(net), aim, chosen):
            raise misfit.error
        return self.explain(net, x, chosen, Run(aim, **run))

    def misfits(self, network: Description, target: Target, params: Any) -> Iterator[Misfit]:
        """What the network can never do of this; known from its description, without running it.

        A method that asks more of a network than that its target is there says so here.

        Args:
            params: an instance of `Params`.
        """
        del params
        if target.class_id is not None:
            yield from self._class_misfits(network, target.class_id)
        if target.unit is not None:
            try:
                layer_of(network, Unit.parse(target.unit))
            except AddressError as error:
                yield Misfit("target/unit", "unknown_unit", error)

    def _class_misfits(self, network: Description, asked: int) -> Iterator[Misfit]:
        outputs = network["output"]
        if len(outputs) == 1 and asked >= outputs[0]:
            remedy = "" if self.needs_target else ", or no target at all"
            error = ParameterError(
                f"The target's class is {asked}, but {network['name']} tells {outputs[0]} classes "
                f"apart; expected 0 to {outputs[0] - 1}{remedy}."
            )
            yield Misfit("target/class", "out_of_range", error)

    def parse(self, params: Any) -> _AnyParams:
        """Parameters from a dict. Raises ParameterError naming the first bad one."""
        if isinstance(params, self.Params):
            return params
        try:
            return self.Params.model_validate(params or {})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "parameters"
            raise ParameterError(
                f"{where} of {self.name} is {first.get('input')!r}: {first['msg']}."
            ) from error

    def check_target(self, target: Target | None) -> Target:
        """The target, or an error where the method does not take such a one."""
        target = target or Target.model_validate({})
        given = {"class": target.class_id is not None, "unit": target.unit is not None}
        for kind, present in given.items():
            if present and kind not in self.explains:
                raise ParameterError(f"{self.name} takes no {kind}; it explains {self._takes}.")
        if self.needs_target and not any(given.values()):
            raise ParameterError(f"{self.name} needs a target; it explains {self._takes}.")
        return target

    @property
    def _takes(self) -> str:
        return " or ".join(f"a {kind}" for kind in sorted(self.explains))


_METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Enter a method. Raises ParameterError where its name is taken."""
    if method.name in _METHODS:
        raise ParameterError(f"Method '{method.name}' is registered already.")
    _METHODS[method.name] = method
    return method


def unregister(name: str) -> None:
    """Take a method out again."""
    _METHODS.pop(name, None)


def get(name: str) -> Method:
    """A method by name. Raises ParameterError with the nearest names."""
    if name not in _METHODS:
        raise ParameterError(f"Method '{name}' is unknown; {nearest(name, _METHODS)}.")
    return _METHODS[name]


def names() -> list[str]:
    """Every method's name, in order of registration."""
    return list(_METHODS)


def all_methods() -> list[Method]:
    """Every method, in order of registration."""
    return list(_METHODS.values())


def provenance(net: Network, *parts: str) -> str:
    """The line that goes with a picture."""
    weights = f"{net.name} {net.fingerprint[:8]}"
    return " · ".join([weights, *(part for part in parts if part)])


def as_array(x: Tensor) -> NDArray[Any]:
    """A tensor as numpy, float32 unless it holds integers."""
    array: NDArray[Any] = x.detach().cpu().numpy()
    return array if array.dtype.kind in "iub" else array.astype(np.float32)
