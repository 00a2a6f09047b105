"""Switches against autograd's own max-pooling, and unpooling on patches."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.geometry.region import Window
from deconvnet.ops.switches import inflate, taps, to_switches, unpool

WINDOWS = [
    Window((2, 2), (2, 2)),
    Window((3, 3), (2, 2)),
    Window((3, 3), (1, 1), (1, 1)),
    Window((2, 3), (1, 2), (1, 0)),
    Window((2, 2), (2, 1), (0, 1), (2, 3)),
    Window((17, 16), (1, 2)),  # more cells than a byte can tell apart
]


def _pooled(x: torch.Tensor, w: Window, ceil: bool) -> tuple[torch.Tensor, torch.Tensor]:
    pooled = F.max_pool2d(
        x, w.kernel, w.stride, w.padding, w.dilation, ceil, return_indices=True
    )  # fmt: skip
    return pooled[0], to_switches(pooled[1], x.shape[-1], w)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("ceil", [False, True])
def test_unpooling_is_the_adjoint_of_the_pooling_that_was(window: Window, ceil: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 20, 19, generator=generator, dtype=torch.float64, requires_grad=True)
    pooled, switches = _pooled(x, window, ceil)
    g = torch.randn(pooled.shape, generator=generator, dtype=torch.float64)
    (truth,) = torch.autograd.grad(pooled, x, g)
    (top, left), back = window.padding, unpool(g, switches, window)
    back = F.pad(back, (0, 20, 0, 20))[..., top : top + 20, left : left + 19]
    assert torch.allclose(back, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_one_image_s_switches_serve_many_reconstructions(window: Window) -> None:
    x = torch.randn(1, 2, 20, 19)
    pooled, switches = _pooled(x, window, False)
    g = torch.randn(4, *pooled.shape[1:])
    each = torch.cat([unpool(one[None], switches, window) for one in g])
    assert torch.equal(unpool(g, switches, window), each)
    assert torch.equal(unpool(g, switches.expand(4, -1, -1, -1), window), each)


def test_overlapping_windows_add_and_do_not_overwrite() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0  # the maximum of all four windows
    window = Window((3, 3), (2, 2))
    pooled, switches = _pooled(x, window, False)
    assert unpool(torch.ones_like(pooled), switches, window)[0, 0, 2, 2] == 4


def test_a_switch_takes_one_byte() -> None:
    for window, dtype in ((WINDOWS[1], torch.uint8), (WINDOWS[-1], torch.int16)):
        assert _pooled(torch.randn(1, 1, 20, 19), window, False)[1].dtype == dtype


def test_a_window_of_a_whole_large_map_finds_its_last_cell_again() -> None:
    x = torch.zeros(1, 1, 190, 200)
    x[0, 0, 189, 199] = 1.0  # beyond what two bytes tell
    window = Window((190, 200), (190, 200))
    pooled, switches = _pooled(x, window, False)
    assert switches.item() == 190 * 200 - 1
    assert torch.equal(unpool(pooled, switches, window), x)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_patch_of_the_switches_unpools_as_its_part_of_the_map(data: st.DataObject) -> None:
    window = data.draw(st.sampled_from(WINDOWS[:5]))
    x = torch.randn(1, 2, 14, 13, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pooled, switches = _pooled(x, window, False)
    height, width = pooled.shape[2:]
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    g = torch.zeros_like(pooled)
    g[..., y0:y1, x0:x1] = torch.randn(pooled[..., y0:y1, x0:x1].shape, dtype=torch.float64)
    patch = unpool(g[..., y0:y1, x0:x1], switches[..., y0:y1, x0:x1], window)
    whole = unpool(g, switches, window)
    (sh, sw), (h, w) = window.stride, patch.shape[2:]
    assert torch.allclose(whole[..., y0 * sh :, x0 * sw :][..., :h, :w], patch, rtol=0, atol=1e-12)


def test_both_ways_of_unpooling_agree() -> None:
    for window in WINDOWS:
        pooled, switches = _pooled(torch.randn(2, 3, 20, 19), window, False)
        g = torch.randn_like(pooled)
        out = inflate(g, window)
        for place, tap in enumerate(taps(out, window, g.shape[2], g.shape[3])):
            tap.add_(g * (switches == place))
        assert torch.allclose(out, unpool(g, switches, window), rtol=0, atol=1e-5)
