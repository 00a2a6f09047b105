"""From a picture to the network's input and back to what the eye sees.

The conversion to RGB is that of `data.image`. Coordinates are (y, x) in pixels of the preprocessed
image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data.image import to_rgb


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
        return torch.from_numpy(np.array(self.crop(image))).permute(2, 0, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] → float32 in the network's range, channels last in memory."""
        x = pixels.movedim(-3, -1).float().contiguous()
        # Whole rows at a time: three values in turn are too short a run for a vector unit.
        rows = x.flatten(-2)
        mean, std = (
            torch.tensor(values, device=pixels.device).repeat(x.shape[-2])
            for values in (self.mean, self.std)
        )
        rows.div_(255.0).sub_(mean).div_(std)
        return x.movedim(-1, -3)

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
