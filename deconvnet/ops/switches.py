"""Switches: where in its window each pooled maximum was, one byte each (ZF, section 2.1).

They are recorded once, on the whole image, and sliced for crops: recomputed on a crop, near-ties
could flip. Unpooling adds, in a fixed order, so it is the adjoint of pooling and deterministic.
"""

import torch
from torch import Tensor

from deconvnet.geometry.region import Window

_TELLS = {torch.uint8: 2**8, torch.int16: 2**15, torch.int32: 2**31}  # cells apart, at most


def inflate(g: Tensor, window: Window) -> Tensor:
    """Zeros of the size that a patch pulls through a window, [n, c, h', w'] in channels-last."""
    (sh, sw), (eh, ew) = window.stride, window.extent
    n, c, h, w = g.shape
    zeros = g.new_zeros(n, (h - 1) * sh + eh, (w - 1) * sw + ew, c)
    return zeros.permute(0, 3, 1, 2)


def taps(target: Tensor, window: Window, h: int, w: int) -> list[Tensor]:
    """For each place in the window, row by row, the view of `target` that it meets."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    return [
        target[
            ..., a * dh : a * dh + (h - 1) * sh + 1 : sh, b * dw : b * dw + (w - 1) * sw + 1 : sw
        ]
        for a in range(kh)
        for b in range(kw)
    ]


def spread(given: Tensor, window: Window) -> Tensor:
    """The sum of what each position gives to every place of its window.

    Args:
        given: [n, h, w, places of the window row by row, c].

    Returns:
        [n, c, h', w'], the patch that the window pulls, padding included.
    """
    n, h, w, _, c = given.shape
    if h == w == 1 and window.dilation == (1, 1):
        return given.view(n, *window.kernel, c).permute(0, 3, 1, 2)
    out = inflate(given[..., 0, :].permute(0, 3, 1, 2), window)
    for place, tap in enumerate(taps(out, window, h, w)):
        tap.add_(given[..., place, :].permute(0, 3, 1, 2))
    return out


def to_switches(flat: Tensor, width: int, window: Window) -> Tensor:
    """Offsets inside the window from torch's flat indices into the input plane.

    Args:
        flat: int64 [n, c, h, w].
        width: columns of the input plane.

    Returns:
        uint8 [n, c, h, w]; int16 or int32 for windows of more cells than that tells apart.
    """
    (_, kw), (sh, sw) = window.kernel, window.stride
    (ph, pw), (dh, dw) = window.padding, window.dilation
    n, c, h, w = flat.shape
    # A table over the plane and one for the windows' corners: integers divide slowly.
    y, x = kw * dw, dh
    cells = flat.permute(0, 2, 3, 1).reshape(-1)
    height = (h - 1) * sh + window.extent[0]  # of the plane, or more
    plane = _grid(height, width, y, x, flat.device).view(-1)
    corner = _grid(h, w, y * sh, x * sw, flat.device).sub_(y * ph + x * pw)
    place = plane.index_select(0, cells).view(n, h, w, c).sub_(corner[..., None])
    if dh * dw > 1:
        place //= dh * dw
    small = next(dtype for dtype, most in _TELLS.items() if window.kernel[0] * kw <= most)
    return place.to(small).permute(0, 3, 1, 2)


def _grid(h: int, w: int, dy: int, dx: int, device: torch.device) -> Tensor:
    """y·dy + x·dx for every place of an h×w map, int32."""
    rows = torch.arange(h, dtype=torch.int32, device=device).mul_(dy).view(h, 1)
    return rows + torch.arange(w, dtype=torch.int32, device=device).mul_(dx)


def unpool(g: Tensor, switches: Tensor, window: Window) -> Tensor:
    """Each value to where its maximum was, summed where windows overlap.

    Args:
        g: [n, c, h, w], patches of the pooled map.
        switches: theirs, [n, c, h, w]; or [1, c, h, w] where all have the same.

    Returns:
        [n, c, h', w'], the patch that the window pulls, padding included.
    """
    out = inflate(g, window)
    if g.device.type == "cpu":
        return _scatter(out, g, switches, window)
    # Elsewhere scatter_add_ adds in no fixed order.
    for place, tap in enumerate(taps(out, window, g.shape[2], g.shape[3])):
        tap.add_(g * (switches == place))
    return out


def _scatter(out: Tensor, g: Tensor, switches: Tensor, window: Window) -> Tensor:
    """`unpool` in one pass: source by source, each image in one thread, so in a fixed order."""
    (_, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    (n, c, h, w), width = g.shape, out.shape[3]
    cell = torch.arange(window.kernel[0] * kw)
    offset = (cell // kw * (dh * width) + cell % kw * dw) * c
    corner = _grid(h, w, sh * width, sw, g.device)
    first = corner[..., None] * c + torch.arange(c)  # [h, w, c]: convolutions run in this layout
    cells = switches.permute(0, 2, 3, 1).reshape(-1).int()
    at = (offset.index_select(0, cells).view(-1, h, w, c).add_(first)).expand(n, h, w, c)
    flat = out.permute(0, 2, 3, 1).view(n, -1)
    flat.scatter_add_(1, at.reshape(n, -1), g.permute(0, 2, 3, 1).reshape(n, -1))
    return out
