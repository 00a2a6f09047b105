"""Damaged images through the limited process: crashes, 5xx, and the most that one has cost.

Twenty small pictures, each format and mode, are cut, flipped, spliced and given other headers, by
a seeded generator. A crash is a fork that ended in another way than by its limits.

    python -m tests.reliability.mutated_images --count 100000
"""

import argparse
import io
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from deconvnet_app.errors import Refusal
from deconvnet_app.imaging.decoder import Decoder
from deconvnet_app.imaging.reencode import Limits

LIMITS = Limits(50_000_000, 16_384)


@dataclass
class Found:
    """What became of all of them."""

    crashes: int = 0
    server_errors: int = 0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


def seeds() -> list[bytes]:
    """Twenty files of up to 96×64 pixels."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    picture = coarse.resize((96, 64), Image.Resampling.BICUBIC)
    rgba = picture.copy()
    rgba.putalpha(picture.convert("L"))
    wide = Image.fromarray(rng.integers(0, 65536, (40, 60), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [picture.rotate(180)]}
    stored = [
        (picture, "JPEG", {}),
        (picture, "JPEG", {"progressive": True}),
        (picture, "JPEG", {"restart_marker_blocks": 2, "exif": exif}),
        (picture.convert("L"), "JPEG", {}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {}),
        (rgba, "PNG", {"exif": exif}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("1"), "PNG", {}),
        (rgba.convert("LA"), "PNG", {}),
        (wide, "PNG", {}),
        (picture, "PNG", more),
        (picture, "WEBP", {}),
        (rgba, "WEBP", {"lossless": True}),
        (picture, "WEBP", more),
        (picture, "BMP", {}),
        (picture.convert("P"), "BMP", {}),
        (picture.convert("1"), "BMP", {}),
        (picture, "GIF", {}),
        (picture, "GIF", more),
    ]
    files = []
    for image, kind, options in stored:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def mutations(files: list[bytes], count: int) -> Iterator[bytes]:
    """`count` damaged files, the same on every run."""
    rng = np.random.default_rng(1)
    for number in range(count):
        data = bytearray(files[number % len(files)])
        how = number // len(files) % 4
        if how == 0:
            data = data[: rng.integers(len(data))]
        elif how == 1:
            for at in rng.integers(len(data), size=rng.integers(1, 9)):
                data[at] ^= 1 << rng.integers(8)
        elif how == 2:
            other = files[rng.integers(len(files))]
            data = data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]
        else:
            at = rng.integers(2, min(96, len(data) - 4))
            data[at : at + rng.integers(1, 5)] = rng.bytes(4)
        yield bytes(data)


def run(decoder: Decoder, count: int) -> Found:
    """Decode `count` damaged files, each in a fork of its own."""
    found = Found()
    for data in mutations(seeds(), count):
        try:
            outcome = decoder.decode(data, LIMITS)
        except Refusal:
            found.server_errors += 1
            continue
        found.statuses[outcome.made.status] += 1
        found.crashes += "ended its decoder" in outcome.made.why
        found.cpu_s = max(found.cpu_s, outcome.cpu_s)
        found.memory_bytes = max(found.memory_bytes, outcome.memory_bytes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    count = parser.parse_args().count
    decoder = Decoder(1)
    started = time.perf_counter()
    try:
        found = run(decoder, count)
    finally:
        decoder.close()
    statuses = ", ".join(f"{status}: {n}" for status, n in sorted(found.statuses.items()))
    print("| files | crashes | 5xx | most CPU s | most memory MB | answers | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {count} | {found.crashes} | {found.server_errors} | {found.cpu_s:.2f} "
        f"| {found.memory_bytes / 1e6:.0f} | {statuses} | {time.perf_counter() - started:.0f} |"
    )


if __name__ == "__main__":
    main()
