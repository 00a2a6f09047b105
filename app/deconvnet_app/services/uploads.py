"""Images that people send: checked, re-encoded, kept by content.

What is kept and served is never the file that came, but a PNG of our own of its upright sRGB
pixels, made in a process with little memory and time (`deconvnet_app.imaging`).
"""

import time
from dataclasses import dataclass, replace

from deconvnet_app.db import images as store
from deconvnet_app.db import models
from deconvnet_app.errors import Refusal
from deconvnet_app.imaging.decoder import Decoded
from deconvnet_app.imaging.reencode import Limits
from deconvnet_app.state import AppState


@dataclass(frozen=True)
class StoredImage:
    """An uploaded image: its artifact is a PNG.

    `created`: this upload was the first of it; `notes`: what its latest upload's conversion left
    out or ignored.
    """

    id: str
    sha256: str
    width: int
    height: int
    name: str
    created_at: float
    created: bool = False
    notes: tuple[str, ...] = ()


def store_image(state: AppState, data: bytes, name: str) -> StoredImage:
    """Check, re-encode and keep an image.

    Raises:
        Refusal: 413 too large, 415 not a format that is taken, 422 not decodable within the
            limits, 503 too many at once.
        StorageFullError: no room.
    """
    name = _display_name(name)
    found = _reencoded(state, data, name)
    sha256 = state.artifacts.put(found.png)
    row = models.Image(
        id=f"img_{sha256[:32]}",
        sha256=sha256,
        width=found.made.width,
        height=found.made.height,
        name=name,
        created_at=time.time(),
        notes=list(found.made.notes),
    )
    with state.db.write() as session:
        created = store.add(session, row)
        kept = row if created else store.get(session, row.id)
        assert kept is not None
        return replace(_view(kept), created=created)


def get_image(state: AppState, image_id: str) -> StoredImage:
    """An image kept before; raises Refusal (404)."""
    with state.db.read() as session:
        found = store.get(session, image_id)
        if found is None:
            detail = f"Image '{image_id[:80]}' is unknown. Upload it with POST /api/v1/images."
            raise Refusal(404, "not_found", detail)
        return _view(found)


def _view(row: models.Image) -> StoredImage:
    return StoredImage(
        row.id, row.sha256, row.width, row.height, row.name, row.created_at, notes=tuple(row.notes)
    )


def _display_name(name: str) -> str:
    """The file's name without folders and control characters, at most 120 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:120] or "image"


def _reencoded(state: AppState, data: bytes, name: str) -> Decoded:
    limits = state.settings
    if len(data) > limits.file_bytes:
        detail = f"'{name}' has more than {limits.file_bytes} bytes, the most that are taken."
        raise Refusal(413, "file_too_large", detail)
    found = state.decoder.decode(data, Limits(limits.image_pixels, limits.image_side))
    if found.made.status != 200:
        raise Refusal(found.made.status, found.made.code, f"'{name}' {found.made.why}")
    return found
