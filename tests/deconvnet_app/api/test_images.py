"""Uploads: what is taken, what is refused and how, what is kept."""

import io
import struct
import zlib
from collections.abc import Callable

from fastapi.testclient import TestClient
from PIL import Image


def post(client: TestClient, data: bytes, name: str = "a.png"):
    return client.post("/api/v1/images", files={"file": (name, data)})


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_an_image_is_kept_once_upright_and_as_our_own_png(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    sideways = encoded(Image.open(io.BytesIO(make_png(size=(30, 20)))), "JPEG", exif=exif)
    first, again = post(client, sideways), post(client, sideways)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["Location"] == f"/api/v1/images/{first.json()['id']}"
    assert (first.json()["width"], first.json()["height"]) == (20, 30)

    kept = client.get(first.json()["links"]["png"])
    assert kept.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(kept.content)).size == (20, 30)
    part = client.get(first.json()["links"]["png"], headers={"Range": "bytes=0-7"})
    assert part.status_code == 206
    assert part.content == kept.content[:8]


def test_every_format_that_is_taken_is_taken(client: TestClient) -> None:
    image = Image.effect_noise((12, 9), 40)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        assert post(client, encoded(image, kind)).status_code in (200, 201), kind


def test_what_is_not_an_image_is_refused_whatever_its_name(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    tiff = encoded(Image.open(io.BytesIO(make_png())), "TIFF")
    for data in (b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", tiff, b"%PDF-1.7"):
        answer = post(client, data)
        assert answer.status_code == 415, data[:10]
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert post(client, b"").status_code == 422


def test_a_truncated_image_is_refused_not_filled_with_grey(client: TestClient) -> None:
    whole = encoded(Image.effect_noise((200, 200), 80), "PNG")
    for data in (whole[: len(whole) // 2], whole[:20]):
        assert post(client, data).status_code == 422
    jpeg = encoded(Image.effect_noise((200, 200), 80), "JPEG")
    assert post(client, jpeg[: len(jpeg) // 2]).status_code == 422


def claimed_png(width: int, height: int) -> bytes:
    """A PNG's header for a size, with next to no pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_an_image_that_claims_too_many_pixels_is_refused_by_its_header(
    client: TestClient,
) -> None:
    for size in ((50_000, 50_000), (10_000, 10_000), (8_000, 8_000), (20_000, 1)):
        answer = post(client, claimed_png(*size))
        assert answer.status_code == 413, size
        assert answer.json()["type"].endswith("image_too_large")


def test_names_are_kept_without_folders_and_ids_open_nothing_else(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    answer = post(client, make_png(), "..\\..\\etc/passwd<b>.png")
    assert answer.json()["name"] == "passwd<b>.png"
    for bad in ("img_nope", "..%2f..%2fetc%2fpasswd", "%00", "img_" + "a" * 500):
        found = client.get(f"/api/v1/images/{bad}")
        assert found.status_code == 404, bad
        assert found.headers["Content-Type"] == "application/problem+json"
    assert client.post("/api/v1/images", files={"other": b"x"}).status_code == 422
