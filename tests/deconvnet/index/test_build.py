"""The index against brute force, and against kills, damage and other hands."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import deconvnet as dn
from deconvnet import fingerprint
from deconvnet.data.dataset import open_dataset
from deconvnet.errors import (
    AddressError,
    DatasetError,
    IndexError_,
    ParameterError,
    ProjectionError,
)
from deconvnet.index import draw, shards, store
from deconvnet.index.scan import line_peaks, peak, positions
from tests.support import small_index
from tests.support.small_index import OPTIONS, SIZE, build, group_of, small_network

COUNT = 150  # two blocks of 64 and a part of one
LAYERS = {"conv1": 6, "conv2": 5}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """150 pictures with three labels, some of them doubles, two that cannot be read."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    for number in range(COUNT):
        folder = root / ("earth", "fire", "water")[number % 3]
        folder.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(
            folder / f"{number:03d}.png"
        )
    for number in (30, 60, 90):  # doubles of 000 under other names: exact ties
        shutil.copy(root / "earth" / "000.png", root / "earth" / f"{number:03d}.png")
    (root / "fire" / "031.png").write_bytes(b"not a picture")
    whole = (root / "water" / "080.png").read_bytes()
    (root / "water" / "080.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def index(images, tmp_path_factory):
    return build(images, tmp_path_factory.mktemp("index") / "out")


@pytest.fixture(scope="module")
def brute(images):
    """Every map of every readable image, one image at a time, by the module itself."""
    net, dataset = small_network(), open_dataset(images)
    found = {layer: {} for layer in LAYERS}
    kept = {}
    for layer, part in (("conv1", net.module.relu1), ("conv2", net.module.relu2)):
        part.register_forward_hook(lambda *a, layer=layer: kept.update({layer: a[2]}))
    for image_id, entry in enumerate(dataset.entries):
        if not entry.path.endswith(("031.png", "080.png")):
            with Image.open(images / entry.path) as image, torch.no_grad():
                net.module(net.preprocess(image).double())
            for layer in LAYERS:
                found[layer][image_id] = kept[layer][0].numpy().copy()
    return dataset.entries, found


def units():
    return [f"{layer}:{c}" for layer, count in LAYERS.items() for c in range(count)]


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file() and path.name != store.LOCK
    }


@pytest.mark.parametrize("unit", units())
def test_hits_are_the_head_of_a_full_sort_with_the_cap_applied(unit, index, brute):
    entries, found = brute
    layer, channel = unit.split(":")
    order = []
    for image_id, maps in found[layer].items():
        flat = maps[int(channel)].astype(np.float32)
        place = np.unravel_index(flat.argmax(), flat.shape)
        order.append((-float(flat.max()), image_id, *map(int, place)))
    expected, used = [], {}
    for value, image_id, y, x in sorted(order):
        group = group_of(entries[image_id].path)
        used[group] = used.get(group, 0) + 1
        if group is None or used[group] <= OPTIONS["per_group"]:
            expected.append((image_id, entries[image_id].path, group, -value, (y, x)))
    hits = [(h.image_id, h.path, h.group, h.value, h.position) for h in index.top(unit)]
    assert [h[:3] for h in hits] == [e[:3] for e in expected[: OPTIONS["k"]]]
    assert [h[4] for h in hits] == [e[4] for e in expected[: OPTIONS["k"]]]
    # float64 sums rounded to float32 once: neighbours at most.
    values = [[row[3] for row in rows] for rows in (hits, expected[: OPTIONS["k"]])]
    np.testing.assert_allclose(*values, rtol=2e-7)


@pytest.mark.parametrize("unit", units())
def test_statistics_are_numpys_over_all_images(unit, index, brute):
    entries, found = brute
    layer, channel = unit.split(":")
    values = np.array([maps[int(channel)].max() for maps in found[layer].values()])
    labels = np.array([entries[i].label for i in found[layer]])
    stats = index.stats(unit)
    assert stats.images == COUNT - 2
    np.testing.assert_allclose(
        [stats.mean, stats.std, stats.max], [values.mean(), values.std(), values.max()], rtol=1e-6
    )
    assert stats.fire_share == (values > 0).mean()
    assert stats.dead == (values.max() == 0)
    means = {label: values[labels == label].mean() for label in ("earth", "fire", "water")}
    assert dict(stats.class_means) == pytest.approx(means, rel=1e-6)
    assert [m for _, m in stats.class_means] == sorted(
        (m for _, m in stats.class_means), reverse=True
    )
    assert sum(stats.histogram.counts) == COUNT - 2
    counts = np.histogram(values.astype(np.float32), stats.histogram.edges)[0]
    np.testing.assert_array_equal(counts, stats.histogram.counts)


def test_a_layers_statistics_are_its_units(index):
    layer = index.layer_stats("conv2")
    for channel in range(5):
        unit = index.stats(f"conv2:{channel}")
        assert layer.mean[channel] == unit.mean
        assert layer.best_class[channel] == unit.best_class
        assert layer.top[channel] == index.top(f"conv2:{channel}")[0].value
    assert index.class_means("conv2").shape == (3, 5)


def test_a_unit_that_never_fires_is_dead_and_its_places_are_filled_in_order(index):
    assert index.stats("conv1:0").dead
    assert [hit.value for hit in index.top("conv1:0")] == [0.0] * 4
    assert index.stats("conv1:0").selectivity is None


def test_unreadable_images_are_counted_and_listed(index):
    assert index.dataset["count"] == COUNT - 2
    skipped = {item["path"]: item["reason"] for item in index.dataset["skipped"]}
    assert set(skipped) == {"fire/031.png", "water/080.png"}
    assert "cannot identify image file" in skipped["fire/031.png"]


@pytest.mark.parametrize(
    "options", [{"batch": 1, "workers": 0}, {"batch": 1000, "workers": 5}, {"checkpoint_every": 1}]
)
def test_batch_workers_and_checkpoints_change_no_byte(options, images, index, tmp_path):
    build(images, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == contents(index.path)


@pytest.mark.parametrize("part", [1, 64, 128, 1000])
def test_a_dataset_scanned_in_parts_gives_the_same_files(part, images, index, tmp_path):
    sizes = []

    def run(plan, parts):
        for one in parts:
            sizes.append(len(one))
            yield shards.scan_part(small_network(), one, plan, workers=0)

    build(images, tmp_path / "out", scanner=shards.sharded(run, part))
    assert sizes == {1000: [150], 128: [128, 22]}.get(part, [64, 64, 22])
    assert contents(tmp_path / "out") == contents(index.path)


def test_a_build_in_parts_goes_on_where_one_in_a_single_process_was_stopped(
    images, index, tmp_path
):
    def stop(phase, done, _):
        if (phase, done) == ("scan", 128):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(images, tmp_path / "out", checkpoint_every=1, on_progress=stop)

    sizes = []

    def run(plan, parts):
        for one in parts:
            sizes.append(len(one))
            yield shards.scan_part(small_network(), one, plan, workers=0)

    build(images, tmp_path / "out", scanner=shards.sharded(run, 64))
    assert sizes == [64, 22]
    assert contents(tmp_path / "out") == contents(index.path)


def test_a_part_scanned_by_another_network_is_refused(images, tmp_path):
    def run(plan, parts):
        return (shards.scan_part(small_network(seed=1), one, plan, workers=0) for one in parts)

    with pytest.raises(IndexError_, match="expected"):
        build(images, tmp_path / "out", scanner=shards.sharded(run))


@pytest.mark.parametrize("stop", [("scan", "64"), ("scan", "128"), ("draw", "20")])
def test_a_build_that_was_killed_goes_on_to_the_same_files(stop, images, index, tmp_path):
    out = tmp_path / "out"
    program = [sys.executable, str(Path(small_index.__file__)), images, out, *stop]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (out / "images").mkdir(exist_ok=True)
    (out / "images" / "00000003.png.partial").write_bytes(b"half a pic")
    with pytest.raises(IndexError_, match="not finished" if stop != ("scan", "64") else "index"):
        dn.open_index(out)
    seen = []
    build(images, out, on_progress=lambda phase, done, _: seen.append((phase, done)))
    begun = {("scan", "64"): 0, ("scan", "128"): 64, ("draw", "20"): COUNT}[stop]
    assert seen[0] == ("scan", begun)
    assert contents(out) == contents(index.path)


def test_a_build_that_was_killed_at_its_very_end_leaves_no_checkpoint(images, index, tmp_path):
    out = tmp_path / "out"
    build(images, out)
    (out / "checkpoint.safetensors").write_bytes(b"what its last step removes")
    build(images, out)
    assert contents(out) == contents(index.path)


def test_a_checkpoint_of_another_number_of_threads_is_not_gone_on_from(images, tmp_path):
    def stop(phase, done, _):
        if phase == "draw":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(images, tmp_path / "out", on_progress=stop)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(before + 1)
    try:
        build(
            images, tmp_path / "out", on_progress=lambda phase, done, _: seen.append((phase, done))
        )
        whole = build(images, tmp_path / "whole")
    finally:
        torch.set_num_threads(before)
    assert seen[0] == ("scan", 0)
    assert contents(tmp_path / "out") == contents(whole.path)


def test_sheets_that_are_drawn_already_are_not_drawn_again(images, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "_GROUP_BYTES", 4000)  # two units or so at a time
    whole = build(images, tmp_path / "whole")

    def stop(phase, done, _):
        if phase == "draw" and done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(images, tmp_path / "out", on_progress=stop)
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("sprites/*/*.png")}
    assert drawn
    build(images, tmp_path / "out")
    assert drawn == {path: path.stat().st_mtime_ns for path in drawn}
    assert contents(tmp_path / "out") == contents(whole.path)


@pytest.mark.parametrize("budget", [1, 10, 17, 1000])
def test_groups_cover_every_unit_once_within_their_budget(budget):
    sizes = {"a": (5, 3), "b": (2, 7)}
    groups = list(draw.grouped(sizes, budget))
    shares = [share for group in groups for share in group]
    covered = [(s.layer, unit) for s in shares for unit in range(s.first, s.last)]
    assert covered == [(layer, unit) for layer in sizes for unit in range(sizes[layer][0])]
    for group in groups:
        units = [sizes[s.layer][1] for s in group for _ in range(s.first, s.last)]
        assert sum(units) <= budget or len(units) == 1


def test_a_checkpoint_of_other_parameters_is_not_taken_up(images, index, tmp_path):
    def stop(phase, done, _):
        if (phase, done) == ("scan", 128):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(images, tmp_path / "out", k=2, on_progress=stop)
    assert (tmp_path / "out" / "checkpoint.safetensors").is_file()
    build(images, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(index.path)


def test_a_finished_index_is_opened_not_built_again(images, index):
    seen = []
    again = build(images, index.path, on_progress=lambda *now: seen.append(now))
    assert (again.id, seen) == (index.id, [])


def test_an_index_of_other_inputs_is_replaced(images, index, tmp_path):
    out = tmp_path / "out"
    other = build(images, out, k=1, layers=["conv2"])
    assert other.layers == ("conv2",)
    again = build(images, out)
    assert again.id == index.id
    assert contents(out) == contents(index.path)


def test_a_folder_of_other_things_is_left_alone(images, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        IndexError_, match=r"holds other things than an index, such as 'thesis\.tex'"
    ):
        build(images, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_two_builders_do_not_share_a_folder(images, tmp_path):
    with (
        store.building(tmp_path / "out"),
        pytest.raises(IndexError_, match="Another process is building"),
    ):
        build(images, tmp_path / "out")


@pytest.fixture
def copied(index, tmp_path):
    shutil.copytree(index.path, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["index.json", "tables.safetensors", "sprites", "images"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_index_is_refused_with_the_command_that_rebuilds_it(name, damage, copied):
    path = copied / name
    path = sorted(p for p in path.rglob("*") if p.is_file())[3] if path.is_dir() else path
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(IndexError_, match=r"deconvnet index \w+ \w+ --out"):
        dn.open_index(copied)


def test_a_damaged_index_is_built_anew_in_its_place(images, index, copied):
    (copied / "tables.safetensors").write_bytes(b"damaged")
    build(images, copied)
    assert contents(copied) == contents(index.path)


def rewritten(root, **changes):
    """A manifest that is whole in itself, with other values."""
    manifest = json.loads((root / "index.json").read_text())
    body = {key: value for key, value in {**manifest, **changes}.items() if key != "id"}
    (root / "index.json").write_text(json.dumps({"id": fingerprint.of(body), **body}))


def test_an_index_of_another_format_or_version_is_refused(copied):
    rewritten(copied, version=99)
    with pytest.raises(IndexError_, match="format version 99, expected 2"):
        dn.open_index(copied)
    rewritten(copied, format="something else")
    with pytest.raises(IndexError_, match="not an index of deconvnet"):
        dn.open_index(copied)


def test_a_manifest_cannot_point_outside_its_folder(copied):
    rewritten(copied, files={"../../etc/passwd": "0"})
    with pytest.raises(IndexError_, match="outside"):
        dn.open_index(copied)


def test_an_index_of_another_network_is_refused_where_the_network_is_given(index):
    assert dn.open_index(index.path, small_network()).id == index.id
    with pytest.raises(IndexError_, match="weights, architecture or preprocessing differ"):
        dn.open_index(index.path, small_network(seed=1))


@pytest.mark.parametrize("make", [lambda p: p / "nowhere", lambda p: p])
def test_where_there_is_no_index_the_command_that_builds_one_is_named(make, tmp_path):
    with pytest.raises(IndexError_, match="Build one: deconvnet index"):
        dn.open_index(make(tmp_path))


@pytest.mark.parametrize("unit", ["conv9:0", "conv1:6"])
def test_a_unit_that_is_not_there_is_refused(unit, index):
    for ask in (index.top, index.stats):
        with pytest.raises(AddressError):
            ask(unit)


def test_a_sheet_shows_projections_beside_patches(index):
    net = small_network()
    side = index.tile("conv1")
    assert side == net.layer("conv1").receptive_field == 5
    hit = index.top("conv1:2")[1]
    with Image.open(index.sprite("conv1", 2)) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * side, 6 * side, 3)  # four hits: two rows of three tiles
    with Image.open(index.image(hit.image_id)) as image:
        seen = np.asarray(image)
    y0, x0 = (2 * p - 2 for p in hit.position)
    patch = np.full((side, side, 3), 128, np.uint8)
    for y in range(side):
        for x in range(side):
            if 0 <= y0 + y < SIZE and 0 <= x0 + x < SIZE:
                patch[y, x] = seen[y0 + y, x0 + x]
    np.testing.assert_array_equal(pixels[:side, 4 * side : 5 * side], patch)
    assert (pixels[side:, side : 3 * side] == 128).all()  # no fifth and sixth hit


@pytest.mark.parametrize("rule", ["deconv", "guided", "gradient"])
def test_a_sheets_projections_are_those_of_project_on_one_scale(rule, index, images, tmp_path):
    if rule != "deconv":
        index = build(images, tmp_path / "out", layers=["conv1"], rule=rule)
    assert index.rule == rule
    net = small_network()
    hits = index.top("conv1:2")
    side = index.tile("conv1")
    pictures = []
    for hit in hits:
        with Image.open(index.image(hit.image_id)) as image:
            x = net.preprocess(image).double()
        y, x0 = hit.position
        projected = dn.project(net, x, f"conv1:2@{y},{x0}", rule)
        whole = torch.zeros(3, SIZE + 2 * side, SIZE + 2 * side)
        whole[:, side:-side, side:-side] = projected.pixels
        top, left = 2 * y - 2 + side, 2 * x0 - 2 + side
        pictures.append(whole[:, top : top + side, left : left + side])
    from deconvnet import render

    scale = render.shared_scale(pictures)
    with Image.open(index.sprite("conv1", 2)) as image:
        pixels = np.asarray(image).astype(int)
    for rank, picture in enumerate(pictures):
        row, column = divmod(rank, 3)
        tile = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        # float32 pixels against float64: a value on the edge of two greys may fall to either.
        assert abs(tile - render.signed(picture, scale)).max() <= 1
    assert f"{rule} projections, " in index.provenance("conv1", 2)
    assert "shared scale" in index.provenance("conv1", 2)


def test_a_layer_that_sees_more_than_the_image_has_the_whole_image_as_tile(images, tmp_path):
    index = build(images, tmp_path / "out", layers=["fc"], k=2)
    assert index.tile("fc") == SIZE
    hit = index.top("fc:1")[0]
    assert hit.position == (0, 0)
    with Image.open(index.sprite("fc", 1)) as sheet, Image.open(index.image(hit.image_id)) as seen:
        np.testing.assert_array_equal(np.asarray(sheet)[:, 3 * SIZE : 4 * SIZE], np.asarray(seen))


def test_pictures_by_a_rule_that_a_layer_does_not_have_are_refused_before_the_scan(
    images, tmp_path
):
    module = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.SiLU())
    net = dn.trace(module, (3, SIZE, SIZE))
    given = {"k": 2, "progress": False}
    with pytest.raises(ProjectionError, match=r"'conv2' .* Take gradient.*'3' \(SiLU\)"):
        dn.build_index(net, images, tmp_path / "out", **given)
    with pytest.raises(ParameterError, match="rule is 'dream'"):
        dn.build_index(net, images, tmp_path / "out", rule="dream", **given)
    assert not (tmp_path / "out").exists()
    bare = dn.build_index(net, images, tmp_path / "bare", sprites=False, **given)
    drawn = dn.build_index(net, images, tmp_path / "drawn", rule="gradient", **given)
    assert drawn.top("conv2:1") == bare.top("conv2:1")
    assert dn.build_index(net, images, tmp_path / "upper", layers=["conv1"], **given).top("conv1:1")


def test_without_sprites_there_are_tables_alone(images, tmp_path):
    index = build(images, tmp_path / "out", sprites=False)
    assert set(contents(index.path)) == {"index.json", "tables.safetensors"}
    with pytest.raises(IndexError_, match="without sprites"):
        index.sprite("conv1", 0)


def test_an_image_whose_activation_is_not_finite_is_skipped_with_the_layer(tmp_path):
    module = small_network().module
    module.conv1.weight.data.abs_().mul_(1e308)  # anything but black overflows
    net = dn.trace(module, (3, SIZE, SIZE), {"conv1": "relu1", "conv2": "relu2"}, name="huge")
    for number in range(4):
        shade = "white" if number == 1 else "black"
        Image.new("RGB", (SIZE, SIZE), shade).save(tmp_path / f"{number}.png")
    index = dn.build_index(net, tmp_path, tmp_path.parent / "huge", k=5, progress=False)
    assert index.dataset["skipped"] == [
        {"path": "1.png", "reason": "its activation in conv1 is NaN or infinite"}
    ]
    assert [hit.image_id for hit in index.top("conv1:1")] == [0, 2, 3]


def test_a_picture_that_overflows_is_an_error_and_is_not_drawn_blank(images, tmp_path):
    module = small_network().module.float()
    module.conv1.weight.data.mul_(1e25)  # once on the way up, once more on the way down
    net = dn.trace(module, (3, SIZE, SIZE), {"conv1": "relu1", "conv2": "relu2"}, name="huge")
    with pytest.raises(ProjectionError, match="Projections from 'conv2' have NaN or infinity"):
        dn.build_index(net, images, tmp_path / "huge", k=2, layers=["conv2"], progress=False)


def test_autocast_gives_an_index_of_its_own_near_the_exact_one(images, tmp_path):
    given = small_network()
    module = given.module.float()
    net = dn.trace(module, given.input_size, given.landmarks, given.preprocess, name="single")

    def made(out, **options):
        return dn.build_index(net, images, tmp_path / out, k=4, progress=False, **options)

    exact, rough = made("exact", sprites=False), made("rough", sprites=False, autocast=True)
    for layer in LAYERS:
        values = [index.layer_stats(layer).top for index in (exact, rough)]
        assert not np.array_equal(*values)
        np.testing.assert_allclose(*values, rtol=0.03, atol=0.03)
    parts = shards.sharded(lambda plan, found: (shards.scan_part(net, p, plan) for p in found), 64)
    made("parts", sprites=False, autocast=True, scanner=parts)
    assert contents(tmp_path / "parts") == contents(tmp_path / "rough")
    made("rough", sprites=False)
    assert contents(tmp_path / "rough") == contents(tmp_path / "exact")


def test_autocast_needs_a_network_in_float32(images, tmp_path):
    with pytest.raises(ParameterError, match=r"small is torch\.float64, expected torch\.float32"):
        build(images, tmp_path / "out", autocast=True)


def test_a_dataset_of_which_nothing_can_be_used_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"None of the 1 images.*a\.png.*cannot identify"):
        dn.build_index(small_network(), tmp_path, tmp_path / "out", progress=False)


def test_an_image_that_changes_between_the_passes_is_noticed(images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    victim = tmp_path / "images" / "earth" / "000.png"  # first of the dead unit's hits

    def change(phase, done, _):
        if (phase, done) == ("draw", 0):
            Image.new("RGB", (SIZE, SIZE), "red").save(victim)

    with pytest.raises(DatasetError, match="Image 0 changed while"):
        build(tmp_path / "images", tmp_path / "out", on_progress=change)
    assert build(tmp_path / "images", tmp_path / "out").dataset["count"] == COUNT - 2


def test_a_network_that_takes_no_pictures_is_refused(images, tmp_path):
    net = dn.trace(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()), (1, 8, 8))
    with pytest.raises(ParameterError, match="takes 1 channels, and a dataset's pictures have 3"):
        dn.build_index(net, images, tmp_path / "index", progress=False)
    assert not (tmp_path / "index").exists()


def test_an_empty_path_is_not_the_folder_that_one_is_in(images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    with pytest.raises(DatasetError, match="path is empty"):
        dn.build_index(small_network(), "", tmp_path / "index", progress=False)


def test_a_cap_without_groups_is_refused(images, tmp_path):
    with pytest.raises(ParameterError, match="has no groups"):
        dn.build_index(small_network(), images, tmp_path / "out", per_group=1, progress=False)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"k": 0}, ParameterError),
        ({"k": 2.5}, ParameterError),
        ({"batch": -1}, ParameterError),
        ({"workers": -1}, ParameterError),
        ({"checkpoint_every": 0}, ParameterError),
        ({"layers": "conv1"}, ParameterError),
        ({"layers": []}, ParameterError),
        ({"layers": ["conv1", "conv1"]}, ParameterError),
        ({"layers": ["conv7"]}, AddressError),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(options, error, images, tmp_path):
    with pytest.raises(error):
        build(images, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_of_equal_maxima_the_smallest_y_then_x_is_taken(layout):
    maps = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 5, 4, 6))).float()
    maps[1, 2], maps[2, 3] = 0.0, -0.0
    rows, channels = np.divmod(np.arange(15), 5)
    lines = line_peaks(laid := maps.to(memory_format=layout))
    y, x = positions(laid, lines, rows, channels)
    flat = maps.flatten(2).numpy()
    np.testing.assert_array_equal(peak(lines), flat.max(2))
    np.testing.assert_array_equal(y * 6 + x, flat.argmax(2).ravel())
