"""From a picture to the network's input and back to what the eye sees.

The conversion to RGB is the same everywhere (index, upload, command line), in this order:

=====================  =====================================================================
animated               the first frame
EXIF orientation       applied, so that the picture stands upright; broken EXIF is ignored
16-bit grey            scaled by 1/257, never clipped (I;16, and I with values up to 65,535)
I and F beyond that    stretched from their own least and largest value to 0 … 255
colour profile (ICC)   applied to reach sRGB; a broken one is ignored
CMYK, YCbCr, LAB, …    without a profile: Pillow's conversion
1-bit, L, palette      Pillow's conversion
transparency           composited over white (alpha, palette or colour key)
=====================  =====================================================================

Colour files with 16 bits per channel reach us with 8: Pillow keeps the upper byte.
Coordinates are (y, x) in pixels of the preprocessed image.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from deconvnet.errors import InputError, reason

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_MOST_8, _MOST_16 = 255, 65535


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block can raise anything; the pixels are still there
        return image


def _to_eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are NaN or infinite")
    low, high = values.min(), values.max()
    if image.mode in _SIXTEEN_BIT or (
        image.mode == "I" and low >= 0 and _MOST_8 < high <= _MOST_16
    ):
        scaled = values / 257.0
    elif image.mode == "I" and low >= 0 and high <= _MOST_8:
        scaled = values
    else:
        scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    grey = Image.fromarray(np.rint(scaled).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):  # a colour key is a value of the wide mode
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=mode
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile is ignored: the pixels are still there
    return converted or image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as upright 8-bit sRGB, by the table above.

    Raises:
        InputError: the image has no pixels, or its data is truncated or broken.
    """
    if image.width < 1 or image.height < 1:
        raise InputError(f"The image is {image.width}×{image.height}: it has no pixels.")
    try:
        if image.tell():
            image.seek(0)
        image.load()
        image = _upright(image)
        if image.mode in _SIXTEEN_BIT or image.mode in ("I", "F"):
            image = _to_eight_bit(image)
        if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
            profile = image.info.get("icc_profile")
            image = image.convert("RGBA")
            image.info["icc_profile"] = profile
        image = _to_srgb(image)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:  # decoders fail in many ways; each is this image's matter
        raise InputError(
            f"The image cannot be decoded: {reason(error)}. Save it again and retry."
        ) from error


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its images: resize, crop, normalise.

    Attributes:
        size: (height, width) of the network's input, in pixels.
        resize: length of the shorter side before the centre crop, in pixels; None: the longer
            side of `size`. An image of exactly `size` is taken as it is.
        mean, std: per channel, for values in [0, 1]: x = (rgb / 255 - mean) / std.
    """

    size: tuple[int, int]
    resize: int | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def crop(self, image: Image.Image) -> Image.Image:
        """The upright RGB picture of exactly `size` that the network sees."""
        image = to_rgb(image)
        height, width = self.size
        if image.size == (width, height):
            return image
        short = self.resize or max(height, width)
        scale = short / min(image.width, image.height)
        # Only the part that survives the crop is resampled: a 1×16384 strip stays cheap.
        box_w, box_h = min(image.width, width / scale), min(image.height, height / scale)
        x0, y0 = (image.width - box_w) / 2, (image.height - box_h) / 2
        return image.resize(
            (width, height), Image.Resampling.BILINEAR, box=(x0, y0, x0 + box_w, y0 + box_h)
        )

    def tensor(self, image: Image.Image) -> Tensor:
        """uint8 [3, H, W] of the cropped picture."""
        return torch.from_numpy(np.array(self.crop(image))).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] → float32 in the network's range."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255.0 - mean) / std

    def colour(self, rgb: tuple[float, float, float]) -> tuple[float, float, float]:
        """A colour in [0, 1] as the value it has in the network's input."""
        r, g, b = ((c - m) / s for c, m, s in zip(rgb, self.mean, self.std, strict=True))
        return (r, g, b)

    def denormalise(self, x: Tensor) -> Tensor:
        """The network's range back to [0, 1], any leading dimensions."""
        mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=x.dtype, device=x.device).view(3, 1, 1)
        return (x * std + mean).clamp(0, 1)

    def __call__(self, image: Image.Image) -> Tensor:
        """PIL image → Tensor [1, 3, H, W], float32."""
        return self.normalise(self.tensor(image)).unsqueeze(0)
