"""Running up: the module's own values, whatever layers are asked for."""

import weakref

import pytest
import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.errors import AddressError, GraphError, InputError, ParameterError
from deconvnet.execution.forward import capture, prepare, record, run, visit
from tests.support.judging import image, randomise
from tests.support.networks import SIZE, STEPS, Drawn


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return randomise(Drawn(["norm", "skip", "max_ceil", "lrn", "concat", "avg_out", "inception"]))


@pytest.fixture(scope="module")
def net(module: nn.Module) -> dn.Network:
    return dn.trace(module, (3, *SIZE))


def test_the_output_is_the_module_s(net: dn.Network, module: nn.Module) -> None:
    x = image(net, n=3)
    with torch.no_grad():
        assert torch.allclose(run(net, x), module(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_gives_the_module_s_output(step: str) -> None:
    torch.manual_seed(0)
    module = randomise(Drawn([step, "conv3", step]))
    net = dn.trace(module, (3, *SIZE))
    x = image(net, n=2)
    with torch.no_grad():
        assert torch.allclose(run(net, x), module(x), rtol=1e-12, atol=1e-12)


def test_captured_maps_are_the_modules_own(net: dn.Network, module: nn.Module) -> None:
    seen: dict[str, Tensor] = {}
    first = module.get_submodule("first")
    handle = first.register_forward_hook(lambda m, i, out: seen.update(first=out))
    x = image(net, n=2)
    module(x)
    handle.remove()
    assert torch.allclose(capture(net, x, ["first"])["first"], seen["first"], atol=1e-12)


def test_every_layer_can_be_captured_and_has_the_shape_that_the_table_says(
    net: dn.Network,
) -> None:
    maps = capture(net, image(net, n=2), list(net.layers))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        name: layer.shape for name, layer in net.layers.items()
    }


def test_capture_stops_at_the_deepest_asked_layer(
    net: dn.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = net.nodes[-1].op

    def never(*_: Tensor) -> Tensor:
        raise AssertionError("ran beyond the asked layers")

    monkeypatch.setattr(last, "forward", never)
    assert set(capture(net, image(net), ["first"])) == {"first"}


def test_a_visit_shows_what_capture_gives_layer_by_layer_and_keeps_nothing(net: dn.Network) -> None:
    x, layers = image(net, n=2), list(net.layers)
    expected = capture(net, x, layers)
    seen: list[str] = []
    alive: dict[str, weakref.ref[Tensor]] = {}
    most = 0

    def see(layer: str, maps: Tensor) -> None:
        nonlocal most
        assert torch.equal(maps, expected[layer])
        seen.append(layer)
        alive[layer] = weakref.ref(maps)
        most = max(most, sum(ref() is not None for ref in alive.values()))

    visit(net, x, layers, see)
    assert sorted(seen) == sorted(layers)
    assert most < len(alive) / 2
    assert not any(ref() is not None for ref in alive.values())


def test_a_record_holds_the_same_activations_as_a_capture(net: dn.Network) -> None:
    x, layers = image(net, n=2), [node.name for node in net.nodes[1:]]
    for rule in ("deconv", "guided", "gradient"):
        recorded = record(net, x, layers, rule)
        for layer, value in capture(net, x, layers).items():
            assert torch.equal(recorded.activations[layer], value)


def test_a_record_of_deconv_keeps_switches_alone_and_in_bytes() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.LocalResponseNorm(3))
    net = dn.trace(module, (3, 10, 10))
    x = torch.randn(2, 3, 10, 10)
    assert [t.dtype for t in record(net, x, ["3"]).kept.values()] == [torch.uint8]
    kept = record(net, x, ["3"], "guided", "gradient").kept.values()
    assert [t.dtype for t in kept] == [torch.bool, torch.uint8, torch.float32]


def test_a_batch_equals_its_singles(net: dn.Network) -> None:
    x = image(net, n=4)
    together = run(net, x)
    for i in range(4):
        assert torch.allclose(run(net, x[i : i + 1])[0], together[i], rtol=1e-12, atol=1e-12)


def test_one_image_without_a_batch_dimension_is_a_batch_of_one(net: dn.Network) -> None:
    x = image(net)
    assert torch.equal(run(net, x[0]), run(net, x))


def test_an_integer_image_or_one_of_another_precision_is_converted(net: dn.Network) -> None:
    x = (image(net) * 3).round()
    assert torch.equal(run(net, x.to(torch.int32)), run(net, x))


def test_the_input_is_not_written_to(net: dn.Network) -> None:
    torch.manual_seed(0)
    writes = dn.trace(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3)).double(), (3, 8, 8))
    x = image(writes)
    before = x.clone()
    run(writes, x)
    capture(writes, x, ["0"])["0"].zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(1, 3, 19, 15), (1, 1, 19, 16), (0, 3, 19, 16), (19, 16)])
def test_an_input_of_another_shape_is_refused_with_the_right_one(
    net: dn.Network, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"expected \[n, 3, 19, 16\]"):
        run(net, torch.zeros(shape))


@pytest.mark.parametrize("kind", ["complex", "sparse", "meta"])
def test_a_tensor_of_another_kind_is_refused(net: dn.Network, kind: str) -> None:
    x = torch.zeros(1, *net.input_size)
    other = {"complex": x + 1j, "sparse": x.to_sparse(), "meta": x.to("meta")}[kind]
    with pytest.raises(InputError, match="expected real numbers in a dense tensor"):
        run(net, other)


def test_a_network_whose_parameters_have_changed_their_precision_is_traced_again() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net = dn.trace(module, (3, 8, 8))
    module.double()
    with pytest.raises(GraphError, match=r"float64 on cpu now, and were torch.float32 on cpu"):
        run(net, torch.zeros(1, 3, 8, 8))


def test_what_is_no_tensor_is_refused(net: dn.Network) -> None:
    with pytest.raises(InputError, match="is a list"):
        run(net, [[0.0]])


def test_a_layer_that_does_not_exist_is_refused(net: dn.Network) -> None:
    with pytest.raises(AddressError, match="nearest: first"):
        capture(net, image(net), ["firs"])


@pytest.mark.parametrize(("rule", "lrn"), [("other", "identity"), ("deconv", "other")])
def test_an_unknown_way_down_is_refused(net: dn.Network, rule: str, lrn: str) -> None:
    with pytest.raises(ParameterError, match="'other', expected"):
        record(net, image(net), ["first"], rule, lrn)


def _normed(affine: bool, bias: bool, groups: int) -> nn.Module:
    torch.manual_seed(0)
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias),
            nn.BatchNorm2d(6, affine=affine, eps=0.1),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=groups, bias=bias),
            nn.BatchNorm2d(4, affine=affine),
        )
    )


@pytest.mark.parametrize(("affine", "bias", "groups"), [(True, False, 1), (False, True, 2)])
def test_convolutions_joined_with_their_norms_give_the_modules_values(affine, bias, groups) -> None:
    module = _normed(affine, bias, groups)
    net = dn.trace(module, (3, *SIZE))
    x = image(net, n=2)
    for _ in range(2):
        with torch.no_grad():
            assert torch.allclose(run(net, x), module(x), rtol=1e-12, atol=1e-12)
            for tensor in (*module.parameters(), *module.buffers()):  # whoever trains goes on
                tensor.mul_(1.5) if tensor.is_floating_point() else None


def test_what_else_is_asked_for_changes_no_bit_where_operations_are_joined() -> None:
    net = dn.trace(_normed(True, True, 1).float(), (3, *SIZE))
    x, norms = image(net, n=2).float(), ["1", "4"]
    alone, together = capture(net, x, norms), capture(net, x, list(net.layers))
    kept = record(net, x, norms).activations
    for name in norms:
        assert torch.equal(alone[name], together[name])
        assert torch.equal(alone[name], kept[name])
        assert torch.equal(alone[name], capture(net, x, [name])[name])


def test_what_was_prepared_changes_no_bit() -> None:
    net, other = (dn.trace(_normed(True, True, 1).float(), (3, *SIZE)) for _ in range(2))
    x = image(net, n=2).float()
    prepare(net, ["4"])
    assert torch.equal(capture(net, x, ["4"])["4"], capture(other, x, ["4"])["4"])


def test_a_kernel_of_many_filters_is_joined_as_a_whole() -> None:
    module = randomise(nn.Sequential(nn.Conv2d(3, 70, 3), nn.BatchNorm2d(70), nn.ReLU()))
    net = dn.trace(module, (3, *SIZE))
    x = image(net)
    with torch.no_grad():
        assert torch.allclose(run(net, x), module(x), rtol=1e-12, atol=1e-12)


def test_an_autocast_around_changes_nothing() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(294, 4)]
    module, x = nn.Sequential(*layers), torch.rand(1, 3, 16, 16)
    net = dn.trace(module, (3, 16, 16))

    def everything() -> list[Tensor]:
        projections = dn.project(net, x, ["conv1:1", "conv1:2@3,4", "4:1"])
        maps = list(dn.occlusion(net, x, size=8, stride=4, progressive=True))
        attribution = dn.Deconvnet(module).attribute(x, target=1)
        return [*(p.pixels for p in projections), *(m.probability for m in maps), attribution]

    before = everything()
    with torch.autocast("cpu", torch.bfloat16):
        assert dn.trace(module, (3, 16, 16)).fingerprint == net.fingerprint
        inside = everything()
    assert all(torch.equal(a, b) for a, b in zip(before, inside, strict=True))
