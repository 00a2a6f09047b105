"""How zfnet64 is trained: options, learning rate, augmentation, clipped filters."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.zoo import Recipe

_WARM_UP = 0.15  # share of the steps in which the rate rises to its peak


@dataclass(frozen=True)
class TrainOptions:
    """What a run of the trainer needs besides data: see `Recipe` for the optimiser's part."""

    recipe: Recipe
    out: Path
    seed: int = 0
    precision: str = "auto"
    keep: tuple[int, ...] = (1, 2, 4, 8)
    checkpoint_every: float = 120.0
    device: str = "cpu"
    progress: bool = True


@dataclass
class Progress:
    """Where a run stands; written with every checkpoint."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def rate_at(fraction: float, peak: float) -> float:
    """The rate after `fraction` of the steps: a cosine from peak / 4 to `peak`, one to zero."""
    if fraction < _WARM_UP:
        return peak * (0.25 + 0.75 * (0.5 - 0.5 * math.cos(math.pi * fraction / _WARM_UP)))
    return peak * (0.5 + 0.5 * math.cos(math.pi * (fraction - _WARM_UP) / (1 - _WARM_UP)))


def augment(pixels: Tensor, size: tuple[int, int], shift: int, rng: torch.Generator) -> Tensor:
    """Random crops of `size` (reaching `shift` pixels beyond the border) and horizontal flips.

    uint8 [n, 3, R, R] → uint8 [n, 3, *size].
    """
    if shift:
        pixels = F.pad(pixels.float(), (shift,) * 4, mode="reflect").to(torch.uint8)
    n, _, height, width = pixels.shape
    top = torch.randint(height - size[0] + 1, (n,), generator=rng).tolist()
    left = torch.randint(width - size[1] + 1, (n,), generator=rng).tolist()
    flip = torch.rand(n, generator=rng).lt(0.5).tolist()
    crops = []
    for image, y, x, mirrored in zip(pixels, top, left, flip, strict=True):
        crop = image[:, y : y + size[0], x : x + size[1]]
        crops.append(crop.flip(-1) if mirrored else crop)
    return torch.stack(crops)


def clip_rms(module: nn.Module, limit: float) -> None:
    """Scale back convolution filters whose root mean square exceeds `limit` (ZF, section 3)."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                rms = layer.weight.pow(2).mean(dim=(1, 2, 3), keepdim=True).sqrt()
                layer.weight.mul_((limit / rms.clamp_min(1e-12)).clamp_max(1.0))
