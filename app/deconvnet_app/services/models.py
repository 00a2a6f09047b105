"""Which networks there are, and what is known of each."""

from pathlib import Path

from deconvnet.errors import nearest
from deconvnet.graph.describe import Description
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.catalog.models import (
    is_shipped,
    model_names,
    model_source,
    weights_remedy,
    why_unloadable,
)
from deconvnet_app.compute.spec import UnitError, UnitSpec
from deconvnet_app.errors import Fault, Refusal
from deconvnet_app.state import AppState


def indexed_models(state: AppState) -> list[tuple[Description, Opened]]:
    """Every network that has an index, with its newest one; newest first."""
    found: dict[str, Opened] = {}
    for opened in state.indexes.all():
        found.setdefault(opened.model["name"], opened)
    return [(opened.model, opened) for opened in found.values()]


def all_names(state: AppState) -> list[str]:
    """Indexed networks first, then whatever else can be loaded."""
    indexed = [model["name"] for model, _ in indexed_models(state)]
    return list(dict.fromkeys([*indexed, *model_names(state.settings)]))


def require_model(state: AppState, model: str) -> str:
    """The network's name; raises Refusal (404) with the nearest ones."""
    names = all_names(state)
    if model not in names:
        hint = nearest(model, names)
        raise Refusal(404, "not_found", f"Model '{model[:80]}' is unknown; {hint}.")
    return model


def remedy(error: UnitError, model: str) -> str:
    """What a unit's error says, and what whoever runs this server can do about missing weights."""
    if error.code != "weights_error":
        return error.detail
    return f"{error.detail} {weights_remedy(model)}"


async def described(state: AppState, model: str, timeout: float) -> Description:
    """A network as a worker describes it.

    Raises:
        Refusal: it cannot be loaded, or not within `timeout` seconds.
    """
    try:
        result = await state.compute.run(UnitSpec(kind="describe", model=model), timeout)
    except UnitError as error:
        raise Refusal(error.status, error.code, remedy(error, model)) from error
    return {**result.facts, "name": model}


async def described_or_bare(
    state: AppState, model: str, timeout: float
) -> tuple[Description, str]:  # fmt: skip
    """A network as a worker describes it, and ""; or without weights, and why it has none here.

    Raises:
        Refusal: it cannot be loaded even so, or not within `timeout` seconds.
    """
    why = why_unloadable(state.settings, model)
    if not why:
        try:
            return await described(state, model, timeout), ""
        except Refusal as refusal:
            if refusal.code != "weights_error":
                raise
            why = refusal.detail
    try:
        result = await state.compute.run(UnitSpec(kind="architecture", model=model), timeout)
    except UnitError as error:
        raise Refusal(error.status, error.code, why if error.fatal else error.detail) from error
    return {**result.facts, "name": model}, why


def has_weights(state: AppState, model: str) -> bool:
    """Whether a network's weights are here; what is not known without a worker counts as not."""
    source = model_source(state.settings, model)
    if why_unloadable(state.settings, model):
        return False
    if source.weights is None or is_shipped(source) or Path(source.weights).is_file():
        return True
    return state.compute.cached(UnitSpec(kind="describe", model=model)) is not None


async def require_loadable(state: AppState, model: str, timeout: float) -> Description | None:
    """A network as a worker describes it; None if that is not known after `timeout` seconds.

    One that is not loaded by then is let pass: its weights may be on their way. What a worker has
    told once is kept, so only the first request for a network waits at all.

    Raises:
        Refusal: 422, it cannot be loaded; why not, and the remedy.
    """
    if model not in model_names(state.settings):
        return None  # said by whoever looks the name up
    why = why_unloadable(state.settings, model)
    if not why:
        try:
            return await described(state, model, timeout)
        except Refusal as refusal:
            why = refusal.detail if refusal.status < 500 else ""
    if why:
        raise Refusal(422, "unloadable_model", why, [Fault("/model", "unloadable_model", why)])
    return None


def choose_index(state: AppState, model: str, index: str | None) -> Opened:
    """The index asked for, or the newest one of the network.

    Raises:
        Refusal: 404, there is none; with the remedy, also where it needs weights first.
    """
    try:
        return state.indexes.choose(model, index)
    except Refusal as refusal:
        known = index is None and model in model_names(state.settings)
        if not known or has_weights(state, model):
            raise
        why = why_unloadable(state.settings, model)
        need = why or f"Its weights are not here yet. {weights_remedy(model)}"
        raise Refusal(refusal.status, refusal.code, f"{refusal.detail}. {need}") from refusal


async def freshness(state: AppState, opened: Opened, timeout: float) -> str:
    """What is wrong with an index's network, compared with the one that would be loaded now."""
    model = opened.model
    if model["name"] not in model_names(state.settings):
        return ""
    try:
        now = await described(state, model["name"], timeout)
    except Refusal:
        return ""
    same = now["weights_hash"] == model["weights_hash"]
    return "" if same else "other weights than the network has now"
