"""Occlusion against a loop that does nothing clever."""

import pytest
import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.errors import AddressError, InputError, ParameterError
from deconvnet.occlusion_maps.occluder import Occluder


class Small(nn.Module):
    """Two convolutions and a linear classifier on 20×24 images."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 8, 3, stride=2)
        self.fc = nn.Linear(8 * 9 * 11, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        x = torch.relu(self.b(x))
        return self.fc(x.flatten(1))


@pytest.fixture
def net() -> dn.Network:
    torch.manual_seed(3)
    return dn.trace(Small().double(), (3, 20, 24), landmarks={"conv1": "relu", "conv2": "relu:2"})


@pytest.fixture
def x() -> Tensor:
    return torch.rand(1, 3, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(
    net: dn.Network, x: Tensor, m: dn.OcclusionMap, fill: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The three maps, one occluder at a time, through the module itself."""
    kept: list[Tensor] = []
    module = net.module
    probability, activity, label = [], [], []
    for y, x0 in m.positions.reshape(-1, 2).tolist():
        occluded = x.clone()
        for row in range(max(y, 0), min(y + m.size, x.shape[2])):
            for column in range(max(x0, 0), min(x0 + m.size, x.shape[3])):
                occluded[0, :, row, column] = fill[0, :, row, column]
        first = torch.relu(module.a(occluded))
        kept = [torch.relu(module.b(first))]
        logits = module.fc(kept[0].flatten(1))
        probability.append(logits.softmax(1)[0, m.target])
        activity.append(kept[0][0, m.unit.channel].sum())
        label.append(logits.argmax())
    shape = m.probability.shape
    return tuple(torch.stack(v).view(shape) for v in (probability, activity, label))


@pytest.mark.parametrize("strategy", ["plain", "incremental"])
@pytest.mark.parametrize(("size", "stride"), [(8, 4), (7, 3), (5, 5), (1, 1), (20, 6)])
def test_every_position_equals_the_loop_by_hand(
    net: dn.Network, x: Tensor, size: int, stride: int, strategy: str
) -> None:
    m = dn.occlusion(net, x, size=size, stride=stride, strategy=strategy)
    assert m.strategy.startswith(strategy)
    probability, activity, label = by_hand(net, x, m, torch.full_like(x, 0.5))
    torch.testing.assert_close(m.probability, probability, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(m.activity, activity, rtol=1e-9, atol=1e-12)
    assert torch.equal(m.label, label)


@pytest.mark.parametrize("fill", ["black", "mean", "#ff8000"])
def test_the_square_shows_what_the_fill_says(net: dn.Network, x: Tensor, fill: str) -> None:
    orange = torch.tensor([1, 128 / 255, 0], dtype=torch.float64)[:, None, None]
    shown = {"black": torch.zeros(3, 1, 1), "mean": x.mean((2, 3), keepdim=True), "#ff8000": orange}
    m = dn.occlusion(net, x, size=6, stride=3, fill=fill)
    expected, _, _ = by_hand(net, x, m, shown[fill].expand_as(x))
    torch.testing.assert_close(m.probability, expected, rtol=1e-9, atol=0)
    assert m.fill == fill


def test_blur_hides_detail_but_keeps_the_mean_nearly(net: dn.Network, x: Tensor) -> None:
    shown = Occluder(8, 4, "blur").picture(net, x)
    assert shown.std() < 0.2 * x.std()
    assert abs(shown.mean() - x.mean()) < 0.05


def test_every_pixel_is_covered_equally_often(net: dn.Network, x: Tensor) -> None:
    m = dn.occlusion(net, x, size=8, stride=4)
    count = torch.zeros(20, 24)
    for y, x0 in m.positions.reshape(-1, 2).tolist():
        count[max(y, 0) : y + 8, max(x0, 0) : x0 + 8] += 1
    assert (count == 4).all()


def test_a_pixel_is_the_mean_of_the_occluders_that_cover_it(net: dn.Network, x: Tensor) -> None:
    m = dn.occlusion(net, x, size=7, stride=3)
    total, count = torch.zeros(2, 20, 24, dtype=torch.float64)
    for (y, x0), value in zip(
        m.positions.reshape(-1, 2).tolist(), m.probability.flatten(), strict=True
    ):
        total[max(y, 0) : y + 7, max(x0, 0) : x0 + 7] += value
        count[max(y, 0) : y + 7, max(x0, 0) : x0 + 7] += 1
    torch.testing.assert_close(m.upsample(), total / count)


def test_the_followed_map_is_the_one_with_the_largest_sum(net: dn.Network, x: Tensor) -> None:
    m = dn.occlusion(net, x, size=8, stride=4)
    sums = torch.relu(net.module.b(torch.relu(net.module.a(x)))).sum((2, 3))[0].detach()
    assert m.unit == dn.Unit("conv2", int(sums.argmax()))
    assert m.clean["activity"] == pytest.approx(float(sums.max()))


def test_a_progressive_run_ends_in_the_same_map_and_starts_coarse(
    net: dn.Network, x: Tensor
) -> None:
    calls: list[tuple[int, int]] = []
    stages = list(
        dn.occlusion(
            net, x, size=8, stride=2, progressive=True, on_progress=lambda *c: calls.append(c)
        )
    )
    assert [stage.stride for stage in stages] == [8, 4, 2]
    whole = dn.occlusion(net, x, size=8, stride=2)
    torch.testing.assert_close(stages[-1].probability, whole.probability, rtol=1e-12, atol=0)
    assert calls[-1][0] == calls[-1][1] == whole.label.numel()
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"size": 4, "stride": 5}, ParameterError, "stride is 5"),
        ({"size": 25}, ParameterError, "size is 25"),
        ({"fill": "plaid"}, ParameterError, "fill is 'plaid'"),
        ({"fill": 0.5}, ParameterError, "fill is '0.5'"),
        ({"size": 8.0}, ParameterError, "size is 8.0, expected a number of pixels"),
        ({"size": 0}, ParameterError, "size is 0, expected a number of pixels"),
        ({"stride": "4"}, ParameterError, "stride is '4'"),
        ({"target": 5}, ParameterError, "target is 5"),
        ({"target": 1.5}, ParameterError, "target is 1.5"),
        ({"target": True}, ParameterError, "target is True"),
        ({"unit": "conv2:8"}, AddressError, "conv2:8"),
        ({"unit": "conv9:0"}, AddressError, "nearest"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    net: dn.Network, x: Tensor, options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        dn.occlusion(net, x, **{"size": 8, "stride": 4, **options})


@pytest.mark.parametrize("channels", [1, 4])
def test_images_that_are_not_of_three_channels_are_hidden_by_their_mean(channels: int) -> None:
    module = nn.Sequential(
        nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 18 * 22, 5)
    ).double()  # fmt: skip
    net = dn.trace(module, (channels, 20, 24))
    x = torch.rand(1, channels, 20, 24, dtype=torch.float64)
    m = dn.occlusion(net, x, size=8, stride=8, fill="mean")
    hidden = x.clone()
    hidden[:, :, :8, 8:16] = x.mean((2, 3), keepdim=True)
    assert m.positions[0, 1].tolist() == [0, 8]
    expected = module(hidden).softmax(1)[0, m.target]
    torch.testing.assert_close(m.probability[0, 1], expected.detach(), rtol=1e-9, atol=0)
    with pytest.raises(ParameterError, match=f"'grey', a colour, but .* takes {channels} channels"):
        dn.occlusion(net, x, size=8, stride=8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strategy", ["plain", "incremental"])
def test_labels_are_exact_in_half_precision(dtype: torch.dtype, strategy: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4099))
    module[3].bias.data[4097] = 1e3  # the winner; eleven bits of a mantissa tell it from no other
    net = dn.trace(module.to(dtype), (3, 10, 10))
    m = dn.occlusion(net, torch.rand(1, 3, 10, 10), size=4, stride=4, strategy=strategy)
    assert m.target == 4097 and m.label.unique().tolist() == [4097]


def test_a_single_score_needs_a_sigmoid_to_be_a_probability() -> None:
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)]
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(ParameterError, match=r"end it with nn\.Sigmoid"):
        dn.occlusion(dn.trace(nn.Sequential(*body), (3, 8, 8)), x, size=4, stride=4)
    module = nn.Sequential(*body, nn.Sigmoid())
    m = dn.occlusion(dn.trace(module, (3, 8, 8)), x, size=4, stride=4)
    assert m.clean["probability"] == pytest.approx(module(x).item(), rel=1e-5)


def test_two_images_or_nan_are_refused(net: dn.Network, x: Tensor) -> None:
    with pytest.raises(InputError, match="one image"):
        dn.occlusion(net, x.repeat(2, 1, 1, 1), size=8)
    with pytest.raises(InputError, match="NaN"):
        dn.occlusion(net, x * float("nan"), size=8)
