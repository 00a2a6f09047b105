"""The store of uploaded images."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from deconvnet_app.db.models import Image

AT_ONCE = 500  # databases take only so many parameters


def get(session: Session, image_id: str) -> Image | None:
    """The image of that id."""
    return session.get(Image, image_id)


def hashes(session: Session, image_ids: Collection[str]) -> dict[str, str]:
    """What each of the images is called by content: id → SHA-256; who is unknown is left out."""
    found: dict[str, str] = {}
    wanted = sorted(set(image_ids))
    for first in range(0, len(wanted), AT_ONCE):
        some = wanted[first : first + AT_ONCE]
        rows = session.execute(select(Image.id, Image.sha256).where(Image.id.in_(some)))
        found.update((row.id, row.sha256) for row in rows)
    return found


def add(session: Session, image: Image) -> bool:
    """Keep an image; False if it was there already, which takes on this upload's notes."""
    kept = session.get(Image, image.id)
    if kept is not None:
        kept.notes = image.notes
        return False
    session.add(image)
    return True
