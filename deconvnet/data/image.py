"""From any picture to upright 8-bit sRGB: the one conversion, for indexes, uploads and commands.

It imports no torch, so that a small process can do it. In this order:

=====================  =====================================================================
animated               the first frame
16-bit grey            scaled by 1/257, never clipped (I;16, and I with values up to 65,535)
I and F beyond that    stretched from their own least and largest value to 0 … 255
1-bit, palette         Pillow's conversion to grey, to RGB
colour profile (ICC)   applied to reach sRGB, perceptually; one that is broken or of another
                       kind of colour is ignored
CMYK, YCbCr, LAB, …    without a profile: Pillow's conversion
transparency           composited over white (alpha, palette or colour key)
EXIF orientation       applied, so that the picture stands upright; broken EXIF is ignored
=====================  =====================================================================

Colour files with 16 bits per channel reach us with 8: Pillow keeps the upper byte.
What was left out or ignored is said in `Picture.notes`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from deconvnet.data.integrity import complete
from deconvnet.errors import InputError, reason

SEVERAL_FRAMES = "The file has several frames; the first is taken."
BAD_PROFILE = "The colour profile is broken or not of this kind of picture; it is ignored."
BAD_EXIF = "The EXIF block is broken; it is ignored."

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WIDE = (*_SIXTEEN_BIT, "I", "F")
_GREY = ("1", "L", "LA", "La")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_MOST_8, _MOST_16 = 255, 65535
_BAND = 1 << 20  # pixels converted at a time: no second whole picture in a wider mode

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Profile = ImageCms.ImageCmsTransform | None


@dataclass(frozen=True)
class Picture:
    """Upright 8-bit sRGB pixels (mode RGB), and what was left out or ignored on the way."""

    pixels: Image.Image
    notes: tuple[str, ...] = ()


def open_picture(data: bytes) -> Image.Image:
    """A picture file, opened and found complete; decoded where that needs all of its pixels.

    Raises:
        InputError: part of its pixels is missing.
        OSError, ValueError, SyntaxError: what Pillow raises on what it cannot open.
    """
    return complete(Image.open(io.BytesIO(data)), data)


def to_rgb(image: Image.Image) -> Image.Image:
    """The pixels of `convert`."""
    return convert(image).pixels


def convert(image: Image.Image) -> Picture:
    """The picture as upright 8-bit sRGB, by the table above; what is so already comes back itself.

    Needs memory for two pictures at most, if the caller does not hold on to `image`.

    Raises:
        InputError: the image has no pixels, or its data is truncated or broken.
    """
    if image.width < 1 or image.height < 1:
        raise InputError(f"The image is {image.width}×{image.height}: it has no pixels.")
    try:
        notes = [SEVERAL_FRAMES] if getattr(image, "is_animated", False) else []
        if image.tell():
            image.seek(0)
        image.load()
        turn, said = _turn(image)
        image, also_said = _flat(image)
        if turn is not None:
            image = image.transpose(turn)
            image.info = {}
        return Picture(image, (*notes, *said, *also_said))
    except Exception as error:  # decoders fail in many ways; each is this image's matter
        raise InputError(
            f"The image cannot be decoded: {reason(error)}. Save it again and retry."
        ) from error


def _turn(image: Image.Image) -> tuple[Image.Transpose | None, list[str]]:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1)), []
    except Exception:  # a broken EXIF block can raise anything; the pixels are still there
        return None, [BAD_EXIF]


def _flat(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture as 8-bit sRGB over white, as it lies in the file."""
    transform, notes = _to_srgb(image)
    transparent = image.mode in _ALPHA or "transparency" in image.info
    if image.mode == "RGB" and transform is None and not transparent:
        return image, notes
    shade = _shade(image)
    flat = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows)))
        flat.paste(_flat_band(band, shade, transform, transparent), (0, top))
    return flat, notes


def _flat_band(
    band: Image.Image,
    shade: Callable[[Image.Image], Image.Image],
    transform: Profile,
    transparent: bool,
) -> Image.Image:
    if band.mode in _WIDE:
        band = shade(band)
        transparent = band.mode == "LA"
    if transparent:
        band = band.convert("LA" if band.mode in _GREY else "RGBA")
    colour = band.convert(_colour_mode(band.mode))
    rgb = colour.convert("RGB") if transform is None else ImageCms.applyTransform(colour, transform)
    assert rgb is not None
    if not transparent:
        return rgb
    over = Image.new("RGB", rgb.size, "white")
    over.paste(rgb, mask=band.getchannel("A"))
    return over


def _colour_mode(mode: str) -> str:
    """The 8-bit mode without alpha that a mode's colours are brought to before the profile."""
    if mode in _GREY or mode in _WIDE:
        return "L"
    return "CMYK" if mode == "CMYK" else "RGB"


def _shade(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """From a band of a wide grey mode to 8 bits: L, or LA where a colour key makes it transparent.

    (value - low) * factor, the same for every band.
    """
    low, factor = 0.0, 1.0 / 257.0
    if image.mode in ("I", "F"):
        least, most = image.getextrema()
        assert isinstance(least, int | float) and isinstance(most, int | float)
        if image.mode == "F" or least < 0 or most > _MOST_16:
            low, factor = least, 255.0 / (most - least) if most > least else 0.0
        elif most <= _MOST_8:
            factor = 1.0
    key = image.info.get("transparency")

    def shade(band: Image.Image) -> Image.Image:
        values = np.asarray(band).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has values that are NaN or infinite")
        grey = Image.fromarray(np.rint((values - low) * factor).astype(np.uint8))
        if isinstance(key, int):  # a colour key is a value of the wide mode
            grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
        return grey

    return shade


def _to_srgb(image: Image.Image) -> tuple[Profile, list[str]]:
    profile = image.info.get("icc_profile")
    if not profile:
        return None, []
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        mode = _colour_mode(image.mode)
        # For grey, the engine's own shortcut is a coarse table: 5/255 off on a steep curve.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        return ImageCms.buildTransform(source, target, mode, "RGB", flags=flags), []
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, [BAD_PROFILE]
