"""An index on the disk: which files it has, how they are written, and how damage is noticed.

    index.json               the manifest: everything but tensors, and the hash of every other file
    tables.safetensors       per layer the top-k tables and the statistics
    sprites/LAYER/0117.png   per unit its projections beside its patches
    images/00000042.png      the preprocessed pictures of the winners

Every file is written under another name, flushed and renamed. The manifest comes last: without
it there is no index, only `checkpoint.safetensors`, from which a build goes on. Nothing in it
depends on when or where it was built; the same inputs give the same bytes.
"""

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import safetensors
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.numpy import load, save

from deconvnet import fingerprint
from deconvnet.errors import IndexError_, reason

FORMAT, VERSION = "deconvnet-index", 2
MANIFEST = "index.json"
TABLES = "tables.safetensors"
CHECKPOINT = "checkpoint.safetensors"
SPRITES, IMAGES = "sprites", "images"
LOCK = ".lock"  # one builder at a time; it stays, empty
_PARTIAL = ".partial"
_KEY = "state"  # the single metadata key: several would be stored in no fixed order

Arrays = dict[str, NDArray[Any]]


def sprite_path(layer: str, channel: int) -> str:
    """Where a unit's sheet is, below the index."""
    return f"{SPRITES}/{quote(layer, safe=':').replace('.', '%2E')}/{channel:04d}.png"


def image_path(image_id: int) -> str:
    """Where a winner's preprocessed picture is, below the index."""
    return f"{IMAGES}/{image_id:08d}.png"


def write_files(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files below `root`: all flushed to the disk, then each renamed to its name."""
    folders = {(root / name).parent for name in files}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)

    def flush(item: tuple[str, bytes]) -> None:
        with (root / (item[0] + _PARTIAL)).open("wb") as stream:
            stream.write(item[1])
            stream.flush()
            os.fsync(stream.fileno())

    with ThreadPoolExecutor(8) as threads:  # waiting for the disk, not computing
        list(threads.map(flush, files.items()))
    for name in files:
        (root / (name + _PARTIAL)).replace(root / name)
    for folder in folders:
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder is no file there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear(root: Path) -> None:
    """Remove what an earlier build left: its manifest first, so that it is no index any more."""
    for name in (MANIFEST, CHECKPOINT, TABLES):
        (root / name).unlink(missing_ok=True)
    for folder in (SPRITES, IMAGES):
        for path in sorted((root / folder).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def remove_partials(root: Path) -> None:
    """Remove files that a killed build had not finished."""
    for path in root.rglob("*" + _PARTIAL):
        path.unlink()


@contextmanager
def building(root: Path) -> Iterator[None]:
    """Hold the folder for one builder.

    Raises:
        IndexError_: another process is building there, or it holds other things than an index.
    """
    if root.exists() and not root.is_dir():
        raise IndexError_(f"'{root}' is a file. Give a folder for the index.")
    root.mkdir(parents=True, exist_ok=True)
    ours = {MANIFEST, TABLES, CHECKPOINT, SPRITES, IMAGES, LOCK}
    strange = [
        path.name for path in root.iterdir()
        if path.name not in ours and not path.name.endswith(_PARTIAL)
    ]  # fmt: skip
    if strange:
        raise IndexError_(
            f"'{root}' holds other things than an index, such as '{sorted(strange)[0]}'. "
            "Give a new or empty folder."
        )
    lock = FileLock(root / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise IndexError_(
            f"Another process is building the index '{root}'. Wait for it."
        ) from error
    try:
        remove_partials(root)
        yield
    finally:
        lock.release()


def pack(tables: Mapping[str, NDArray[Any]], state: Any = None) -> bytes:
    """Arrays by name, and one JSON value, as safetensors."""
    metadata = None if state is None else {_KEY: fingerprint.canonical(state).decode()}
    return save({name: table.copy(order="C") for name, table in tables.items()}, metadata)


def unpack(data: bytes) -> tuple[Arrays, Any]:
    """What `pack` was given: the arrays, and the value.

    Raises:
        KeyError, ValueError, struct.error, SafetensorError: it is nothing of the kind.
    """
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return load(data), json.loads(metadata[_KEY])


def read_checkpoint(root: Path) -> tuple[Arrays, Any] | None:
    """(tables, state) of an unfinished build; None where there is none that can be read."""
    try:
        return unpack((root / CHECKPOINT).read_bytes())
    except (OSError, KeyError, ValueError, struct.error, safetensors.SafetensorError):
        return None


def hash_files(root: Path, names: Iterable[str]) -> dict[str, str]:
    """The fingerprints of files below `root`."""
    ordered = sorted(names)
    with ThreadPoolExecutor() as threads:
        hashes = threads.map(lambda name: fingerprint.of_file(root / name), ordered)
        return dict(zip(ordered, hashes, strict=True))


def listing(root: Path) -> list[str]:
    """Every file of a build but the manifest, the checkpoint and the lock, below `root`."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name not in (MANIFEST, CHECKPOINT, LOCK)
    )


def commit(root: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, which makes the index valid, and drop the checkpoint."""
    body = {
        "format": FORMAT, "version": VERSION, **manifest,
        "files": hash_files(root, listing(root)),
    }  # fmt: skip
    body = {"id": fingerprint.of(body), **body}
    write_files(root, {MANIFEST: json.dumps(body, indent=1).encode()})
    drop_checkpoint(root)


def drop_checkpoint(root: Path) -> None:
    """Remove the checkpoint of a build that is finished; one that was killed here has left it."""
    (root / CHECKPOINT).unlink(missing_ok=True)


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest, checked in itself.

    Raises:
        IndexError_: there is none, it is not ours, or it was changed.
    """
    path = root / MANIFEST
    if not path.is_file():
        if (root / CHECKPOINT).is_file():
            raise IndexError_(
                f"Index '{root}' is not finished. Run the command that began it again: it goes on."
            )
        raise IndexError_(
            f"There is no index in '{root}'. Build one: deconvnet index NET DATASET --out {root}"
        )
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise IndexError_(
            f"Index '{root}' is corrupt: {MANIFEST} is not JSON. {_again(root)}"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise IndexError_(f"'{path}' is not an index of deconvnet. {_again(root)}")
    if manifest.get("version") != VERSION:
        raise IndexError_(
            f"Index '{root}' has format version {manifest.get('version')}, expected {VERSION}. "
            + _again(root)
        )
    body = {key: value for key, value in manifest.items() if key != "id"}
    if fingerprint.of(body) != manifest.get("id"):
        raise IndexError_(
            f"Index '{root}' is corrupt: {MANIFEST} was changed. {rebuild(root, manifest)}"
        )
    return manifest


def _again(root: Path) -> str:
    return f"Build it anew: deconvnet index NET DATASET --out {root}"


def rebuild(root: Path, manifest: Mapping[str, Any]) -> str:
    """The sentence that says how to build an index again."""
    try:
        model, dataset = manifest["model"]["name"], manifest["dataset"]["name"]
        return f"Build it anew: deconvnet index {model} {dataset} --out {root} -k {manifest['k']}"
    except (KeyError, TypeError):
        return _again(root)


def verify(root: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file with its hash.

    Raises:
        IndexError_: naming the first file that is missing or differs.
    """
    remedy = rebuild(root, manifest)
    files: dict[str, str] = manifest["files"]
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise IndexError_(f"Index '{root}' names a file outside of it, '{name}'. {remedy}")
    try:
        found = hash_files(root, files)
    except OSError as error:
        raise IndexError_(
            f"Index '{root}' is corrupt: '{error.filename}': {reason(error)}. {remedy}"
        ) from error
    for name, expected in files.items():
        if found[name] != expected:
            raise IndexError_(f"Index '{root}' is corrupt: '{name}' was changed. {remedy}")


def read_tables(root: Path) -> Arrays:
    """The top-k tables and statistics."""
    return load((root / TABLES).read_bytes())


COLUMNS = 3  # tiles per row in each half of a sheet
