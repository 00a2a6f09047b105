"""The demo's dataset: tiles of 64×64 pixels cut from photographs that come with scikit-image.

Windows of 64 to 512 pixels are laid over each photograph in a grid of little overlap, the flat ones
dropped, the rest thinned to at most `PER_PHOTOGRAPH` and resized. Large windows are kept first:
they are few, and show whole things. The result is an image folder, one folder per photograph, with
`provenance.json` beside: where each tile was cut, and where its photograph is from.

Nothing is random and nothing is downloaded; the same photographs give the same tiles.
"""

import importlib.util
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from deconvnet.errors import DatasetError

TILE = 64  # side of a tile in pixels
WINDOWS = (512, 384, 256, 192, 128, 96, 64)  # sides of the windows in pixels of the photograph
STEP = 0.75  # of a window's side from one window to the next
FLAT = 12.0  # standard deviation of grey below which a tile shows nothing
PER_PHOTOGRAPH = 100
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Photograph:
    """A file of scikit-image's data folder, and what its documentation says of it."""

    file: str
    name: str
    credit: str
    licence: str


PHOTOGRAPHS = (
    Photograph("astronaut.png", "astronaut", "NASA, Great Images", "public domain"),
    Photograph("brick.png", "brick", "CC0Textures, Bricks25", "CC0"),
    Photograph("camera.png", "camera", "Lav Varshney", "CC0"),
    Photograph("chelsea.png", "cat", "Stéfan van der Walt", "CC0"),
    Photograph("clock_motion.png", "clock", "Stéfan van der Walt", "public domain"),
    Photograph("coffee.png", "coffee", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    Photograph("coins.png", "coins", "Brooklyn Museum", "no known restrictions"),
    Photograph("grass.png", "grass", "linolafett, DeviantArt", "CC0"),
    Photograph("gravel.png", "gravel", "CC0Textures, Gravel04", "CC0"),
    Photograph("hubble_deep_field.jpg", "galaxies", "NASA, HubbleSite", "public domain"),
    Photograph("ihc.png", "tissue", "CMMI, immunohistochemistry", "no known restrictions"),
    Photograph("moon.png", "moon", "scikit-image", "as scikit-image"),
    Photograph(
        "motorcycle_left.png", "motorcycle", "Middlebury stereo 2014, Scharstein et al.",
        "as scikit-image",
    ),
    Photograph("page.png", "page", "scikit-image", "as scikit-image"),
    Photograph("retina.jpg", "retina", "Mikael Häggström", "CC0"),
    Photograph("rocket.jpg", "rocket", "SpaceX", "public domain"),
    Photograph("text.png", "text", "Wikipedia, Corner.png", "public domain"),
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """One tile: its path below the dataset's root, and the window (y0, x0, y1, x1) it shows."""

    path: str
    photograph: str
    window: tuple[int, int, int, int]


def photographs_dir() -> Path:
    """scikit-image's data folder.

    Raises:
        DatasetError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DatasetError(
            "The demo's photographs come with scikit-image, which is not installed. "
            "Install it: pip install 'deconvnet[demo]'."
        )
    return Path(spec.origin).parent / "data"


def _starts(length: int, side: int) -> list[int]:
    """Where windows of `side` begin along an edge: evenly spread, first and last at its ends."""
    count = max(1, round((length - side) / (side * STEP)) + 1)
    return [round(start) for start in np.linspace(0, length - side, count)]


def windows(height: int, width: int) -> list[tuple[int, int, int]]:
    """Every window (y, x, side) of a photograph, the largest first."""
    found = []
    for side in WINDOWS:
        if side <= min(height, width):
            found += [(y, x, side) for y in _starts(height, side) for x in _starts(width, side)]
    return found


def _cut(photograph: Image.Image) -> list[tuple[tuple[int, int, int], Image.Image]]:
    kept = []
    for y, x, side in windows(photograph.height, photograph.width):
        tile = photograph.resize(
            (TILE, TILE), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side)
        )
        if np.asarray(tile.convert("L")).std() >= FLAT:
            kept.append(((y, x, side), tile))
    if len(kept) <= PER_PHOTOGRAPH:
        return kept
    # The few large ones all stay; what is left of the quota is spread evenly over the small ones.
    large = [item for item in kept if item[0][2] > WINDOWS[-2]][: PER_PHOTOGRAPH // 2]
    small = kept[len(large) :]
    places = np.linspace(0, len(small) - 1, PER_PHOTOGRAPH - len(large)).round().astype(int)
    return large + [small[place] for place in places]


def write_tiles(root: Path) -> list[Tile]:
    """Cut all photographs into `root` and return the tiles; a finished folder is left as it is.

    Raises:
        DatasetError: scikit-image is missing, or one of its photographs.
    """
    provenance = root / PROVENANCE
    if provenance.is_file():
        stored = json.loads(provenance.read_text(encoding="utf-8"))
        return [Tile(t["path"], t["photograph"], tuple(t["window"])) for t in stored["tiles"]]
    source = photographs_dir()
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    tiles = []
    for photograph in PHOTOGRAPHS:
        file = source / photograph.file
        if not file.is_file():
            raise DatasetError(
                f"'{photograph.file}' is not in this version of scikit-image. "
                "Install the pinned one: pip install -c constraints.txt 'deconvnet[demo]'."
            )
        folder = partial / photograph.name
        folder.mkdir(parents=True)
        with Image.open(file) as opened:
            for (y, x, side), tile in _cut(opened.convert("RGB")):
                path = PurePosixPath(photograph.name) / f"{side:03d}-y{y:04d}-x{x:04d}.png"
                tile.save(partial / path)
                tiles.append(Tile(str(path), photograph.name, (y, x, y + side, x + side)))
    described = {
        "about": "Tiles cut from the photographs that scikit-image ships.",
        "tile": TILE,
        "photographs": [asdict(photograph) for photograph in PHOTOGRAPHS],
        "tiles": [asdict(tile) for tile in tiles],
    }
    (partial / PROVENANCE).write_text(
        json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)
    return tiles


def photograph_of(path: str) -> str:
    """The group of a tile: the photograph it was cut from."""
    return PurePosixPath(path).parts[0]
