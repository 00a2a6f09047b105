"""What schemathesis is told besides the description: how a picture is made."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _png(size: tuple[int, int], colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, colour).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


side = st.integers(1, 64)
pictures = st.builds(_png, st.tuples(side, side), st.integers(0, 255))
for media_type in ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif"):
    schemathesis.openapi.media_type(media_type, pictures)
