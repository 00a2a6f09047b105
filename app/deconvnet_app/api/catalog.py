"""What there is: models, methods, datasets, indexes."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter, Response

from deconvnet import methods
from deconvnet.address import Unit
from deconvnet.errors import AddressError
from deconvnet.graph.describe import layer_of
from deconvnet_app.api.dependencies import Page, Paging, State
from deconvnet_app.api.openapi import ETAG, LINK, refusals, told, unchanged
from deconvnet_app.api.schemas import (
    DatasetImage,
    DatasetView,
    HitView,
    IndexView,
    MethodView,
    ModelSummary,
    ModelView,
    Paged,
    TopView,
    UnitView,
)
from deconvnet_app.catalog.indexes import Opened
from deconvnet_app.errors import Refusal
from deconvnet_app.http.files import IfNoneMatch, matches
from deconvnet_app.services import models as networks
from deconvnet_app.state import AppState
from deconvnet_app.urls import API

router = APIRouter()

T = TypeVar("T")


def _slice(rows: Sequence[T], page: Paging) -> tuple[Sequence[T], str | None]:
    """The page's part of a list that is in memory anyway, and the next cursor."""
    start = 0 if page.after is None else page.after + 1
    end = start + page.limit
    return rows[start:end], page.link(end - 1 if end < len(rows) else None)


async def _description(state: AppState, model: str) -> tuple[Mapping[str, Any], str]:
    """A network in JSON, from an index of it, else from a worker; and why it has no weights."""
    networks.require_model(state, model)
    for opened in state.indexes.for_model(model):
        return opened.model, ""
    try:
        return await networks.described_or_bare(state, model, timeout=60)
    except Refusal as refusal:
        if refusal.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        # Nothing is wrong with the request: the network cannot be loaded as things stand.
        raise Refusal(409, "unloadable_model", refusal.detail) from refusal


def _model_links(name: str) -> dict[str, str]:
    return {"self": API.model(name), "layers": API.layers(name)}


def _index_ids(state: AppState, model: str) -> list[str]:
    return [opened.id for opened in state.indexes.for_model(model)]


@router.get("/models", tags=["models"], responses=told(LINK))
def models(state: State, page: Page) -> Paged[ModelSummary]:
    """The networks that there are, by name."""
    names, cursor = _slice(sorted(networks.all_names(state)), page)
    items = [
        ModelSummary(name=name, indexes=_index_ids(state, name), links=_model_links(name))
        for name in names
    ]
    return Paged(items=items, next_cursor=cursor)


@router.get("/models/{model}", tags=["models"], responses=refusals(404, 409, 504))
async def model(state: State, model: str) -> ModelView:
    """A network: where it comes from, what it takes, what it tells apart."""
    described, why = await _description(state, model)
    return ModelView(
        name=model,
        missing=why,
        description={key: value for key, value in described.items() if key != "layers"},
        indexes=_index_ids(state, model),
        links=_model_links(model),
    )


@router.get(
    "/models/{model}/layers", tags=["models"], responses=told(LINK) | refusals(404, 409, 504)
)
async def layers(state: State, page: Page, model: str) -> Paged[dict[str, Any]]:
    """A network's layers, landmarks first: shape, receptive field and jump in pixels."""
    described, _ = await _description(state, model)
    rows, cursor = _slice(described["layers"], page)
    return Paged(items=list(rows), next_cursor=cursor)


@router.get("/models/{model}/units/{unit}", tags=["models"], responses=refusals(404, 409, 504))
async def unit(state: State, model: str, unit: str) -> UnitView:
    """A unit, such as conv5:7, and its statistics in the indexes of its network."""
    address = _parse(unit)
    try:
        described, _ = await _description(state, model)
        layer = layer_of(described, address)
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error
    return UnitView(
        model=model,
        unit=str(address),
        layer=dict(layer),
        channel=address.channel,
        indexes={
            opened.id: _plain(opened.index.stats(_channel(address)))
            for opened in state.indexes.for_model(model)
            if address.layer in opened.index.layers
        },
    )


def _parse(unit: str) -> Unit:
    try:
        return Unit.parse(unit)
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error


def _channel(unit: Unit) -> Unit:
    return Unit(unit.layer, unit.channel)


def _plain(value: Any) -> Any:
    """A record of NumPy values as JSON; what is not a finite number becomes null."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@router.get("/methods", tags=["methods"])
def list_methods() -> Paged[MethodView]:
    """The ways of explaining, each with the JSON Schema of its parameters."""
    items = [
        MethodView(
            name=method.name,
            title=method.title,
            source=method.source,
            explains=sorted(method.explains),
            params=method.Params.model_json_schema(),
        )
        for method in methods.all_methods()
    ]
    return Paged(items=items)


@router.get("/datasets", tags=["datasets"], responses=told(LINK))
def datasets(state: State, page: Page) -> Paged[DatasetView]:
    """The datasets that the operator has registered."""
    ids, cursor = _slice(state.datasets.ids(), page)
    items = []
    for dataset_id in ids:
        dataset = state.datasets.get(dataset_id)
        links = {"images": API.dataset_images(dataset_id)}
        view = DatasetView(
            id=dataset_id,
            count=len(dataset),
            skipped=len(dataset.passed_over),
            labels=dataset.labels,
            links=links,
        )
        items.append(view)
    return Paged(items=items, next_cursor=cursor)


@router.get("/datasets/{dataset}/images", tags=["datasets"], responses=told(LINK) | refusals(404))
def dataset_images(state: State, page: Page, dataset: str) -> Paged[DatasetImage]:
    """A dataset's images, in order."""
    entries = list(enumerate(state.datasets.get(dataset).entries))
    rows, cursor = _slice(entries, page)
    items = [
        DatasetImage(n=n, path=one.path, bytes=one.size, label=one.label, group=one.group)
        for n, one in rows
    ]
    return Paged(items=items, next_cursor=cursor)


@router.get("/indexes", tags=["indexes"], responses=told(LINK))
def indexes(state: State, page: Page) -> Paged[IndexView]:
    """The indexes that can be served, newest first."""
    found, cursor = _slice(state.indexes.all(), page)
    return Paged(items=[_index_view(opened) for opened in found], next_cursor=cursor)


def _index_view(opened: Opened) -> IndexView:
    index = opened.index
    return IndexView(
        id=opened.id,
        content=index.id,
        model=opened.model["name"],
        dataset={
            "name": index.dataset["name"],
            "count": index.dataset["count"],
            "skipped": index.dataset["skipped"],
        },
        k=index.k,
        layers={layer: index.channels(layer) for layer in index.layers},
        links={"self": API.index(opened.id), "model": API.model(opened.model["name"])},
    )


TAGGED = told(ETAG) | unchanged() | refusals(404)


def _tagged(response: Response, opened: Opened, if_none_match: str | None) -> bool:
    """Whether the client has this content already; the ETag is told either way."""
    etag = f'"{opened.index.id}"'
    response.headers["ETag"] = etag
    return matches(if_none_match, etag)


@router.get("/indexes/{index}", tags=["indexes"], response_model=IndexView, responses=TAGGED)
def index(
    state: State,
    response: Response,
    index: str,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """An index: of which network, over which images, for which layers."""
    opened = state.indexes.get(index)
    if _tagged(response, opened, if_none_match):
        return Response(status_code=304, headers=dict(response.headers))
    return _index_view(opened)


@router.get(
    "/indexes/{index}/units/{unit}/top",
    tags=["indexes"],
    response_model=TopView,
    responses=TAGGED,
)
def top(
    state: State,
    response: Response,
    index: str,
    unit: str,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The images that excite a unit most, best first, and its statistics."""
    opened = state.indexes.get(index)
    address = _channel(_parse(unit))
    try:
        hits = opened.index.top(address)
        stats = opened.index.stats(address)
    except AddressError as error:
        raise Refusal(404, "not_found", str(error)) from error
    if _tagged(response, opened, if_none_match):
        return Response(status_code=304, headers=dict(response.headers))
    return TopView(
        index=opened.id,
        unit=str(address),
        hits=[HitView(rank=rank, **_plain(hit)) for rank, hit in enumerate(hits, 1)],
        statistics=_plain(stats),
    )
