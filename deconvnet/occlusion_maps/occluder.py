"""The occluder: a square, where it goes, and what it shows."""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deconvnet.address import natural
from deconvnet.errors import ParameterError
from deconvnet.graph.network import Network

NamedFill = Literal["grey", "mean", "black", "blur"]
FILLS: tuple[NamedFill, ...] = ("grey", "mean", "black", "blur")
COLOUR = "^#[0-9a-fA-F]{6}$"


@dataclass(frozen=True)
class Occluder:
    """A square and where it goes.

    Attributes:
        size, stride: pixels; 1 ≤ stride ≤ size.
        fill: "grey" (mid-grey), "mean" (the image's mean colour), "black", "blur" (the image out of
            focus) or a colour "#rrggbb".
    """

    size: int = 32
    stride: int = 8
    fill: str = "grey"

    def __post_init__(self) -> None:
        for name in ("size", "stride"):
            number = natural(getattr(self, name))
            if not number:
                raise ParameterError(
                    f"{name} is {getattr(self, name)!r}, expected a number of pixels from 1."
                )
            object.__setattr__(self, name, number)
        if not 1 <= self.stride <= self.size:
            raise ParameterError(
                f"stride is {self.stride} for an occluder of size {self.size}; expected 1 to the "
                "size, or some pixels are never covered."
            )
        if self.fill not in FILLS and not re.match(COLOUR, str(self.fill)):
            raise ParameterError(
                f"fill is '{self.fill}', expected one of {', '.join(FILLS)}, or '#rrggbb'."
            )

    def starts(self, length: int) -> list[int]:
        """Where occluders begin along an axis of the image, in pixels; the first lie beyond it."""
        return list(range(self.stride - self.size, length, self.stride))

    def picture(self, net: Network, x: Tensor) -> Tensor:
        """What shows inside the square, as [1, c, H, W] in the network's units.

        Raises:
            ParameterError: a colour for a network that does not take three channels.
        """
        if self.fill == "mean":
            return x.mean(dim=(2, 3), keepdim=True).expand_as(x)
        if self.fill == "blur":
            # torchvision takes 1.5 s to import: only for those who need it
            from torchvision.transforms.functional import gaussian_blur  # noqa: PLC0415

            sigma = max(self.size / 4, 1.0)
            reach = min(int(3 * sigma), min(x.shape[2:]) - 1)
            blurred: Tensor = gaussian_blur(x, [2 * reach + 1] * 2, [sigma, sigma])
            return blurred
        if x.shape[1] != len(net.preprocess.mean):
            raise ParameterError(
                f"fill is '{self.fill}', a colour, but {net.name} takes {x.shape[1]} channels; "
                "expected mean or blur."
            )
        if self.fill == "grey":
            colour = (0.5, 0.5, 0.5)
        elif self.fill == "black":
            colour = (0.0, 0.0, 0.0)
        else:
            r, g, b = (int(self.fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
            colour = (r, g, b)
        values = torch.tensor(net.preprocess.colour(colour), dtype=x.dtype, device=x.device)
        return values.view(1, 3, 1, 1).expand_as(x)
