"""From a module to a graph: what is seen, how it is named, what is refused, what stays as it is."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.errors import GraphError, UnknownOpError
from deconvnet.execution.forward import capture, run


class _Wired(nn.Module):
    """A few layers, wired by a function."""

    def __init__(self, wire: Callable[["_Wired", Tensor], Any]) -> None:
        super().__init__()
        self.wire = wire
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.drop, self.fc = nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("picture", torch.rand(2, 3, 8, 8))

    def forward(self, x: Tensor) -> Any:
        return self.wire(self, x)


def _trace(
    wire: Callable[[_Wired, Tensor], Any], size: tuple[int, int, int] = (3, 8, 8)
) -> dn.Network:
    return dn.trace(_Wired(wire), size)


def _names(net: dn.Network) -> list[str]:
    return [node.name for node in net.nodes]


def test_call_sites_are_named_after_the_module() -> None:
    net = dn.trace(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.MaxPool2d(2)), (3, 8, 8)
    )
    assert _names(net) == ["input", "0.0", "0.1", "1"]


def test_each_call_of_a_shared_module_is_a_node() -> None:
    net = _trace(lambda m, x: m.relu(m.b(m.relu(m.b(m.relu(m.a(x)))))))
    assert _names(net) == ["input", "a", "relu", "b", "relu:2", "b:2", "relu:3"]


def test_functions_are_named_after_the_module_around_them() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = _Wired(lambda m, x: F.max_pool2d(F.relu(m.a(x)), 2) * 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.flatten(self.block(x), 1)

    names = _names(dn.trace(Outer(), (3, 8, 8)))
    assert names == ["input", "block.a", "block.relu", "block.max_pool2d", "block.mul", "flatten"]


@pytest.mark.parametrize(
    "relu",
    [
        F.relu, torch.relu, torch.relu_, lambda x: x.relu(), lambda x: x.relu_(), nn.ReLU(),
        lambda x: F.relu(x, True), lambda x: F.relu(input=x, inplace=True), nn.ReLU(inplace=True),
        F.relu_, lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0),
    ],
)  # fmt: skip
def test_every_spelling_of_a_relu_is_one(relu: Callable[[Tensor], Tensor]) -> None:
    net = _trace(lambda m, x: m.b(relu(m.a(x))))
    assert [node.op.kind for node in net.nodes[1:] if node.op] == [
        "convolution",
        "ReLU",
        "convolution",
    ]


def test_modules_kept_in_a_plain_list_are_seen() -> None:
    pools = [nn.MaxPool2d(2), nn.ReLU()]
    net = _trace(lambda m, x: pools[1](pools[0](m.a(x))))
    assert [node.op.kind for node in net.nodes[2:] if node.op] == ["max pooling", "ReLU"]


def test_arithmetic_on_shapes_is_done_while_tracing() -> None:
    net = _trace(
        lambda m, x: m.fc(
            F.avg_pool2d(m.a(x), (x.shape[2], x.size(-1))).view(x.size(dim=0), x.ndim * 0 + 4)
        )
    )
    assert net.nodes[-1].shape == (2,)


def test_kernels_computed_from_parameters_are_computed_while_tracing() -> None:
    net = _trace(lambda m, x: F.conv2d(x, m.a.weight / m.a.weight.std(), padding=1))
    assert [node.op.kind for node in net.nodes[1:] if node.op] == ["convolution"]


def test_what_the_output_does_not_need_is_left_out() -> None:
    net = _trace(lambda m, x: (m.b(m.a(x)), m.relu(m.a(x)))[1])
    assert _names(net) == ["input", "a:2", "relu"]


def test_a_second_argument_with_a_default_takes_it() -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor, factor: float = 3.0) -> Tensor:
            return x * factor

    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(run(dn.trace(Optional(), (3, 4, 4)), x), x * 3)


def test_a_network_in_training_mode_is_treated_as_in_eval_mode() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU()).train()
    net, x = dn.trace(module, (3, 8, 8)), torch.randn(3, 3, 8, 8)
    assert torch.equal(run(net, x), run(net, x))
    assert torch.allclose(run(net, x), copy.deepcopy(module).eval()(x), atol=1e-6)
    assert all(part.training for part in module.modules())


def test_training_the_module_on_shows_in_the_network() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    net, x = dn.trace(module, (3, 8, 8)), torch.randn(2, 3, 8, 8)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        module(x).square().sum().backward()
        optimiser.step()
    assert torch.allclose(run(net, x), module.eval()(x), atol=1e-5)


def _snapshot(module: nn.Module) -> dict[str, Any]:
    """Everything that a module holds, tensors by their bytes, hooks and attributes by identity."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            held = [(key, id(v)) for key, v in value.items()] if isinstance(value, dict) else value
            found[f"{path}.{name}"] = held
    for name, tensor in module.state_dict().items():
        found[f"={name}"] = (tensor.numpy().tobytes(), tensor.data_ptr(), tensor.dtype)
    for name, parameter in module.named_parameters():
        found[f"grad {name}"] = (parameter.grad, parameter.requires_grad)
    return found


def test_the_caller_s_module_is_the_same_afterwards() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.LocalResponseNorm(3), nn.Dropout(), nn.Flatten(), nn.Linear(36, 5),
    ).train()  # fmt: skip
    calls: list[str] = []
    module[0].register_forward_hook(lambda *_: calls.append("forward"))
    module[2].register_forward_pre_hook(lambda *_: calls.append("before"))
    module.register_full_backward_hook(lambda *_: calls.append("backward"))
    before, random = _snapshot(module), torch.get_rng_state()
    net = dn.trace(module, (3, 8, 8), {"conv1": "2"})
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for rule in ("deconv", "guided", "gradient"):
        dn.project(net, x, ["conv1:1", "7:2"], rule)
    assert _snapshot(module) == before
    assert calls == []
    assert torch.equal(torch.get_rng_state(), random)


def test_hooks_that_cannot_be_copied_do_not_matter() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    module.register_forward_hook(_Uncopyable().hook)
    assert dn.trace(module, (3, 8, 8)).nodes


class _Uncopyable:
    def hook(self, *_: Any) -> None:
        raise AssertionError("a caller's hook ran")

    def __deepcopy__(self, memo: Any) -> "_Uncopyable":
        raise TypeError("cannot be copied")


def test_buffers_that_a_forward_writes_to_keep_their_values() -> None:
    def count(m: _Wired, x: Tensor) -> Tensor:
        m.seen.add_(1)
        return torch.relu(m.a(x))

    module = _Wired(count)
    dn.trace(module, (3, 8, 8))
    assert module.seen == 0


COMPUTED: dict[str, Callable[[_Wired, Tensor], Tensor]] = {
    "a standardised kernel": lambda m, x: F.conv2d(x, m.a.weight - m.a.weight.mean(), m.a.bias),
    "a learnt factor": lambda m, x: m.a(x) * torch.sigmoid(m.b.bias)[:, None, None],
    "less a parameter": lambda m, x: m.a(x) - m.b.bias[:, None, None],
    "twice a parameter": lambda m, x: torch.add(m.a(x), m.b.bias.view(4, 1, 1), alpha=2),
    "a product and a sum": lambda m, x: torch.addcmul(
        m.b.bias.view(4, 1, 1), m.a(x), m.b.weight[0, :, :1, :1], value=3
    ),
    "a number": lambda m, x: m.a(x) * m.b.bias[1].item(),
    "a module's output": lambda m, x: m.a(x) + m.b(torch.ones(1, 4, 8, 8)),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_computed_from_parameters_follows_them(name: str) -> None:
    torch.manual_seed(0)
    module = _Wired(lambda m, x: F.relu(COMPUTED[name](m, x)))
    net, x = dn.trace(module, (3, 8, 8)), torch.rand(1, 3, 8, 8)
    before = net.fingerprint
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.rand_like(parameter))
        (name_, expected) = (net.nodes[-1].name, module(x))
        assert torch.allclose(capture(net, x, [name_])[name_], expected, atol=1e-5)
    fresh = dn.trace(module, (3, 8, 8))
    assert before != net.fingerprint == fresh.fingerprint
    theirs, ours = (dn.project(one, x, f"{name_}:1") for one in (fresh, net))
    assert theirs.value == ours.value
    assert torch.equal(theirs.pixels, ours.pixels)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_what_shares_memory_with_a_map_that_is_written_to_follows_it(scale: float) -> None:
    def wire(m: _Wired, x: Tensor) -> Tensor:
        y = m.a(x)
        z = y
        z -= 0.25
        z **= 2
        F.relu6(y, inplace=True)
        return m.fc(F.relu(z).mean((2, 3)))

    module = _Wired(wire)
    net, x = dn.trace(module, (3, 8, 8)), scale * torch.rand(1, 3, 8, 8)
    assert torch.allclose(capture(net, x, ["fc"])["fc"], module(x), atol=1e-5)


def test_parameters_are_shared_and_not_copied() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert dn.trace(module, (3, 8, 8)).module.get_parameter("0.weight") is module[0].weight


UNKNOWN: dict[str, tuple[Callable[[_Wired, Tensor], Any], str, str]] = {
    "another activation": (lambda m, x: F.threshold(m.a(x), 0.1, 0), "", "Replace it"),
    "a method": (lambda m, x: m.a(x).transpose(2, 3), "transpose", "first again"),
    "another concatenation": (lambda m, x: torch.cat([x, x], 2), "cat", "expected 1"),
    "a constant concatenated": (lambda m, x: torch.cat([x, m.picture], 1), "cat", "maps alone"),
    "sizes that broadcast": (lambda m, x: x + x[:, :2], "add", "equal shapes"),
    "a constant per image": (lambda m, x: x + m.picture, "add", "broadcasts to the map"),
    "a constant that widens": (lambda m, x: x + torch.ones(2, 1, 3, 8, 8), "add", "broadcasts"),
    "endless dropout": (lambda m, x: F.dropout(m.a(x)), "dropout", "training=self.training"),
    "mixed images": (lambda m, x: m.a(x).flatten(), "flatten", "start at 1"),
    "reshaped batch": (lambda m, x: m.a(x).view(-1, 4), "view", "keep the first"),
    "another mean": (lambda m, x: m.a(x).mean(2), "mean", "dimensions 2 and 3"),
    "a batch's statistics": (
        lambda m, x: F.batch_norm(x, None, None, training=True), "batch_norm", "running",
    ),
    "indices": (lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0], "max_pool2d", "indices"),
    "a pool that sees nothing": (
        lambda m, x: F.max_pool2d(F.max_pool2d(x, (1, 8)), 2, padding=1, dilation=2),
        "max_pool2d", "Give a larger input_size",
    ),
    "a kernel from the image": (lambda m, x: F.conv2d(m.picture, x), "conv2d", "kernel"),
    "a layer on rows": (lambda m, x: F.linear(x, m.picture[0, 0]), "linear", "flatten first"),
    "padded images": (lambda m, x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), "pad", "around them"),
    "softmax over the map": (lambda m, x: m.a(x).softmax(1), "softmax", "classes"),
    "a clamp by a map": (lambda m, x: m.a(x).clamp(x, 1), "clamp", "numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_operation_is_an_error_with_its_place_its_name_and_a_remedy(name: str) -> None:
    wire, node, remedy = UNKNOWN[name]
    with pytest.raises(UnknownOpError) as caught:
        _trace(wire)
    told = str(caught.value)
    assert re.match(rf"At '{node}[^']*': ", told)
    assert remedy in told
    assert told.endswith(".")


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Threshold(0.1, 0.0),
        lambda: nn.MaxPool2d(2, return_indices=True),
        lambda: nn.BatchNorm2d(3, track_running_stats=False),
        lambda: nn.Bilinear(8, 8, 8),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.LPPool2d(2, 2),
    ],
)
def test_an_unknown_module_is_named_by_its_path(make: Callable[[], nn.Module]) -> None:
    module = nn.Sequential(nn.Identity(), nn.Sequential(make()))
    with pytest.raises(UnknownOpError, match=r"^At '1\.0': "):
        dn.trace(module, (3, 8, 8))


REFUSED: dict[str, tuple[Callable[[_Wired, Tensor], Any], str]] = {
    "control flow": (lambda m, x: m.a(x) if x.sum() > 0 else m.b(m.a(x)), "Control flow"),
    "several outputs": (lambda m, x: (m.a(x), x), "returns a tuple, expected one tensor"),
    "an output that ignores the image": (
        lambda m, x: m.a(m.picture),
        "does not depend on its input",
    ),
    "nothing": (lambda m, x: None, "returns a NoneType"),
    "its input": (lambda m, x: x, "returns its input as it is"),
    "what hangs on how many images there are": (
        lambda m, x: m.a(x) * x.shape[0],
        "depends on how many images there are",
    ),
    "a number of images": (lambda m, x: m.a(x).view(2, 256), r"fails on a batch of \[1, 3, 8, 8\]"),
    "another way for one image": (
        lambda m, x: m.a(x) if x.shape[0] == 1 else m.relu(m.a(x)),
        "how many images there are",
    ),
    "another way for a tensor": (
        lambda m, x: m.a(x) if isinstance(x, Tensor) else m.relu(m.a(x)),
        r"\(isinstance\)",
    ),
    "a call that fails": (lambda m, x: m.a(x) + m.a.weight.view(5), "'view' fails: shape"),
    "a wrong size": (lambda m, x: m.fc(m.a(x).flatten(1)), r"'fc' cannot take \[256\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_graph_is_refused_with_the_reason(name: str) -> None:
    wire, told = REFUSED[name]
    with pytest.raises(GraphError, match=told):
        _trace(wire)


WRAPPED = {
    "DataParallel": (nn.DataParallel, "give its .module"),
    "OptimizedModule": (torch.compile, "_orig_mod"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_hides_the_network_is_refused_with_what_to_give(name: str) -> None:
    wrap, told = WRAPPED[name]
    with pytest.raises(GraphError, match=f"{name} hides the network.*{told}"):
        dn.trace(wrap(nn.Sequential(nn.Conv2d(3, 4, 3))), (3, 8, 8))


NUMBERLESS = {
    "meta": (lambda: nn.Conv2d(3, 4, 3, device="meta"), "'weight' of Conv2d .* meta device"),
    "parametrized": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
        r"'weight' of '0' is computed .*remove_parametrizations",
    ),
    "lazy": (lambda: nn.LazyConv2d(4, 3), "'weight' of LazyConv2d .* lazy"),
    "a class": (lambda: nn.ReLU, "expected a torch.nn.Module"),
    "nothing": (lambda: None, "The network is None"),
}


@pytest.mark.parametrize("name", NUMBERLESS)
def test_what_is_no_module_with_numbers_is_refused(name: str) -> None:
    make, told = NUMBERLESS[name]
    with pytest.raises(GraphError, match=told):
        dn.trace(make(), (3, 8, 8))


class _Filter(nn.Module):
    """No parameter: its kernel is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.randn(4, 3, 3, 3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(F.conv2d(x, self.kernel))


def test_a_module_without_parameters_computes_in_the_precision_of_its_buffers() -> None:
    net, x = dn.trace(_Filter(), (3, 8, 8)), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(run(net, x), net.module(x), rtol=0, atol=1e-12)


def test_a_failure_without_words_is_still_told() -> None:
    def fail(m: _Wired, x: Tensor) -> Tensor:
        raise AssertionError

    with pytest.raises(GraphError, match="AssertionError"):
        _trace(fail)


def test_a_second_input_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(GraphError, match="second input 'y'"):
        dn.trace(Two(), (3, 8, 8))


def test_parameters_that_are_computed_by_hooks_are_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(module[0])
    with pytest.raises(GraphError, match="weight_norm"):
        dn.trace(module, (3, 8, 8))


def test_a_graph_that_does_not_reproduce_the_module_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deconvnet.ops.activation.ReLU.forward", lambda self, x: x)
    with pytest.raises(GraphError, match="does not reproduce its output"):
        _trace(lambda m, x: torch.relu(m.a(x)))
