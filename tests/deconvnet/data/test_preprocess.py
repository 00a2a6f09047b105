"""Any picture to upright sRGB, and on to the network's input and back."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from deconvnet.data.image import to_rgb
from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def reopened(image, format="PNG", **options):
    """The picture as a file gives it."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def corner_picture():
    """3×2 pixels: red in the upper left corner, green in the upper right, blue below red."""
    image = Image.new("RGB", (3, 2), WHITE)
    image.putpixel((0, 0), RED)
    image.putpixel((2, 0), GREEN)
    image.putpixel((0, 1), BLUE)
    return image


# How a camera stores the upright picture for each orientation: the inverse of what undoes it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientations_come_upright(orientation):
    upright = corner_picture()
    how = STORED[orientation]
    stored = upright if how is None else upright.transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(to_rgb(reopened(stored, exif=exif)), upright)


def test_a_broken_exif_block_is_ignored():
    image = corner_picture()
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says what it thinks of the block
        assert np.array_equal(to_rgb(image), corner_picture())


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = reopened(Image.fromarray(values))
    assert image.mode.startswith("I")
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_dim_sixteen_bit_grey_stays_dim():
    values = np.full((2, 2), 200, np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(values))).max() == 1


def test_wide_integers_with_eight_bit_values_are_taken_as_they_are():
    image = Image.fromarray(np.array([[7, 255]], np.int32))
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [7, 255]


def test_float_pictures_are_stretched_to_their_own_range():
    image = Image.fromarray(np.array([[-1.0, 0.0, 3.0]], np.float32))
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 64, 255]


def test_a_float_picture_with_nan_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        to_rgb(Image.fromarray(np.array([[np.nan, 1.0]], np.float32)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("LAB", (2, 2)) if mode == "LAB" else corner_picture().convert(mode)
    assert to_rgb(image).mode == "RGB"


def test_cmyk_without_a_profile_keeps_its_colours():
    image = reopened(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert image.mode == "CMYK"
    red, green, blue = np.asarray(to_rgb(image))[4, 4].astype(int)
    assert red > 240 and green < 15 and blue < 15


TRANSPARENT = {
    "RGBA": lambda: Image.fromarray(np.array([[[255, 0, 0, 255], [9, 9, 9, 0]]], np.uint8), "RGBA"),
    "LA": lambda: Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8), "LA"),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparent_pixels_lie_on_white(mode):
    found = np.asarray(to_rgb(reopened(TRANSPARENT[mode]())))
    assert found[0, 1].tolist() == [255, 255, 255]
    assert found[0, 0].tolist() == ([255, 0, 0] if mode == "RGBA" else [0, 0, 0])


def test_half_transparent_red_on_white_is_pink():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert np.asarray(to_rgb(image))[0, 0].tolist() == [255, 127, 127]


def test_palette_transparency_lies_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    found = np.asarray(to_rgb(reopened(image, transparency=1)))
    assert found[0].tolist() == [list(RED), list(WHITE)]


def test_a_colour_key_lies_on_white():
    image = corner_picture()
    found = np.asarray(to_rgb(reopened(image, transparency=BLUE)))
    assert found[1, 0].tolist() == list(WHITE)
    assert found[0, 0].tolist() == list(RED)


def test_a_colour_key_of_sixteen_bit_grey_lies_on_white():
    image = Image.fromarray(np.array([[514, 0]], np.uint16))
    image.info["transparency"] = 514
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [255, 0]


def swapped_profile():
    """sRGB with the primaries of red and blue exchanged: its red is our blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"bXYZ", b"rXYZ"), (b"????", b"bXYZ")):
        profile = profile.replace(old, new, 1)
    return profile


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_embedded_profile_is_applied(mode):
    image = reopened(corner_picture().convert(mode), icc_profile=swapped_profile())
    found = np.asarray(to_rgb(image)).astype(int)
    assert abs(found[0, 0] - BLUE).max() <= 2
    assert abs(found[1, 0] - RED).max() <= 2


def test_a_profile_and_a_colour_key_are_both_honoured():
    image = reopened(corner_picture(), transparency=BLUE, icc_profile=swapped_profile())
    found = np.asarray(to_rgb(image)).astype(int)
    assert found[1, 0].tolist() == list(WHITE)
    assert abs(found[0, 0] - BLUE).max() <= 2


def test_a_broken_profile_is_ignored():
    image = corner_picture()
    image.info["icc_profile"] = b"not a profile"
    assert np.array_equal(to_rgb(image), corner_picture())


def test_of_an_animation_the_first_frame_counts():
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    image = reopened(first, "GIF", save_all=True, append_images=[second])
    image.seek(1)
    assert np.asarray(to_rgb(image)).max() == 10


def test_a_truncated_picture_is_refused_not_filled_with_grey():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    image = Image.open(io.BytesIO(buffer.getvalue()[: len(buffer.getvalue()) // 2]))
    with pytest.raises(InputError, match="cannot be decoded"):
        to_rgb(image)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(InputError, match="0×5: it has no pixels"):
        to_rgb(Image.new("RGB", (0, 5)))


def test_the_callers_picture_is_not_changed():
    image = TRANSPARENT["RGBA"]()
    before = image.tobytes()
    to_rgb(image)
    assert (image.mode, image.tobytes()) == ("RGBA", before)


def test_a_picture_of_the_right_size_is_taken_as_it_is():
    image = corner_picture()
    assert Preprocess((2, 3), resize=5).crop(image).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1), (37, 211), (500, 20)])
def test_any_shape_becomes_the_input_size(size):
    assert Preprocess((32, 48), resize=56).crop(Image.new("RGB", size)).size == (48, 32)


def test_the_crop_is_central():
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (96, 0, 204, 100))  # what the filter reaches beyond the crop, too
    assert np.asarray(Preprocess((50, 50)).crop(image)).min() == 255


def test_the_shorter_side_is_resized_before_the_crop():
    image = Image.new("RGB", (200, 100), "black")
    image.paste("white", (56, 6, 144, 94))  # the crop of 40 at 50 is the centre square of 80
    assert np.asarray(Preprocess((40, 40), resize=50).crop(image)).min() == 255


def test_normalising_follows_the_formula_and_comes_back():
    preprocess = Preprocess((2, 3), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    x = preprocess(corner_picture())
    assert x.shape == (1, 3, 2, 3)
    assert x.dtype == torch.float32
    expected = torch.tensor([(1 - 0.1) / 0.5, (0 - 0.2) / 0.6, (0 - 0.3) / 0.7])
    torch.testing.assert_close(x[0, :, 0, 0], expected)
    torch.testing.assert_close(torch.tensor(preprocess.colour((1.0, 0.0, 0.0))), expected)
    back = (preprocess.denormalise(x[0]) * 255).round().to(torch.uint8)
    assert torch.equal(back, preprocess.tensor(corner_picture()))
