"""The store of uploaded images."""

from sqlalchemy.orm import Session

from app.db.models import Image


def get(session: Session, image_id: str) -> Image | None:
    """The image of that id."""
    return session.get(Image, image_id)


def add(session: Session, image: Image) -> bool:
    """Keep an image; False if it was there already, which takes on this upload's notes."""
    kept = session.get(Image, image.id)
    if kept is not None:
        kept.notes = image.notes
        return False
    session.add(image)
    return True
