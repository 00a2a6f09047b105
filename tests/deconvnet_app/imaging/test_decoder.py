"""Decoding in a limited process: what it can reach, what ends it, and hostile files."""

import io
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deconvnet.data.image import BAD_PROFILE, SEVERAL_FRAMES
from deconvnet_app.imaging import forkserver
from deconvnet_app.imaging.decoder import Decoded, Decoder
from deconvnet_app.imaging.reencode import Limits
from tests.reliability import mutated_images

LIMITS = Limits(50_000_000, 16_384)
NOISE = np.random.default_rng(0).integers(1, 256, (160, 200, 3), np.uint8)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(1)
    yield decoder
    decoder.close()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(kind: str, **options: object) -> bytes:
    return encoded(Image.fromarray(NOISE), kind, **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(size: tuple[int, int], pixels: bytes, before: bytes = b"", interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def within_limits(outcome: Decoded) -> bool:
    return outcome.cpu_s <= 2.2 and outcome.memory_bytes <= forkserver.MEMORY_BYTES


def test_what_is_written_is_what_was_read(decoder: Decoder) -> None:
    found = decoder.decode(noise("PNG"), LIMITS)
    assert np.array_equal(Image.open(io.BytesIO(found.png)), NOISE)


@pytest.mark.parametrize("size", [(1, 1), (1, 16_384), (16_384, 1), (3, 5)])
def test_any_shape_is_written(decoder: Decoder, size: tuple[int, int]) -> None:
    image, buffer = Image.effect_noise(size, 90).convert("RGB"), io.BytesIO()
    image.save(buffer, "PNG")
    found = decoder.decode(buffer.getvalue(), LIMITS)
    assert np.array_equal(Image.open(io.BytesIO(found.png)), image)


def test_the_process_has_no_torch_no_environment_and_no_files(decoder: Decoder) -> None:
    decoder.decode(noise("PNG"), LIMITS)
    process = Path(f"/proc/{decoder.pids()[0]}")
    if not process.exists():
        pytest.skip("needs /proc")
    assert "torch" not in (process / "maps").read_text()
    assert (process / "environ").read_bytes() == b"OPENBLAS_NUM_THREADS=1\0"
    # in, out, errors, and one socket
    assert len(list((process / "fd").iterdir())) == 4


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_ends_early_in_good_order_is_refused(
    decoder: Decoder, options: dict[str, object]
) -> None:
    whole = noise("JPEG", **options)
    assert decoder.decode(whole, LIMITS).made.status == 200
    for cut in (whole[: len(whole) // 2], whole[:-30]):
        assert decoder.decode(cut + b"\xff\xd9", LIMITS).made.status == 422
    zeros = bytes(len(whole) // 2)
    assert decoder.decode(whole[: len(zeros)] + zeros + b"\xff\xd9", LIMITS).made.status == 422


@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_whose_stream_is_whole_but_too_short_is_refused(
    decoder: Decoder, interlaced: int
) -> None:
    whole = b"\0" * (41 * 40 + 120)  # black, and enough for the filter bytes of seven passes
    assert decoder.decode(png((40, 40), whole, b"", interlaced), LIMITS).made.status == 200
    short = decoder.decode(png((40, 40), whole[: 41 * 39], b"", interlaced), LIMITS).made
    assert (short.status, short.code) == (422, "undecodable")


def lzw_of_clear_and_end(size: tuple[int, int]) -> bytes:
    """A GIF whose only frame ends at once: clear code 256 and end code 257, nine bits each."""
    screen = b"GIF89a" + struct.pack("<HHBBB", *size, 0xF7, 0, 0) + bytes(768)
    frame = b"," + struct.pack("<HHHHB", 0, 0, *size, 0)
    codes = (256 | 257 << 9).to_bytes(3, "little")
    return screen + frame + b"\x08" + bytes([len(codes)]) + codes + b"\0;"


def test_a_gif_whose_frame_ends_early_is_refused(decoder: Decoder) -> None:
    assert decoder.decode(lzw_of_clear_and_end((40, 40)), LIMITS).made.status == 422


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_cut_file_is_refused(decoder: Decoder, kind: str, share: float) -> None:
    whole = noise(kind)
    found = decoder.decode(whole[: int(share * len(whole))], LIMITS)
    assert found.made.status == 422
    assert not found.png


def test_a_huge_png_is_refused_by_its_header(decoder: Decoder) -> None:
    found = decoder.decode(png((50_000, 50_000), b"\0"), LIMITS)
    assert found.made.status == 413
    assert found.cpu_s < 0.2 and found.memory_bytes < 100e6


def text_bomb() -> bytes:
    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(50_000_000), 9))
    return png((4, 4), bytes(20), text * 100)


def many_segments() -> bytes:
    whole = encoded(Image.new("RGB", (16, 16)), "JPEG")
    return whole[:2] + (b"\xff\xe5\x00\x04ab" + b"\xff\xfe\x00\x04ab") * 200_000 + whole[2:]


def many_scans() -> bytes:
    """A progressive JPEG of 36 megapixels whose last scan comes again a thousand times."""
    whole = encoded(Image.new("RGB", (6000, 6000), "grey"), "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    return whole[:at] + whole[at:-2] * 1000 + b"\xff\xd9"


@pytest.mark.parametrize("make", [text_bomb, many_segments, many_scans])
def test_a_bomb_takes_its_limits_at_most(decoder: Decoder, make: object) -> None:
    assert callable(make)
    found = decoder.decode(make(), LIMITS)
    assert found.made.status in (200, 422)
    assert within_limits(found)


def test_a_picture_that_needs_too_much_memory_is_refused(decoder: Decoder) -> None:
    frames = encoded(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True, method=0)
    found = decoder.decode(frames, LIMITS)
    assert (found.made.status, found.made.code) == (422, "too_costly")
    assert "600 MB of memory" in found.made.why


@pytest.mark.parametrize(("size", "status"), [((0, 9), 422), ((9, 0), 422), ((1, 1), 200)])
def test_a_picture_of_next_to_nothing_has_a_defined_result(
    decoder: Decoder, size: tuple[int, int], status: int
) -> None:
    data = png(size, b"\0" * (size[1] * (size[0] + 1)))
    assert decoder.decode(data, LIMITS).made.status == status


def test_what_else_is_in_a_file_is_not_kept(decoder: Decoder) -> None:
    hidden = b"<script>alert(1)</script>PK\x03\x04"
    text = chunk(b"tEXt", b"Comment\0" + hidden)
    found = decoder.decode(png((4, 4), bytes(20), text) + hidden, LIMITS)
    assert found.made.status == 200
    assert hidden not in found.png


def test_what_was_left_out_is_told_with_the_upload(client: TestClient) -> None:
    def notes(data: bytes) -> object:
        return client.post("/api/v1/images", files={"file": ("a", data)}).json()["notes"]

    frame = Image.fromarray(NOISE)
    assert notes(noise("GIF", save_all=True, append_images=[frame.rotate(90)])) == [SEVERAL_FRAMES]
    assert notes(noise("PNG", icc_profile=b"no profile")) == [BAD_PROFILE]
    assert notes(noise("PNG")) == []


def test_a_refusal_names_the_file_and_the_reason(client: TestClient) -> None:
    answer = client.post("/api/v1/images", files={"file": ("cut.jpg", noise("JPEG")[:2000])})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("'cut.jpg' cannot be taken: ")


def test_a_process_that_is_killed_is_replaced(decoder: Decoder) -> None:
    decoder.decode(noise("PNG"), LIMITS)
    before = decoder.pids()
    os.kill(before[0], signal.SIGKILL)
    assert decoder.decode(noise("PNG"), LIMITS).made.status == 200
    assert decoder.pids() != before


def test_closing_leaves_no_process() -> None:
    decoder = Decoder(1)
    decoder.start()
    pid = decoder.pids()[0]
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_few_hundred_damaged_files_end_in_a_picture_or_a_refusal(decoder: Decoder) -> None:
    found = mutated_images.run(decoder, 300)
    assert found.crashes == found.server_errors == 0
    assert found.cpu_s <= 2.2 and found.memory_bytes <= forkserver.MEMORY_BYTES
