"""Claim: exact occlusion maps several times faster than the plain loop and than Captum.

Positions per second of `dn.occlusion` against a plain channels_last loop and against captum's
Occlusion as shipped and in channels_last, on the same occluders of one photograph; the largest
error of probabilities and activities beside it. Captum's windows do not overhang the border, so
its own positions are counted for it.
"""

import argparse

import torch
from common import (
    arguments,
    batch,
    each,
    interleave,
    peer,
    photographs,
    relative_error,
    stock,
    table,
)

import deconvnet as dn

captum = peer("captum.attr")


def measure(name: str, size: int, stride: int, options: argparse.Namespace) -> list[str]:
    """One row."""
    net = dn.load(name, weights=None, device=options.device)
    x = batch(net, photographs(options.images), 1)
    kwargs = {"size": size, "stride": stride}
    found = dn.occlusion(net, x, **kwargs)
    ours = lambda: dn.occlusion(net, x, **kwargs)  # noqa: E731
    plain = interleave(
        ours, lambda: dn.occlusion(net, x, strategy="plain", **kwargs), options.runs, options.device
    )
    expected = dn.occlusion(net, x, strategy="plain", **kwargs)
    both = (
        (found.probability, expected.probability),
        (found.activity, expected.activity),
    )
    peer = captum.Occlusion(stock(net))
    counted = (-(-(x.shape[2] - size) // stride) + 1) ** 2
    per_captum = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = x.contiguous(memory_format=layout)
        theirs = lambda laid=laid: peer.attribute(  # noqa: E731
            laid, (3, size, size), (3, stride, stride), target=0, perturbations_per_eval=16
        )
        timing = interleave(ours, theirs, max(1, options.runs // 2), options.device)
        per_captum[layout] = timing.ratio * found.label.numel() / counted
    rate = found.label.numel() / min(plain.ours)
    return [
        f"{name} p{size} s{stride}", found.strategy.split(",")[0].split(";")[0], f"{rate:.1f}",
        f"{plain.ratio:.2f}×", f"{per_captum[torch.contiguous_format]:.2f}×",
        f"{per_captum[torch.channels_last]:.2f}×",
        f"{max(relative_error(*pair) for pair in both):.1e}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--stride", type=int, default=8)
    options = parser.parse_args()
    models = options.models or ["alexnet", "resnet18", "googlenet", "vgg16", "zfnet64"]
    rows = []
    for name in each(models):
        for size in [8] if name == "zfnet64" else options.sizes:
            rows.append(measure(name, size, 4 if name == "zfnet64" else options.stride, options))
    head = ["network", "way", "positions/s", "over the plain loop", "over captum as shipped",
            "over captum, channels_last", "error"]  # fmt: skip
    print(table("Occlusion", head, rows, "captum"))


if __name__ == "__main__":
    main()
