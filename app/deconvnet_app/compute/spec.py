"""What is computed, as data: a unit's specification, its progress, its result, its failure.

A unit is one thing that a page shows or a job's item asks for. Its key is a hash of everything
that decides the result, so the same unit asked for twice is computed once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from deconvnet.ops.base import Rule
from deconvnet_app.errors import AppError

_SHA256 = r"^[0-9a-f]{64}$"

Kind = Literal["explain", "sheets", "predict", "filters", "describe", "architecture"]

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "explain": ("method", "image"),
    "sheets": ("images", "units", "rules"),
    "predict": ("image",),
    "filters": ("layer",),
    "describe": (),
    "architecture": (),
}


class Origin(BaseModel):
    """Where an image's bytes are when they are not an artifact: a dataset's file."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    path: str


class UnitSpec(BaseModel):
    """One thing to compute.

    Attributes:
        kind: "explain" (a method on an image), "sheets" (activations of one layer projected by one
            or more rules, on one scale), "predict" (an image's classes), "filters" (a
            layer's kernels), "describe" (the network itself) or "architecture" (the network as it
            is without its weights, for which it need not have any).
        model: a name of the catalogue.
        method, params, target: for "explain"; `params` and `target` in the method's JSON.
        image: SHA-256 of the image's bytes, in hex.
        origin: where to find those bytes; None: among the artifacts. Not part of the key.
        images, units, rules: for "sheets"; each unit with the image at its place in the list.
        layer, scale: for "filters"; scale is "own" or "shared".
        top: for "predict", how many classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    model: str
    method: str | None = None
    params: dict[str, JsonValue] = Field(default_factory=dict)
    target: dict[str, JsonValue] | None = None
    image: str | None = Field(default=None, pattern=_SHA256)
    origin: Origin | None = None
    images: tuple[Annotated[str, Field(pattern=_SHA256)], ...] | None = None
    units: tuple[str, ...] | None = None
    rules: tuple[Rule, ...] | None = None
    layer: str | None = None
    scale: Literal["own", "shared"] = "shared"
    top: int = Field(default=5, ge=1, le=1000)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in _NEEDS[self.kind] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a unit of kind '{self.kind}' needs {' and '.join(missing)}")
        if len(self.images or ()) != len(self.units or ()):
            raise ValueError("a unit of kind 'sheets' needs as many images as units")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The images that it is computed from."""
        return self.images or (() if self.image is None else (self.image,))

    def key(self, model_fingerprint: str) -> str:
        """SHA-256 in hex of the specification and of the network it is asked of."""
        content = self.model_dump(mode="json", exclude={"origin"})
        content["network"] = model_fingerprint
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class UnitResult(BaseModel):
    """What came of a unit; pictures and arrays are artifacts, named by SHA-256.

    Attributes:
        key: of the unit.
        facts: JSON, as the method or kind defines it.
        pictures: name → PNG; the first is the main one.
        arrays: name → .npy; the first is the main one.
        provenance: the line that belongs under every picture.
        image: SHA-256 of the image's bytes that it was computed on.
        elapsed_s: seconds of computing.
        stored_bytes: how many bytes were not stored before; told, not kept.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    facts: dict[str, Any]
    pictures: dict[str, str] = {}
    arrays: dict[str, str] = {}
    provenance: str = ""
    image: str | None = None
    elapsed_s: float = 0.0
    stored_bytes: int = Field(default=0, exclude=True)

    @property
    def files(self) -> list[str]:
        """The artifacts that it names."""
        return [*self.pictures.values(), *self.arrays.values()]


@dataclass(frozen=True)
class Progress:
    """How far a unit is that is still being computed.

    Attributes:
        done, total: steps, as its method counts them; 0 of 0 before the first.
        elapsed_s: seconds of computing.
        partial: what is known so far, as a result that can be shown but is not the unit's.
    """

    done: int = 0
    total: int = 0
    elapsed_s: float = 0.0
    partial: UnitResult | None = None


class UnitError(AppError):
    """A unit that cannot be computed.

    Args:
        code: a stable word, such as "weights_error".
        detail: for a person.
        status: the HTTP status that says it best.
        fatal: every other unit of the same model, method and parameters would fail alike.
    """

    def __init__(self, code: str, detail: str, status: int = 422, *, fatal: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.fatal = fatal

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unit_error, (self.code, self.detail, self.status, self.fatal))


def _unit_error(code: str, detail: str, status: int, fatal: bool) -> UnitError:
    return UnitError(code, detail, status, fatal=fatal)


class WorkerLostError(AppError):
    """The worker ended before the unit was done; `wanted`: because it was told to."""

    def __init__(self, reason: str, *, wanted: bool = False) -> None:
        super().__init__(reason)
        self.wanted = wanted


@dataclass(frozen=True)
class Lost:
    """The unit ended before it was done.

    Attributes:
        killed: because `kill` or `stop` was asked for.
        died: the worker is gone, too.
        away: so is all that computes, whatever the unit did.
    """

    reason: str
    killed: bool = False
    died: bool = True
    away: bool = False
