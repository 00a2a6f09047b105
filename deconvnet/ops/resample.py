"""Linear steps that torch takes on whole maps: up as it does, down by the adjoint it knows.

None of them has a window as `region` speaks of it: an output of a transposed convolution sees what
lies under a fraction of its place. So a change of one input counts as a change everywhere.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import AdjointOp, Call, WeightedAdjointOp, pair, register


@register(torch.conv1d)
def conv1d(
    input: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Call:  # fmt: skip
    """torch.nn.functional.conv1d."""
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    products = weight.numel() * int(input.shape[2])  # a line is one position
    op = WeightedAdjointOp(
        "convolution along a line", torch.conv1d, input.shape, weight, bias, products, **settings
    )
    return op, [input]


@register(nn.Conv1d)
def conv1d_module(module: nn.Conv1d, x: Any) -> Call:
    """nn.Conv1d."""
    if module.padding_mode != "zeros":
        raise UnknownOpError(
            f"A Conv1d with padding_mode='{module.padding_mode}' is unknown; expected 'zeros'."
        )
    return conv1d(
        x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
    )


@register(F.conv_transpose2d)
def conv_transpose2d(
    input: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Call:  # fmt: skip
    """torch.nn.functional.conv_transpose2d."""
    settings = {"padding": padding, "output_padding": output_padding, "dilation": dilation}
    sy, sx = pair(stride)
    op = WeightedAdjointOp(
        "transposed convolution", F.conv_transpose2d, input.shape, weight, bias,
        weight.numel() // (sy * sx), stride=(sy, sx), groups=groups, **settings,
    )  # fmt: skip
    return op, [input]


@register(nn.ConvTranspose2d)
def conv_transpose_module(module: nn.ConvTranspose2d, x: Any) -> Call:
    """nn.ConvTranspose2d."""
    return conv_transpose2d(
        x, module.weight, module.bias, module.stride, module.padding, module.output_padding,
        module.groups, module.dilation,
    )  # fmt: skip


@register(F.interpolate, F.upsample)
def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Call:  # fmt: skip
    """torch.nn.functional.interpolate."""
    settings = {
        "size": size,
        "scale_factor": scale_factor,
        "mode": mode,
        "align_corners": align_corners,
        "recompute_scale_factor": recompute_scale_factor,
        "antialias": antialias,
    }
    return AdjointOp("interpolation", F.interpolate, input.shape, **settings), [input]


@register(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample_module(module: nn.Upsample, x: Any) -> Call:
    """nn.Upsample and its two older spellings."""
    return interpolate(
        x, module.size, module.scale_factor, module.mode, module.align_corners,
        module.recompute_scale_factor,
    )  # fmt: skip


@register(F.pixel_shuffle)
def pixel_shuffle(input: Any, upscale_factor: int) -> Call:
    """torch.nn.functional.pixel_shuffle."""
    function = F.pixel_shuffle
    return AdjointOp("pixel shuffle", function, input.shape, upscale_factor=upscale_factor), [input]


@register(nn.PixelShuffle)
def pixel_shuffle_module(module: nn.PixelShuffle, x: Any) -> Call:
    """nn.PixelShuffle."""
    return pixel_shuffle(x, module.upscale_factor)


@register(F.pixel_unshuffle)
def pixel_unshuffle(input: Any, downscale_factor: int) -> Call:
    """torch.nn.functional.pixel_unshuffle."""
    settings = {"downscale_factor": downscale_factor}
    return AdjointOp("pixel unshuffle", F.pixel_unshuffle, input.shape, **settings), [input]


@register(nn.PixelUnshuffle)
def pixel_unshuffle_module(module: nn.PixelUnshuffle, x: Any) -> Call:
    """nn.PixelUnshuffle."""
    return pixel_unshuffle(x, module.downscale_factor)
