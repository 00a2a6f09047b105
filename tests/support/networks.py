"""Small random networks: a plan of steps, as hypothesis draws it, and the module it stands for."""

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

SIZE = (19, 16)  # of the image
WIDTH = 4  # channels of every map; divisible by two groups

# A step that leaves too small a map is passed over, so any plan is a network.
STEPS = [
    "conv3", "conv5", "conv4", "stride", "dilate", "group", "depthwise", "relu", "relu_module",
    "relu_inplace", "relu_method", "shared_relu", "relu6", "max2", "max3", "max_ceil", "max_pad",
    "max_dilated", "avg_in", "avg_out", "avg_ceil", "adaptive", "norm", "lrn", "skip", "double",
    "concat", "inception", "shift", "scale", "pad", "dropout", "shuffle", "slices",
    "mirror", "repeat", "around", "crop", "every_other", "larger", "regrow",
]  # fmt: skip
SMOOTH = ["silu", "gate", "last", "product", "attention"]  # what the deconvnet has no rule for


def plans(steps: list[str] = STEPS) -> st.SearchStrategy[list[str]]:
    """Plans of three to nine steps after the first convolution."""
    return st.lists(st.sampled_from(steps), min_size=3, max_size=9)


_CONV: dict[str, dict[str, Any]] = {
    "conv3": {"kernel_size": 3, "padding": 1},
    "conv5": {"kernel_size": 5, "padding": 1, "bias": False},
    "conv4": {"kernel_size": (4, 3), "padding": (2, 0)},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilate": {"kernel_size": 3, "dilation": (2, 1), "padding": 2},
    "group": {"kernel_size": 3, "groups": 2},
    "depthwise": {"kernel_size": 3, "groups": WIDTH, "padding": "same"},
}

_POOL: dict[str, Any] = {
    "max2": lambda x: F.max_pool2d(x, 2),
    "max3": lambda x: F.max_pool2d(x, 3, stride=2),
    "max_ceil": lambda x: F.max_pool2d(x, 3, stride=2, ceil_mode=True),
    "max_pad": lambda x: torch.max_pool2d(x, (3, 2), stride=(1, 2), padding=(1, 0)),
    "max_dilated": lambda x: F.max_pool2d(x, 2, stride=1, dilation=2),
    "avg_in": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1),
    "avg_out": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_ceil": lambda x: F.avg_pool2d(x, (2, 3), 2, (0, 1), ceil_mode=True),
    "crop": lambda x: x[:, :, 1:, :-1],
    "every_other": lambda x: x[:, :, ::2, 1::2],
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (x.shape[2] // 2 + 1, 5)),
}

_SIMPLE: dict[str, Any] = {
    "relu": F.relu,
    "relu_inplace": lambda x: F.relu(x, inplace=True),
    "relu_method": lambda x: x.relu(),
    "relu6": lambda x: F.relu6(x * 8.0),
    "lrn": lambda x: F.local_response_norm(x, 3, alpha=0.5, beta=0.75, k=2.0),
    "double": lambda x: x + x,
    "scale": lambda x: x * 0.5 - x * 1.5,
    "shift": lambda x: 1 - x,
    "pad": lambda x: F.pad(x, (1, 0, 0, 2)),
    "mirror": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "repeat": lambda x: F.pad(x, (0, 1, 2, 0), mode="replicate"),
    "around": lambda x: F.pad(x, (1, 0, 1, 0), mode="circular"),
    "larger": lambda x: torch.maximum(x, 1 - 2 * x),
    "regrow": lambda x: F.interpolate(F.avg_pool2d(x, 2, ceil_mode=True), x.shape[2:]),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "shuffle": lambda x: (
        x.view(-1, 2, 2, x.size(2), x.size(3)).transpose(1, 2).contiguous().view(x.shape)
    ),
    "slices": lambda x: torch.cat([x[:, 2:], torch.chunk(x, 2, dim=1)[0]], dim=1),
    "silu": F.silu,
    "gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (WIDTH,)).tanh().permute(0, 3, 1, 2),
    "product": lambda x: x * (1 - x),
    "attention": lambda x: x * (x.amax(1, keepdim=True) + x.mean(1, keepdim=True)).sigmoid(),
}


class Drawn(nn.Module):
    """[n, 3, h, w] → the last map, rectified."""

    def __init__(self, plan: list[str]) -> None:
        super().__init__()
        self.plan = plan
        self.first = nn.Conv2d(3, WIDTH, 3)
        self.shared = nn.ReLU()
        self.parts = nn.ModuleDict()
        for i, step in enumerate(plan):
            part = self._part(step)
            if part is not None:
                self.parts[str(i)] = part
        self.kept = self._fitting()

    @staticmethod
    def _part(step: str) -> nn.Module | None:
        if step in _CONV:
            return nn.Conv2d(WIDTH, WIDTH, **_CONV[step])
        return {
            "relu_module": lambda: nn.ReLU(inplace=True),
            "norm": lambda: nn.BatchNorm2d(WIDTH),
            "skip": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            "concat": lambda: nn.Conv2d(2 * WIDTH, WIDTH, 1),
            "inception": lambda: nn.ModuleList(
                [nn.Conv2d(WIDTH, 2, 1), nn.Conv2d(WIDTH, 2, 5, padding=2)]
            ),
        }.get(step, lambda: None)()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for i in self.kept:
            x = self._step(i, x)
        return self.shared(x)

    @torch.no_grad()
    def _fitting(self) -> list[int]:
        """The steps that find a map large enough, tried out: a traced forward cannot ask."""
        x, kept = self.first(torch.zeros(1, 3, *SIZE)), []
        for i, step in enumerate(self.plan):
            if min(x.shape[2:]) >= 6 or not (step in _CONV or step in _POOL):
                x = self._step(i, x)
                kept.append(i)
        return kept

    def _step(self, i: int, x: Tensor) -> Tensor:
        step = self.plan[i]
        part: Any = dict(self.parts.items()).get(str(i))
        if step in _POOL:
            return _POOL[step](x)
        if step in _SIMPLE:
            return _SIMPLE[step](x)
        if step == "skip":
            return self.shared(part(x)) + x
        if step == "concat":
            return part(torch.cat([self.shared(x), x], dim=1))
        if step == "inception":
            return torch.cat([F.relu(part[0](x)), F.max_pool2d(part[1](x), 3, 1, 1)], 1)
        return self.shared(x) if step == "shared_relu" else part(x)
