"""Datasets of every kind: what is found, in which order, and what is passed over."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from deconvnet.data import sources
from deconvnet.data.dataset import open_dataset
from deconvnet.data.sources import Skipped
from deconvnet.errors import DatasetError, InputError


def png(shade=0, size=(8, 6)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "cats/a.png": png(1),
    "cats/b.JPG": png(2),
    "dogs/deep/c.png": png(3),
    "dogs/notes.txt": b"no image",
    "dogs/._c.png": b"a resource fork",
}
PATHS = ["cats/a.png", "cats/b.JPG", "dogs/deep/c.png"]


def folder(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(params=["folder", "tar", "tar.gz", "misnamed tar", "tar.xz", "zip"])
def source(request, tmp_path):
    make = {
        "folder": lambda: folder(tmp_path / "set", FILES),
        "tar": lambda: tar(tmp_path / "set.tar", FILES),
        "tar.gz": lambda: tar(tmp_path / "set.tar.gz", FILES, "w:gz"),
        "misnamed tar": lambda: tar(tmp_path / "set.tar", FILES, "w:bz2"),
        "tar.xz": lambda: tar(tmp_path / "set.tar.xz", FILES, "w:xz"),
        "zip": lambda: zipped(tmp_path / "set.zip", FILES),
    }
    return make[request.param]()


def test_a_folder_and_its_archives_are_the_same_dataset(source, tmp_path):
    found = open_dataset(source)
    assert found.name == "set"
    assert [entry.path for entry in found.entries] == PATHS
    assert [entry.label for entry in found.entries] == ["cats", "cats", "dogs"]
    assert found.labels == ["cats", "dogs"]
    shades = [found.image(i).convert("L").getpixel((0, 0)) for i in range(3)]
    assert shades == [1, 2, 3]
    plain = open_dataset(folder(tmp_path / "plain", FILES), name="set")
    assert found.fingerprint == plain.fingerprint


def test_one_folder_around_everything_is_no_label(tmp_path):
    found = open_dataset(tar(tmp_path / "x.tar", {f"train/{n}": d for n, d in FILES.items()}))
    assert found.labels == ["cats", "dogs"]


def test_a_flat_folder_has_no_labels(tmp_path):
    found = open_dataset(folder(tmp_path / "flat", {"b.png": png(), "a.png": png()}))
    assert [entry.path for entry in found.entries] == ["a.png", "b.png"]
    assert found.labels == []


def test_several_datasets_are_one_with_their_names_before_the_paths(tmp_path):
    one = tar(tmp_path / "one.tar", {"cats/a.png": png(1)})
    two = tar(tmp_path / "two.tar", {"cats/a.png": png(2)})
    found = open_dataset([one, two])
    assert [entry.path for entry in found.entries] == ["one.tar/cats/a.png", "two.tar/cats/a.png"]
    assert found.labels == ["cats"]


def test_datasets_of_one_name_stay_apart(tmp_path):
    parts = [folder(tmp_path / side / "set", {"a.png": png()}) for side in ("left", "right")]
    paths = [entry.path for entry in open_dataset(parts).entries]
    assert len(set(paths)) == 2


def test_groups_come_from_a_file_in_the_dataset(tmp_path):
    listed = {**FILES, "groups.tsv": b"cats/a.png\tfilm 1\ndogs/deep/c.png\tfilm 1\n"}
    for found in (
        open_dataset(folder(tmp_path / "set", listed)),
        open_dataset(tar(tmp_path / "set.tgz", listed, "w:gz")),
        open_dataset(zipped(tmp_path / "set.zip", listed)),
    ):
        assert [entry.group for entry in found.entries] == ["film 1", None, "film 1"]
        assert found.groups == ["film 1"]


def test_a_function_of_the_path_overrules_the_groups_of_the_dataset(tmp_path):
    root = folder(tmp_path / "set", {**FILES, "groups.tsv": b"cats/a.png\tx\n"})
    found = open_dataset(root, group=lambda path: path[0])
    assert [entry.group for entry in found.entries] == ["c", "c", "d"]


def test_a_broken_list_of_groups_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="path, tab, group"):
        open_dataset(folder(tmp_path / "set", {**FILES, "groups.tsv": b"cats/a.png film\n"}))


def test_links_out_loops_fifos_and_dangling_links_are_passed_over_and_listed(tmp_path):
    root = folder(tmp_path / "set", {"a.png": png()})
    outside = folder(tmp_path / "outside", {"secret.png": png()})
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "nothing.png").symlink_to(root / "gone.png")
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe.png")
    found = open_dataset(root)
    assert [entry.path for entry in found.entries] == ["a.png", "inside.png"]
    assert [item.path for item in found.passed_over] == [
        "loop.png", "nothing.png", "out.png", "pipe.png",
    ]  # fmt: skip


@pytest.mark.parametrize("turn", ["link out", "loop", "fifo", "device"])
def test_a_file_that_has_become_something_else_is_not_opened(turn, tmp_path):
    root = folder(tmp_path / "set", {"a.png": png()})
    outside = folder(tmp_path / "outside", {"secret.png": png()})
    found = open_dataset(root)
    path = root / "a.png"
    path.unlink()
    if turn == "fifo":
        os.mkfifo(path)  # opening it would wait for a writer
    else:
        to = {"link out": outside / "secret.png", "loop": path, "device": "/dev/zero"}[turn]
        path.symlink_to(to)
    with pytest.raises(InputError, match=r"'a\.png' cannot be"):
        found.read(0)
    with pytest.raises(InputError, match=r"'a\.png' cannot be"):
        found.image(0)


def test_links_in_a_tar_are_passed_over(tmp_path):
    path = tar(tmp_path / "x.tar", {"a.png": png()})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = open_dataset(path)
    assert [entry.path for entry in found.entries] == ["a.png"]
    assert found.passed_over == [Skipped("b.png", "not a regular file")]


def test_an_image_that_is_none_says_so_without_addresses(tmp_path):
    found = open_dataset(folder(tmp_path / "set", {"a.png": b"not a picture"}))
    with pytest.raises(InputError, match=r"'a\.png' cannot be opened: cannot identify") as caught:
        found.image(0)
    assert "0x" not in str(caught.value)


def test_a_file_that_has_gone_says_so(tmp_path):
    found = open_dataset(folder(tmp_path / "set", {"a.png": png()}))
    (tmp_path / "set" / "a.png").unlink()
    with pytest.raises(InputError, match=r"'a\.png' cannot be opened: No such file"):
        found.image(0)


def test_a_damaged_member_of_a_zip_is_one_images_matter(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": png(1), "b.png": png(2, (64, 64))})
    data = bytearray(path.read_bytes())
    start = data.index(b"b.png") + len("b.png")
    data[start + 10] ^= 255
    path.write_bytes(data)
    found = open_dataset(path)
    assert found.image(0).size == (8, 6)
    with pytest.raises(InputError, match=r"'b\.png' cannot be opened"):
        found.image(1)


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10)
    found = open_dataset(folder(tmp_path / "set", {"a.png": png()}))
    with pytest.raises(InputError, match="larger than"):
        found.image(0)


class Torchvision:
    """As torchvision's datasets are: samples of (PIL image, target)."""

    def __init__(self, count=3, targets=True):
        self.count = count
        if targets:
            self.classes = ["cold", "warm"]
            self.targets = [i % 2 for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, rank):
        return Image.new("RGB", (4, 4), (rank, 0, 0)), rank % 2


def test_a_torchvision_dataset_keeps_its_order_and_classes():
    found = open_dataset(Torchvision())
    assert [entry.label for entry in found.entries] == ["cold", "warm", "cold"]
    assert np.asarray(found.image(2))[0, 0, 0] == 2
    with Image.open(io.BytesIO(found.read(2))) as image:
        assert np.array_equal(image, found.image(2))


def test_a_torchvision_dataset_without_targets_has_no_labels():
    assert open_dataset(Torchvision(targets=False)).labels == []


def test_a_sample_that_is_no_picture_names_the_remedy():
    class Tensors(Torchvision):
        def __getitem__(self, rank):
            return np.zeros((3, 4, 4)), 0

    with pytest.raises(InputError, match="without a transform"):
        open_dataset(Tensors()).image(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nowhere", "does not exist"),
        (lambda path: folder(path / "empty", {"a.txt": b""}), "has no images"),
        (lambda path: folder(path, {"x.bin": b"12345"}) / "x.bin", "neither a folder nor"),
        (lambda _: 3, "int is not a dataset"),
        (lambda _: [], "has no images"),
    ],
)
def test_what_is_no_dataset_is_refused(make, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        open_dataset(make(tmp_path))


def test_a_truncated_archive_is_refused(tmp_path):
    path = tar(tmp_path / "x.tar.gz", {"a.png": os.urandom(5000)}, "w:gz")
    path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(DatasetError, match=r"cannot be read as a tar|neither"):
        open_dataset(path)


def test_names_that_are_not_unicode_are_kept_apart(tmp_path):
    root = folder(tmp_path / "set", {"a.png": png()})
    (root / os.fsdecode(b"\xff.png")).write_bytes(png())
    found = open_dataset(root)
    assert len(found) == 2
    assert len(found.fingerprint) == 64
    assert found.image(1).size == (8, 6)
