"""From a file that someone sent to a PNG of our own, or a reason why not.

Runs in a process of its own (`zygote`): it imports neither torch nor the rest of the application,
and needs memory for two pictures at most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedWriter, BytesIO, RawIOBase
from typing import Any

from PIL import Image, UnidentifiedImageError

from deconvnet.data.image import convert
from deconvnet.data.integrity import complete
from deconvnet.errors import InputError, reason

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
KINDS = "JPEG, PNG, WebP, BMP, GIF"
DATASET_FORMATS = (*FORMATS, "TIFF", "PPM")
DATASET_KINDS = f"{KINDS}, TIFF, PPM"

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
_DATASET_MAGIC = (*_MAGIC, b"II", b"MM", *(f"P{kind}".encode() for kind in "123456fF"))


@dataclass(frozen=True)
class Limits:
    """The largest picture that is taken: pixels in all, and pixels of a side.

    `of_dataset`: it is a dataset's file, which may have more formats than an upload.
    """

    pixels: int
    side: int
    of_dataset: bool = False


@dataclass(frozen=True)
class Made:
    """What became of a file: a picture's size and notes, or why there is none.

    `why` goes on from the file's name: "is not an image …". `status`: as in HTTP; 200: a picture.
    """

    status: int = 200
    code: str = ""
    why: str = ""
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()


def reencode(
    data: bytes, limits: Limits, tell: Callable[[Made], None], write: Callable[[bytes], object]
) -> None:
    """Tell what the file is; if it is a picture that is taken, write it as PNG, upright sRGB.

    Raises:
        MemoryError: it needs more than there is.
    """
    try:
        picture = convert(_opened(data, limits))
    except _Refused as refused:
        tell(refused.made)
    except InputError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error
        tell(Made(422, "undecodable", f"cannot be taken: {_lower(str(error))}"))
    else:
        width, height = picture.pixels.size
        tell(Made(width=width, height=height, notes=picture.notes))
        with BufferedWriter(_Pipe(write)) as file:
            picture.pixels.save(file, "PNG", compress_level=1)


class _Pipe(RawIOBase):
    """A file for Pillow to encode into: no second picture is held in memory."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._write(bytes(data))
        return len(data)


class _Refused(Exception):
    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(why)
        self.made = Made(status, code, why)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _opened(data: bytes, limits: Limits) -> Image.Image:
    if not data:
        raise _Refused(422, "empty_file", "is empty. Send an image.")
    if not _looks_taken(data, limits):
        kinds = DATASET_KINDS if limits.of_dataset else KINDS
        why = f"is not an image that is taken ({kinds}), whatever its name."
        raise _Refused(415, "unsupported_format", why)
    try:
        formats = DATASET_FORMATS if limits.of_dataset else FORMATS
        image = Image.open(BytesIO(data), formats=formats)
        _require_size(image.size, limits)
        return complete(image, data)
    except (_Refused, InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise _Refused(422, "undecodable", "cannot be taken: its header is broken.") from error
    except Exception as error:  # decoders fail in many ways; each is this image's matter
        raise _Refused(422, "undecodable", f"cannot be decoded: {reason(error)}.") from error


def _require_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels or max(size) > limits.side:
        why = (
            f"is {width} × {height} pixels; at most {limits.pixels} pixels and "
            f"{limits.side} a side are taken. Scale it down."
        )
        raise _Refused(413, "image_too_large", why)


def _looks_taken(data: bytes, limits: Limits) -> bool:
    magic = _DATASET_MAGIC if limits.of_dataset else _MAGIC
    return data.startswith(magic) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
