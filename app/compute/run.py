"""The one way from a specification to a result, for pages and for jobs."""

import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

import deconvnet as dn
from app.compute.kernels import kernel_facts, kernel_sheet
from app.compute.units import UnitError, UnitResult, UnitSpec
from app.compute.workshop import Workshop
from app.errors import ArtifactMissingError, Refusal, StorageFullError
from deconvnet import methods
from deconvnet.describe import describe
from deconvnet.errors import (
    AddressError,
    DeconvnetError,
    GraphError,
    ModelError,
    ParameterError,
    WeightsError,
)
from deconvnet.forward import run as forward
from deconvnet.methods import Explanation, Target
from deconvnet.network import Network

_FATAL = (AddressError, GraphError, ModelError, ParameterError, WeightsError)


def run_unit(spec: UnitSpec, workshop: Workshop) -> UnitResult:
    """Compute one unit: a pure function of the specification and of the files that it names.

    Raises:
        UnitError: what the specification asks for cannot be computed, and why.
    """
    started = time.perf_counter()
    try:
        net, network_key = workshop.network(spec.model)
        made = _KINDS[spec.kind](net, spec, workshop)
    except UnitError:
        raise
    except Refusal as error:
        raise UnitError(error.code, error.detail, error.status, fatal=True) from error
    except ArtifactMissingError as error:
        raise UnitError("input_missing", str(error), 404) from error
    except DeconvnetError as error:
        raise UnitError(_code(error), str(error), fatal=isinstance(error, _FATAL)) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UnitError("out_of_memory", f"Not enough memory for {spec.model}.", 503) from error
    elapsed_s = round(time.perf_counter() - started, 4)
    files = {f"{name}.png": _png(pixels) for name, pixels in made.pictures.items()}
    files |= {f"{name}.npy": _npy(array) for name, array in made.arrays.items()}
    before = workshop.artifacts.written
    try:
        kept = workshop.artifacts.put_all(files)
    except StorageFullError as error:
        raise UnitError("storage_full", str(error), 507) from error
    return UnitResult(
        key=spec.key(network_key),
        facts=dict(made.facts),
        pictures={name: kept[f"{name}.png"] for name in made.pictures},
        arrays={name: kept[f"{name}.npy"] for name in made.arrays},
        provenance=made.provenance,
        elapsed_s=elapsed_s,
        stored_bytes=workshop.artifacts.written - before,
    )


def _code(error: DeconvnetError) -> str:
    """InputError → input_error, IndexError_ → index_error."""
    name = type(error).__name__.removesuffix("_").removesuffix("Error")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_") + "_error"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _explain(net: Network, spec: UnitSpec, workshop: Workshop) -> Explanation:
    assert spec.method is not None
    method = methods.get(spec.method)
    try:
        target = Target.model_validate(spec.target or {})
    except ValidationError as error:
        raise ParameterError(f"The target {spec.target} is not one: {error}.") from error
    x = net.preprocess(workshop.image(spec)).to(net.device)
    return method.run(net, x, target, spec.params)


def _predict(net: Network, spec: UnitSpec, workshop: Workshop) -> Explanation:
    logits = forward(net, net.preprocess(workshop.image(spec)).to(net.device))[0]
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


def _filters(net: Network, spec: UnitSpec, workshop: Workshop) -> Explanation:
    del workshop
    assert spec.layer is not None
    grid = dn.filters(net, spec.layer)
    sheet, cells = kernel_sheet(grid, spec.scale)
    facts = {**kernel_facts(grid), "cells": cells}
    line = f"{net.name} {net.fingerprint[:12]} · {spec.layer} · kernels, {spec.scale} scale"
    return Explanation({}, {"grid": sheet}, facts, line)


def _describe(net: Network, spec: UnitSpec, workshop: Workshop) -> Explanation:
    del spec, workshop
    return Explanation({}, {}, describe(net), f"{net.name} {net.fingerprint[:12]}")


_KINDS: Mapping[str, Callable[[Network, UnitSpec, Workshop], Explanation]] = {
    "explain": _explain,
    "predict": _predict,
    "filters": _filters,
    "describe": _describe,
}
