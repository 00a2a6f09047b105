"""POST /images and what was posted."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Header, Response, UploadFile
from fastapi.responses import FileResponse

from app.api.deps import State
from app.api.links import API
from app.api.models import ImageView
from app.errors import Refusal
from app.services import uploads

router = APIRouter(prefix="/images", tags=["images"])

IfNoneMatch = Annotated[str | None, Header()]

IMMUTABLE = "private, max-age=31536000, immutable"


def _view(image: uploads.StoredImage) -> ImageView:
    links = {"self": API.image(image.id), "png": API.image_png(image.id)}
    return ImageView(
        id=image.id,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        name=image.name,
        created_at=image.created_at,
        notes=list(image.notes),
        links=links,
    )


@router.post("", status_code=201, responses={200: {"model": ImageView}})
def upload(state: State, response: Response, file: Annotated[UploadFile, File()]) -> ImageView:
    """Keep an image: JPEG, PNG, WebP, BMP or GIF; 200 if the same picture is there already."""
    most = state.settings.file_bytes
    if (file.size or 0) > most:
        detail = f"The file has {file.size} bytes; at most {most} are taken."
        raise Refusal(413, "file_too_large", detail)
    image = uploads.store_image(state, file.file.read(most + 1), file.filename or "image")
    response.headers["Location"] = API.image(image.id)
    response.status_code = 201 if image.created else 200
    return _view(image)


@router.get("/{image}.png", response_class=FileResponse)
def png(state: State, image: str, if_none_match: IfNoneMatch = None) -> Response:
    """The picture as it is kept."""
    found = uploads.get_image(state, image)
    return picture(state.artifacts.path(found.sha256), found.sha256, if_none_match)


@router.get("/{image}")
def read(state: State, image: str) -> ImageView:
    """What is known of an uploaded image."""
    return _view(uploads.get_image(state, image))


def picture(
    path: Path, sha256: str, if_none_match: str | None, media_type: str = "image/png"
) -> Response:
    """A stored file, for ever the same: strong ETag, Range; 304 if the client has it already."""
    headers = {"ETag": f'"{sha256}"', "Cache-Control": IMMUTABLE}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=media_type)
