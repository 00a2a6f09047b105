"""One picture stored in many ways; each comes back as the definition of its way says, to ±1/255.

The files are written here byte by byte where the format allows (PNG), so that neither writing nor
expecting goes through the code that reads. For JPEG the reference is libjpeg-turbo's own decoding,
and the source itself to what quality 95 loses on this picture: ±12/255, or ±24/255 where chroma has
half the resolution.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from deconvnet.data.image import BAD_PROFILE, SEVERAL_FRAMES, convert, open_picture

HEIGHT, WIDTH = 13, 21  # neither a multiple of 8 nor square: every Adam7 pass is ragged
_y, _x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
COLOUR = np.stack([_x, _y, 1 - _x * _y], -1)  # in [0, 1]
GREY = (_x + _y) / 2
ALPHA = np.clip(1.5 * _x - 0.25, 0, 1)
CASES = {}


def case(name, data, expected, tolerance=1.0):
    """Register: the file's bytes and the picture in [0, 1], grey or RGB."""
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, -1)
    assert name not in CASES
    CASES[name] = (data, expected, tolerance)


def over_white(colour, alpha):
    colour = colour if colour.ndim == 3 else colour[..., None]
    return colour * alpha[..., None] + 1 - alpha[..., None]


# PNG, by its specification

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]  # fmt: skip


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows_of(samples, depth):
    """Bytes of samples [h, w, c], each row after a filter byte of 0."""
    out = b""
    for row in samples.reshape(len(samples), -1):
        bits = "".join(f"{int(value):0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        out += b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    return out


def png(samples, depth, kind, interlaced=False, before=b""):
    samples = samples.reshape(HEIGHT, WIDTH, -1)
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    pixels = b"".join(rows_of(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
        + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )  # fmt: skip


def quantised(values, depth):
    """Integers of `depth` bits, and the values in [0, 1] that they mean."""
    most = 2**depth - 1
    integers = np.rint(values * most).astype(int)
    return integers, integers / most


def palette(depth):
    """Indices, a PLTE chunk, and the colours that they mean."""
    count = min(2**depth, 200)
    colours = np.random.default_rng(0).integers(0, 256, (count, 3))
    indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % count
    return indices, chunk(b"PLTE", colours.astype(np.uint8).tobytes()), colours[indices] / 255


for interlaced in (False, True):
    suffix = ", interlaced" if interlaced else ""
    for depth in (1, 2, 4, 8, 16):
        stored, meant = quantised(GREY, depth)
        case(f"PNG grey {depth}{suffix}", png(stored, depth, 0, interlaced), meant)
    for depth in (8, 16):
        stored, meant = quantised(COLOUR, depth)
        case(f"PNG RGB {depth}{suffix}", png(stored, depth, 2, interlaced), meant)
        over, opacity = quantised(ALPHA, depth)
        both = np.dstack([stored, over])
        # Of 16 bits Pillow keeps the upper byte, of colour and of alpha: two losses.
        tolerance = 2.0 if depth == 16 else 1.0
        expected = over_white(meant, opacity)
        case(f"PNG RGBA {depth}{suffix}", png(both, depth, 6, interlaced), expected, tolerance)
        stored, meant = quantised(GREY, depth)
        both = np.dstack([stored, over])
        case(f"PNG LA {depth}{suffix}", png(both, depth, 4, interlaced), over_white(meant, opacity))
    for depth in (1, 2, 4, 8):
        stored, plte, meant = palette(depth)
        case(f"PNG palette {depth}{suffix}", png(stored, depth, 3, interlaced, plte), meant)

for depth in (1, 8, 16):
    stored, meant = quantised(GREY, depth)
    key = int(stored[3, 5])
    keyed = np.where(stored == key, 1.0, meant)
    trns = chunk(b"tRNS", struct.pack(">H", key))
    case(f"PNG grey {depth}, colour key", png(stored, depth, 0, before=trns), keyed)
stored, meant = quantised(COLOUR, 8)
key = stored[3, 5]
keyed = np.where((stored == key).all(-1, keepdims=True), 1.0, meant)
trns = chunk(b"tRNS", struct.pack(">HHH", *key.tolist()))
case("PNG RGB 8, colour key", png(stored, 8, 2, before=trns), keyed)
for depth in (4, 8):
    stored, plte, meant = palette(depth)
    opacities = np.arange(2**depth)[:100] * 255 // 2**depth
    trns = chunk(b"tRNS", opacities.astype(np.uint8).tobytes())
    opacity = np.append(opacities, [255] * 256)[stored] / 255
    data = png(stored, depth, 3, before=plte + trns)
    case(f"PNG palette {depth}, transparency", data, over_white(meant, opacity))


# Profiles, by the ICC specification: the primaries of sRGB (D50), and a linear tone curve.

D50_PRIMARIES = {
    b"rXYZ": (0.4360747, 0.2225045, 0.0139322),
    b"gXYZ": (0.3850649, 0.7168786, 0.0971045),
    b"bXYZ": (0.1430804, 0.0606169, 0.7141733),
}


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(space):
    curve = b"curv\0\0\0\0\0\0\0\0"  # no entries: linear
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0x\0\0\0",
            b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}  # fmt: skip
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {name: b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in D50_PRIMARIES.items()}
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    at, table, bodies = 132 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + b"\0" * (-len(body) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s", at + len(bodies), bytes(4), 0x02400000, b"mntr", space, b"XYZ ",
        bytes(12), b"acsp", bytes(28),
    ) + fixed(0.9642, 1, 0.8249) + bytes(48)  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + bodies


def srgb(linear):
    """IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def iccp(space):
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(profile(space)))


stored, meant = quantised(COLOUR, 8)
over, opacity = quantised(ALPHA, 8)
case("PNG RGB 8, ICC", png(stored, 8, 2, before=iccp(b"RGB ")), srgb(meant))
data = png(np.dstack([stored, over]), 8, 6, before=iccp(b"RGB "))
case("PNG RGBA 8, ICC", data, over_white(srgb(meant), opacity))
pixels = Image.fromarray(stored.astype(np.uint8))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


data = saved(pixels, "WEBP", lossless=True, icc_profile=profile(b"RGB "))
case("WebP lossless, ICC", data, srgb(meant))
indices, plte, meant = palette(8)
case("PNG palette 8, ICC", png(indices, 8, 3, before=iccp(b"RGB ") + plte), srgb(meant))
stored, meant = quantised(GREY, 8)
case("PNG grey 8, ICC", png(stored, 8, 0, before=iccp(b"GRAY")), srgb(meant))
data = png(np.dstack([stored, over]), 8, 4, before=iccp(b"GRAY"))
case("PNG LA 8, ICC", data, over_white(srgb(meant), opacity))
wide, _ = quantised(GREY, 16)
# 16 bits are brought to 8 before the profile, as Pillow's engine has no 16-bit grey.
data = png(wide, 16, 0, before=iccp(b"GRAY"))
case("PNG grey 16, ICC", data, srgb(np.rint(wide / 257) / 255))
for space, samples, kind in ((b"GRAY", quantised(COLOUR, 8)[0], 2), (b"RGB ", stored, 0)):
    data = png(samples, 8, kind, before=iccp(space))
    case(f"PNG with a profile of {space.decode().strip()} that is not its own", data, samples / 255)


# What Pillow writes without loss

grey8, colour8 = quantised(GREY, 8)[0], quantised(COLOUR, 8)[0]
rgba = Image.fromarray(np.dstack([colour8, over]).astype(np.uint8), "RGBA")
greys = Image.fromarray(grey8.astype(np.uint8))
bits = greys.point(lambda v: 255 * (v > 127)).convert("1")
indexed = Image.fromarray((grey8 % 16).astype(np.uint8), "P")
indexed.putpalette(np.repeat(np.arange(16) * 17, 3).astype(np.uint8).tobytes())
shades = (grey8 % 16) / 15
case("BMP 1", saved(bits, "BMP"), (grey8 > 127).astype(float))
case("BMP 8 grey", saved(greys, "BMP"), grey8 / 255)
case("BMP 8 palette", saved(indexed, "BMP"), shades)
case("BMP 24", saved(pixels, "BMP"), colour8 / 255)
case("BMP 32", saved(rgba, "BMP"), colour8 / 255)  # without a mask, the fourth byte is unused
for interlaced in (False, True):
    suffix = ", interlaced" if interlaced else ""
    case(f"GIF grey{suffix}", saved(greys, "GIF", interlace=interlaced), grey8 / 255)
    case(f"GIF palette{suffix}", saved(indexed, "GIF", interlace=interlaced), shades)
case(
    "GIF transparency", saved(indexed, "GIF", transparency=7), np.where(grey8 % 16 == 7, 1, shades)
)
frames = {"save_all": True, "append_images": [pixels.rotate(180)]}
case("GIF animated", saved(greys, "GIF", save_all=True, append_images=[bits]), grey8 / 255)
case("PNG animated", saved(pixels, "PNG", **frames), colour8 / 255)
case("WebP animated", saved(pixels, "WEBP", lossless=True, **frames), colour8 / 255)
case("WebP lossless RGB", saved(pixels, "WEBP", lossless=True), colour8 / 255)
data = saved(rgba, "WEBP", lossless=True, exact=True)
case("WebP lossless RGBA", data, over_white(colour8 / 255, opacity))


# EXIF: where row 0 and column 0 of the file stand in the picture (EXIF 2.3, 4.6.4, Orientation)

STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}
for turn, store in STORED.items():
    exif = Image.Exif()
    exif[0x0112] = turn
    turned = Image.fromarray(np.ascontiguousarray(store(colour8)).astype(np.uint8))
    case(f"PNG, EXIF {turn}", saved(turned, "PNG", exif=exif), colour8 / 255)
    data = saved(turned, "WEBP", lossless=True, exif=exif)
    case(f"WebP, EXIF {turn}", data, colour8 / 255)
    data = saved(turned, "JPEG", exif=exif, quality=95, subsampling=0)
    case(f"JPEG, EXIF {turn}", data, colour8 / 255, 12.0)

JPEGS = {
    "4:4:4": {"subsampling": 0},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "RGB": {"keep_rgb": True},
}
for name, options in JPEGS.items():
    loss = 12.0 if name in ("4:4:4", "RGB") else 24.0
    case(f"JPEG {name}", saved(pixels, "JPEG", quality=95, **options), colour8 / 255, loss)
case("JPEG grey", saved(greys, "JPEG", quality=95), grey8 / 255, 12.0)
data = saved(pixels, "JPEG", quality=95, subsampling=0, icc_profile=profile(b"RGB "))
reference = simplejpeg.decode_jpeg(data) / 255
case("JPEG, ICC", data, srgb(reference), 2.0)  # chroma's rounding on a steep curve
inks = Image.fromarray(
    (255 - np.dstack([colour8, np.full_like(grey8, 255)])).astype(np.uint8), "CMYK"
)
case("JPEG CMYK", saved(inks, "JPEG", quality=95), colour8 / 255, 12.0)


def test_the_set_is_large():
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_a_stored_picture_comes_back_as_its_definition_says(name):
    data, expected, tolerance = CASES[name]
    found = np.asarray(convert(open_picture(data)).pixels).astype(float)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert abs(found - 255 * expected).max() <= tolerance + 1e-9


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("JPEG ")][:5])
def test_a_jpeg_comes_back_as_libjpeg_decodes_it(name):
    data = CASES[name][0]
    found = np.asarray(convert(open_picture(data)).pixels)
    np.testing.assert_array_equal(found, simplejpeg.decode_jpeg(data))
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("name", CASES)
def test_what_was_left_out_is_said(name):
    expected = []
    if "animated" in name:
        expected.append(SEVERAL_FRAMES)
    if "not its own" in name:
        expected.append(BAD_PROFILE)
    assert list(convert(open_picture(CASES[name][0])).notes) == expected
