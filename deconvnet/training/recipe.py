"""How zfnet64 is trained: options, learning rate, augmentation, clipped filters."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms.v2 import functional as transform

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
class TrainProgress:
    """Where a run stands; written with every checkpoint."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def schedule(
    optimiser: torch.optim.Optimizer, peaks: list[float], steps: int, done: int
) -> OneCycleLR:
    """The learning rate of each step: a cosine from a quarter of the peak up to it, one to zero.

    Args:
        peaks: of each group of parameters.
        steps: of the whole run.
        done: steps that an earlier run has taken already.
    """
    made = OneCycleLR(
        optimiser, peaks, total_steps=steps, pct_start=_WARM_UP, div_factor=4, cycle_momentum=False
    )
    if done:
        made.load_state_dict(made.state_dict() | {"last_epoch": done - 1, "_step_count": done + 1})
        made.step()
    return made


def augment(pixels: Tensor, size: tuple[int, int], shift: int, rng: torch.Generator) -> Tensor:
    """Random crops of `size` (reaching `shift` pixels beyond the border) and horizontal flips.

    uint8 [n, 3, R, R] → uint8 [n, 3, *size].
    """
    if shift:
        pixels = transform.pad(pixels, [shift] * 4, padding_mode="reflect")
    n, _, height, width = pixels.shape
    # Drawn here: v2's transforms draw from the generator of the process, which dropout uses too.
    top = torch.randint(height - size[0] + 1, (n,), generator=rng).tolist()
    left = torch.randint(width - size[1] + 1, (n,), generator=rng).tolist()
    flip = torch.rand(n, generator=rng).lt(0.5).tolist()
    crops = []
    for image, y, x, mirrored in zip(pixels, top, left, flip, strict=True):
        crop = transform.crop(image, y, x, *size)
        crops.append(transform.horizontal_flip(crop) if mirrored else crop)
    return torch.stack(crops)


def clip_rms(module: nn.Module, limit: float) -> None:
    """Scale back convolution filters whose root mean square exceeds `limit` (ZF, section 3)."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                rms = layer.weight.pow(2).mean(dim=(1, 2, 3), keepdim=True).sqrt()
                layer.weight.mul_((limit / rms.clamp_min(1e-12)).clamp_max(1.0))
