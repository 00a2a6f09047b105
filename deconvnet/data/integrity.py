"""Whether a picture file holds all the pixels that it promises.

Decoders fill what is missing with grey or black without a word, where the file goes on to its end
in good order: a JPEG whose entropy-coded data stop early or do not parse, a PNG or a GIF whose
compressed stream is whole but too short. A projection of such a picture would be one of the
filling. Everything else that is cut short, Pillow refuses by itself.
"""

import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from deconvnet.errors import InputError, reason

_PIECE = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
# Adam7: (x0, y0, dx, dy) of each pass; PNG specification, section 8.2
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip


def complete(image: Image.Image, data: bytes) -> Image.Image:
    """An opened, not yet decoded picture of the file `data`, once no pixels are found missing.

    What had to be decoded to find that out comes back decoded.

    Raises:
        InputError: some of the pixels are not in the file, or are damaged.
    """
    if image.format == "JPEG" and image.mode == "RGB":
        return _colour_jpeg(image, data)
    if image.format in ("JPEG", "MPO"):
        _require_jpeg(data)
    elif image.format == "PNG":
        _require_png(image, data)
    elif image.format == "GIF":
        _require_gif(image, data)
    return image


def _missing(why: str) -> InputError:
    return InputError(f"The image is damaged or incomplete: {why}. Save it again and retry.")


def _colour_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """The pixels that Pillow gives, by the same library's calls, which refuse what is damaged.

    To have Pillow decode it again would take a third of the time that a picture takes.
    """
    pixels = _jpeg(data, "RGB")
    height, width = pixels.shape[:2]
    decoded = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)
    decoded.info, decoded.format = image.info, image.format
    return decoded


def _require_jpeg(data: bytes) -> None:
    """Parse all the entropy-coded data; at an eighth of the size, which costs little."""
    colours = _jpeg_colours(data)
    _jpeg(data, "CMYK" if colours in ("CMYK", "YCCK") else "GRAY", 8)


def _jpeg_colours(data: bytes) -> str:
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError as error:
        raise _damaged_jpeg(error) from error
    return str(colours)


def _jpeg(data: bytes, kind: str, factor: int = 1) -> NDArray[np.uint8]:
    """Its pixels, one in so many each way; [h, w, channels].

    What libjpeg only warns of is refused: early ends, codes that do not exist, bytes left over.
    """
    least = 0 if factor == 1 else 1
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, kind, min_height=least, min_width=least, min_factor=factor, strict=True
        )
    except ValueError as error:
        raise _damaged_jpeg(error) from error
    return pixels


def _damaged_jpeg(error: ValueError) -> InputError:
    return _missing(str(error).removeprefix("Corrupt JPEG data: ").rstrip("."))


def _require_png(image: Image.Image, data: bytes) -> None:
    """Decode it; where its last row may be filling, count the bytes that the pixels inflate to."""
    try:
        image.load()
    except Exception as error:  # decoders fail in many ways; each is this image's matter
        raise _missing(reason(error)) from error
    last = image.crop((0, image.height - 1, image.width, image.height))
    if last.getbbox(alpha_only=False) and not image.info.get("interlace"):
        return  # rows are written in order, and filling is black
    chunks = _chunks(data)
    expected = _png_bytes(bytes(next(chunks)[1]))
    found = _inflated((body for kind, body in chunks if kind == b"IDAT"), expected)
    if found < expected:
        raise _missing(f"{found} of its {expected} bytes of pixels are there")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], view[at + 8 : at + 8 + length]
        at += 12 + length


def _png_bytes(header: bytes) -> int:
    """Bytes of a PNG's pixels before compression: each row is its pixels and a filter byte."""
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    bits = header[8] * _CHANNELS.get(header[9], 0)
    passes = _PASSES if header[12] else ((0, 0, 1, 1),)
    sizes = [(-((x0 - width) // dx), -((y0 - height) // dy)) for x0, y0, dx, dy in passes]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0)


def _inflated(bodies: Iterator[memoryview], enough: int) -> int:
    """Bytes that the stream inflates to, counted up to `enough`, never held."""
    stream, found = zlib.decompressobj(), 0
    try:
        for body in bodies:
            left: bytes | memoryview = body
            while left and found < enough and not stream.eof:
                found += len(stream.decompress(left, _PIECE))
                left = stream.unconsumed_tail
        return found + len(stream.flush()) if found < enough else found
    except zlib.error as error:
        raise _missing(str(error)) from error


def _require_gif(image: Image.Image, data: bytes) -> None:
    """Decode the first frame over black and over white: what differs was never written."""
    assert isinstance(image, ImageFile.ImageFile)
    if not image.tile:
        raise _missing("it has no frame")
    _, extents, offset, how = image.tile[0]
    assert extents is not None and isinstance(how, tuple)  # as Pillow's GIF reader gives them
    bits, interlaced, *_ = how
    size = (extents[2] - extents[0], extents[3] - extents[1])
    over = [Image.new("L", size, shade) for shade in (0, 255)]
    try:
        for canvas in over:
            canvas.frombytes(data[offset:], "gif", bits, interlaced, -1)
    except ValueError as error:
        raise _missing(str(error)) from error
    if any(ImageChops.difference(a, b).getbbox() for a, b in pairwise(over)):
        raise _missing("its first frame ends early")
