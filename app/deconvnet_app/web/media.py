"""Pictures that pages show: an index's sheets and images, and stored results."""

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deconvnet.errors import AddressError, IndexError_
from deconvnet_app.errors import ArtifactMissingError, Refusal, without_folders
from deconvnet_app.http.files import StoredFile
from deconvnet_app.urls import Urls
from deconvnet_app.web.render import state_of

router = APIRouter(include_in_schema=False)

_KINDS = {"png": "image/png", "npy": "application/octet-stream"}
_WHOLE = {"Accept-Ranges": "none"}  # pictures of pages are small
_IMMUTABLE = "public, max-age=31536000, immutable"


async def _send(request: Request, path: Path, version: str) -> Response:
    """The file; for a year if the URL says which version of the index it is of."""
    current = request.query_params.get("v") == version[:12]
    headers = {"Cache-Control": _IMMUTABLE if current else "no-cache"}
    if not await asyncio.to_thread(path.is_file):
        raise Refusal(404, "not_found", "This picture is gone. Build the index again.")
    return StoredFile(path, headers=headers | _WHOLE, media_type=_KINDS["png"])


@router.get(Urls.SPRITE)
async def sprite(request: Request, index: str, layer: str, channel: int) -> Response:
    """A unit's sheet."""
    opened = await asyncio.to_thread(state_of(request).indexes.get, index)
    try:
        path = opened.index.sprite(layer, channel)
    except (AddressError, IndexError_) as error:
        raise Refusal(404, "not_found", without_folders(str(error))) from error
    return await _send(request, path, opened.index.id)


@router.get(Urls.PATCH)
async def image(request: Request, index: str, image: int) -> Response:
    """An indexed image as the network sees it."""
    opened = await asyncio.to_thread(state_of(request).indexes.get, index)
    try:
        path = opened.index.image(image)
    except IndexError_ as error:
        raise Refusal(404, "not_found", without_folders(str(error))) from error
    return await _send(request, path, opened.index.id)


@router.get(Urls.ARTIFACT)
async def artifact(request: Request, key: str) -> Response:
    """A stored file, named by its content: it never changes."""
    name, _, kind = key.partition(".")
    if kind not in _KINDS:
        raise Refusal(404, "not_found", f"'{key[:80]}' is no stored file; expected HASH.png.")
    try:
        path = state_of(request).artifacts.path(name)
    except ArtifactMissingError as error:
        raise Refusal(404, "not_found", str(error)) from error
    headers = {"ETag": f'"{name}"', "Cache-Control": _IMMUTABLE}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return StoredFile(path, headers=headers | _WHOLE, media_type=_KINDS[kind])
