"""POST /images and what was posted."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Request, Response, UploadFile
from fastapi.responses import FileResponse

from deconvnet_app.api.dependencies import State
from deconvnet_app.api.openapi import LOCATION, refusals, stored, told
from deconvnet_app.api.schemas import ImageView
from deconvnet_app.errors import Refusal
from deconvnet_app.http.files import Asked, picture
from deconvnet_app.services import uploads
from deconvnet_app.urls import API

router = APIRouter(prefix="/images", tags=["images"])


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


def _in_a_form(request: Request) -> None:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        detail = (
            f"Content-Type is '{kind[:80]}'. Send multipart/form-data, its part 'file' the image."
        )
        raise Refusal(415, "unsupported_media_type", detail)


KNOWN = {200: {"model": ImageView, "description": "The same picture is there already"}}


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(_in_a_form)],
    responses={
        **told(LOCATION, 201),
        200: KNOWN[200] | told(LOCATION)[200],
        **refusals(415, 429, 507),
    },
)
def upload(state: State, response: Response, file: Annotated[UploadFile, File()]) -> ImageView:
    """Keep an image: JPEG, PNG, WebP, BMP or GIF; 200 if the same picture is there already."""
    data = file.file.read(state.settings.file_bytes + 1)
    image = uploads.store_image(state, data, file.filename or "image")
    response.headers["Location"] = API.image(image.id)
    response.status_code = 201 if image.created else 200
    return _view(image)


@router.get("/{image}.png", response_class=FileResponse, responses=stored("image/png"))
def png(state: State, image: str, asked: Asked) -> Response:
    """The picture as it is kept."""
    found = uploads.get_image(state, image)
    return picture(state.artifacts.path(found.sha256), found.sha256, asked)


@router.get("/{image}", responses=refusals(404))
def read(state: State, image: str) -> ImageView:
    """What is known of an uploaded image."""
    return _view(uploads.get_image(state, image))
