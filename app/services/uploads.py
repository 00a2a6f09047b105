"""Images that people send: checked, re-encoded, kept by content.

What is kept and served is never the file that came, but a PNG of our own of its upright sRGB
pixels.
"""

import io
import threading
import time
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from app.db import images as store
from app.db import models
from app.errors import Refusal
from app.settings import Settings
from app.state import AppState
from deconvnet.errors import InputError
from deconvnet.preprocess import to_rgb

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")

# Decoding needs some 10 bytes of memory per pixel: not many images at once.
_decoding = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class StoredImage:
    """An uploaded image: its artifact is a PNG; `created`: this upload was the first of it."""

    id: str
    sha256: str
    width: int
    height: int
    name: str
    created_at: float
    created: bool = False


def store_image(state: AppState, data: bytes, name: str) -> StoredImage:
    """Check, re-encode and keep an image.

    Raises:
        Refusal: 413 too large, 415 not a format that is taken, 422 not decodable.
        StorageFullError: no room.
    """
    png, (width, height) = reencode(data, state.settings)
    sha256 = state.artifacts.put(png)
    row = models.Image(
        id=f"img_{sha256[:32]}",
        sha256=sha256,
        width=width,
        height=height,
        name=_display_name(name),
        created_at=time.time(),
    )
    with state.db.write() as session:
        created = store.add(session, row)
        found = row if created else store.get(session, row.id)
        assert found is not None
        return _view(found, created=created)


def get_image(state: AppState, image_id: str) -> StoredImage:
    """An image kept before; raises Refusal (404)."""
    with state.db.read() as session:
        found = store.get(session, image_id)
        if found is None:
            detail = f"Image '{image_id[:80]}' is unknown. Upload it with POST /api/v1/images."
            raise Refusal(404, "not_found", detail)
        return _view(found)


def _view(row: models.Image, *, created: bool = False) -> StoredImage:
    return StoredImage(row.id, row.sha256, row.width, row.height, row.name, row.created_at, created)


def _display_name(name: str) -> str:
    """The file's name without folders and control characters, at most 120 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:120] or "image"


def reencode(data: bytes, limits: Settings) -> tuple[bytes, tuple[int, int]]:
    """The image as PNG, upright sRGB, and its (width, height).

    Raises:
        Refusal: 413, 415 or 422.
    """
    if len(data) > limits.file_bytes:
        detail = f"The file has {len(data)} bytes; at most {limits.file_bytes} are taken."
        raise Refusal(413, "file_too_large", detail)
    if not data:
        raise Refusal(422, "empty_file", "The file is empty. Send an image.")
    try:
        with _decoding, _open(data) as image:
            _check_size(image.size, limits)
            buffer = io.BytesIO()
            upright = to_rgb(image)
            upright.save(buffer, "PNG", compress_level=3)
            return buffer.getvalue(), upright.size
    except InputError as error:
        raise Refusal(422, "undecodable", str(error)) from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refusal(413, "image_too_large", "The image has too many pixels.") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        if _looks_taken(data):
            raise Refusal(422, "undecodable", "The image's header is broken.") from error
        detail = f"The file is not an image that is taken ({kinds}), whatever its name."
        raise Refusal(415, "unsupported_format", detail) from error
    except (OSError, ValueError, SyntaxError, OverflowError) as error:
        raise Refusal(422, "undecodable", f"The image cannot be read: {error}.") from error


_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")


def _looks_taken(data: bytes) -> bool:
    return data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _check_size(size: tuple[int, int], limits: Settings) -> None:
    width, height = size
    if width * height > limits.image_pixels or max(size) > limits.image_side:
        detail = (
            f"The image is {width} x {height}; at most {limits.image_pixels} pixels and "
            f"{limits.image_side} a side are taken. Scale it down."
        )
        raise Refusal(413, "image_too_large", detail)
