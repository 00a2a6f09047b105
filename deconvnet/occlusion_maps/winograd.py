"""3×3 convolutions of stride 1 with a quarter of the products: Winograd's F(4×4, 3×3).

A tile of 4×4 outputs sees 6×6 inputs. With d the inputs and g the kernel of one channel,

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A,

and the sum over input channels is taken before Aᵀ … A: for each of the 36 places of a tile one
product of matrices, [tiles, c in] × [c in, c out]. All is done by matrix products: Bᵀ d B is one of
36×36 with the tiles, Aᵀ … A one of 16×36.

The matrices are those of Cook and Toom for the points 0, ±2/3, ±3/2 and infinity. The customary
points 0, ±1, ±2 lose five times more digits; with these a layer's rounding error is about 1.4 times
that of a direct convolution in float32.

Source: Lavin & Gray 2016, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308; on
the points Barabasz et al. 2020, arXiv:1803.10986.
"""

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deconvnet.geometry.region import Window

OUT = 4  # outputs along a side of a tile
IN = OUT + 2  # inputs that they see
_POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))
CHANNELS = 128  # of input and output, from which on it pays
FILLED = 0.72  # share of the tiles that an output fills, from which on it pays
_TILES = 96  # at a time: enough for the products, and few enough to stay near the processor
_CHANNELS = 64  # of a kernel, transformed at a time

Floats = NDArray[np.float64]


def _powers(count: int) -> Floats:
    """[IN, count]: the powers 0 to count - 1 of each point; of infinity the highest alone."""
    rows = [[float(point**power) for power in range(count)] for point in _POINTS]
    return np.array([*rows, [0.0] * (count - 1) + [1.0]])


def matrices() -> tuple[Floats, Floats, Floats]:
    """(Bᵀ [6, 6], G [6, 3], Aᵀ [4, 6]), with rows of Bᵀ and of G of about one size."""
    down, kernel, up = np.linalg.inv(_powers(IN)).T, _powers(3), _powers(OUT).T
    sizes = np.abs(kernel).sum(1) / np.abs(down).sum(1)
    scale = np.exp2(np.round(np.log2(sizes) / 2))[:, None]  # powers of two round nothing
    return down * scale, kernel / scale, up


def _both(matrix: Floats) -> Tensor:
    """What applies a matrix along y and along x of a tile, float64."""
    return torch.from_numpy(np.kron(matrix, matrix))


def fits(window: Window, groups: int) -> bool:
    """True for a convolution that can run so."""
    alike = (window.kernel, window.stride, window.dilation) == ((3, 3), (1, 1), (1, 1))
    return alike and groups == 1


def pays(inputs: int, outputs: int) -> bool:
    """True if a convolution of so many channels is faster so, on patches that fill their tiles.

    Measured on VGG16, ResNet18 and GoogLeNet; below these channels the transforms cost too much.
    """
    return min(inputs, outputs) >= CHANNELS


def filled(height: int, width: int) -> bool:
    """True if enough of the tiles that cover an output is not thrown away."""
    return height * width >= FILLED * OUT * OUT * tiles(height, width)


def tiles(height: int, width: int) -> int:
    """How many tiles cover an output."""
    return -(-height // OUT) * -(-width // OUT)


def memory(weight: Tensor) -> int:
    """Bytes of a transformed kernel."""
    return weight.numel() // 9 * IN * IN * weight.element_size()


class Winograd:
    """A convolution in float32 on patches that hold their padding.

    Args:
        weight: [c out, c in, 3, 3]; four times its memory is kept.
        bias: [c out] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        down, kernel, up = (_both(matrix) for matrix in matrices())
        self._down, self._up, self._bias = down.to(weight), up.to(weight), bias
        self._weight = weight.new_empty(IN * IN, weight.shape[1], weight.shape[0])
        first = 0
        for part in torch.split(weight, _CHANNELS, dim=1):
            flat = part.permute(2, 3, 1, 0).reshape(9, -1).double()
            own = self._weight[:, first : first + part.shape[1]]
            own.copy_((kernel.to(flat) @ flat).view(own.shape))
            first += part.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """[n, c in, h + 2, w + 2] → [n, c out, h, w], both channels last in memory."""
        n, _, h, w = x.shape
        high, wide = -(-(h - 2) // OUT), -(-(w - 2) // OUT)
        y = x.new_empty(n, high, OUT, wide, OUT, self._weight.shape[2])
        together = max(1, _TILES // (high * wide))
        for part, out in zip(torch.split(x, together), torch.split(y, together), strict=True):
            self._tiles(part, out)
        whole = y.view(n, high * OUT, wide * OUT, -1)
        return whole[:, : h - 2, : w - 2].permute(0, 3, 1, 2)

    def _tiles(self, x: Tensor, out: Tensor) -> None:
        """The convolution of some images, into [n, high, OUT, wide, OUT, c out]."""
        n, high, _, wide, _, _ = out.shape
        x = F.pad(x, (0, wide * OUT + 2 - x.shape[3], 0, high * OUT + 2 - x.shape[2]))
        x = x.permute(0, 2, 3, 1)  # [n, h, w, c]
        own, down, right, channel = x.stride()
        seen = x.as_strided(
            (IN, IN, n, high, wide, x.shape[3]),
            (down, right, own, OUT * down, OUT * right, channel),
        )
        inputs = torch.mm(self._down, seen.reshape(IN * IN, -1))
        products = torch.bmm(inputs.view(IN * IN, -1, x.shape[3]), self._weight)
        outputs = torch.mm(self._up, products.view(IN * IN, -1))
        placed = outputs.view(OUT, OUT, n, high, wide, -1).permute(2, 3, 0, 4, 1, 5)
        if self._bias is None:
            out.copy_(placed)
        else:
            torch.add(placed, self._bias, out=out)
