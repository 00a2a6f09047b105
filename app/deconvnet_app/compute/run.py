"""The one way from a specification to a result, for pages and for jobs."""

import io
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

import deconvnet as dn
from deconvnet import methods
from deconvnet.errors import (
    AddressError,
    DeconvnetError,
    GraphError,
    ModelError,
    ParameterError,
    WeightsError,
)
from deconvnet.execution.forward import run as forward
from deconvnet.execution.memory import out_of_memory
from deconvnet.graph.describe import describe
from deconvnet.graph.network import Network
from deconvnet.methods import Explanation, Target
from deconvnet_app.compute.resources import Resources
from deconvnet_app.compute.sheets import kernel_facts, kernel_sheet, unit_sheets
from deconvnet_app.compute.spec import Lost, Progress, UnitError, UnitResult, UnitSpec
from deconvnet_app.errors import ArtifactMissingError, Refusal, StorageFullError

log = logging.getLogger(__name__)
EVERY_S = 0.1
_FATAL = (AddressError, GraphError, ModelError, ParameterError, WeightsError)

Send = Callable[[Progress], None]


class _StoppedError(Exception):
    """Nobody wants the unit any more."""


def run_unit(
    spec: UnitSpec,
    resources: Resources,
    send: Send = lambda _: None,
    *,
    unwanted: Callable[[], bool] = lambda: False,
    partials: bool = False,
) -> UnitResult | UnitError | Lost:
    """Compute one unit: a pure function of the specification and of the files that it names.

    Args:
        send: is given each partial result, and steps at most every `EVERY_S` seconds.
        unwanted: ends the unit at the first step at which it is true.
        partials: also send what is known so far; the result is the same either way.

    Returns:
        What came of it; nothing is raised.
    """
    try:
        return _computed(spec, resources, _heeding(send, unwanted), partials)
    except UnitError as error:
        return error
    except _StoppedError:
        return Lost("it was told to stop", killed=True, died=False)
    except Exception as error:
        log.exception("Unit %s of %s failed", spec.kind, spec.model)
        return UnitError("internal_error", f"{type(error).__name__}: {error}", 500)


def _heeding(send: Send, unwanted: Callable[[], bool]) -> Send:
    next_at = 0.0

    def tell(progress: Progress) -> None:
        nonlocal next_at
        if unwanted():
            raise _StoppedError
        now = time.monotonic()
        if progress.partial is not None or now >= next_at:
            next_at = now + EVERY_S
            send(progress)

    return tell


def _computed(spec: UnitSpec, resources: Resources, tell: Send, partials: bool) -> UnitResult:
    """The unit's result; raises UnitError with what is wrong with the specification."""
    started = time.perf_counter()
    try:
        load = resources.architecture if spec.kind == "architecture" else resources.network
        net, network_key = load(spec.model)
        work = _Work(net, spec, spec.key(network_key), resources, started, tell, partials)
        return work.keep(_KINDS[spec.kind](work))
    except Refusal as error:
        raise UnitError(error.code, error.detail, error.status, fatal=True) from error
    except ArtifactMissingError as error:
        raise UnitError("input_missing", str(error), 404) from error
    except DeconvnetError as error:
        raise UnitError(error.code, str(error), fatal=isinstance(error, _FATAL)) from error
    except StorageFullError as error:
        raise UnitError("storage_full", str(error), 507) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UnitError("out_of_memory", f"Not enough memory for {spec.model}.", 503) from error


@dataclass
class _Work:
    """A unit under way."""

    net: Network
    spec: UnitSpec
    key: str
    resources: Resources
    started: float
    tell: Send
    partials: bool
    done: int = 0
    total: int = 0

    def input(self) -> Tensor:
        """The unit's images as the network takes them, [n, c, h, w]."""
        pictures = (self.resources.image(self.spec, image) for image in self.spec.inputs)
        return torch.cat([self.net.preprocess(one) for one in pictures]).to(self.net.device)

    def keep(self, made: Explanation) -> UnitResult:
        """Store the pictures and arrays."""
        elapsed_s = self._elapsed()
        files = {f"{name}.png": _png(pixels) for name, pixels in made.pictures.items()}
        files |= {f"{name}.npy": _npy(array) for name, array in made.arrays.items()}
        before = self.resources.artifacts.written
        kept = self.resources.artifacts.put_all(files)
        return UnitResult(
            key=self.key,
            facts=dict(made.facts),
            pictures={name: kept[f"{name}.png"] for name in made.pictures},
            arrays={name: kept[f"{name}.npy"] for name in made.arrays},
            provenance=made.provenance,
            image=self.spec.image,
            elapsed_s=elapsed_s,
            stored_bytes=self.resources.artifacts.written - before,
        )

    def step(self, done: int, total: int) -> None:
        """Tell how far it is."""
        self.done, self.total = done, total
        self.tell(Progress(done, total, self._elapsed()))

    def part(self, made: Explanation) -> None:
        """Tell what is known so far."""
        self.tell(Progress(self.done, self.total, self._elapsed(), self.keep(made)))

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self.started, 4)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _explain(work: _Work) -> Explanation:
    net, spec = work.net, work.spec
    assert spec.method is not None
    method = methods.get(spec.method)
    try:
        target = Target.model_validate(spec.target or {})
    except ValidationError as error:
        raise ParameterError(f"The target {spec.target} is not one: {error}.") from error
    x = work.input()
    on_partial = work.part if work.partials else None
    return method.run(
        net, x, target, spec.params, on_progress=work.step, on_partial=on_partial
    )  # fmt: skip


def _sheets(work: _Work) -> Explanation:
    spec = work.spec
    assert spec.units is not None and spec.rules is not None
    return unit_sheets(work.net, work.input(), spec.units, spec.rules)


def _predict(work: _Work) -> Explanation:
    net, spec = work.net, work.spec
    logits = forward(net, work.input())[0]
    shares = logits.double().softmax(0)
    if not torch.isfinite(shares).all():
        raise UnitError("not_finite", f"{spec.model} gives NaN or infinity for this image.")
    best = shares.topk(min(spec.top, len(shares)))
    names = net.classes
    found = [
        {"class": int(k), "name": names[k] if names else str(int(k)), "probability": float(p)}
        for p, k in zip(best.values, best.indices, strict=True)
    ]
    return Explanation({}, {}, {"classes": found}, f"{net.name} {net.fingerprint[:12]}")


def _filters(work: _Work) -> Explanation:
    net, spec = work.net, work.spec
    assert spec.layer is not None
    grid = dn.filters(net, spec.layer)
    sheet, cells = kernel_sheet(grid, spec.scale)
    facts = {**kernel_facts(grid), "cells": cells}
    line = f"{net.name} {net.fingerprint[:12]} · {spec.layer} · kernels, {spec.scale} scale"
    return Explanation({}, {"grid": sheet}, facts, line)


def _describe(work: _Work) -> Explanation:
    net = work.net
    return Explanation({}, {}, describe(net), f"{net.name} {net.fingerprint[:12]}")


def _architecture(work: _Work) -> Explanation:
    bare = describe(work.net) | {"weights": None, "weights_hash": ""}
    return Explanation({}, {}, bare, f"{work.net.name}, without weights")


_KINDS: Mapping[str, Callable[[_Work], Explanation]] = {
    "explain": _explain,
    "sheets": _sheets,
    "predict": _predict,
    "filters": _filters,
    "describe": _describe,
    "architecture": _architecture,
}


EVERY_S = 0.1
