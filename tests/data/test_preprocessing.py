"""Image files of every kind, whole and broken, and how an image becomes an input."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from supertickets import UserError
from supertickets.data import Preprocessing, open_image
from supertickets.data import preprocessing as images
from supertickets.data.preprocessing import BrokenImage, shrink, to_channels, to_tensor, with_normalisation

Array = npt.NDArray[np.uint8]
PLAIN = ((0.0,) * 3, (1.0,) * 3)


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def smooth(height: int, width: int) -> Array:
    """Colours that change slowly, so that JPEG keeps them almost as they are."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((y * 255 / height, x * 255 / width, 255 - y * 255 / height), 2).astype(np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(BrokenImage) as error:
        open_image(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


# Upright -------------------------------------------------------------------------------------------------------------

# EXIF: where the stored image's first row and first column are when it is upright.
UNDO = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UNDO)
def test_an_image_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    stored = noise(3, 5, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(stored).save(path, exif=exif)
    image = open_image(path)
    assert np.array_equal(np.asarray(image), UNDO[orientation](stored))
    assert image.getexif().get(0x0112, 1) == 1  # so that nothing turns it once more


def test_a_jpeg_decoded_small_is_turned_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(smooth(64, 128)).save(path, exif=exif)
    assert open_image(path, 16).size == (16, 32)


# Modes ---------------------------------------------------------------------------------------------------------------


def test_grey_becomes_rgb_and_rgb_grey(tmp_path: Path) -> None:
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.png"
    values = noise(4, 6)
    Image.fromarray(values).save(grey)
    Image.new("RGB", (2, 2), (200, 100, 50)).save(colour)
    assert np.array_equal(np.asarray(to_channels(open_image(grey), 3)), np.stack((values,) * 3, 2))
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B = 124.2.
    assert np.asarray(to_channels(open_image(colour), 1)).tolist() == [[124, 124], [124, 124]]


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "bits.png"
    Image.fromarray(np.array([[True, False], [False, True]])).save(path)
    assert np.asarray(to_channels(open_image(path), 1)).tolist() == [[255, 0], [0, 255]]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    opened = open_image(path)
    assert opened.mode == "CMYK"
    assert np.asarray(to_channels(opened, 3)).reshape(-1, 3).mean(0) == pytest.approx([255, 0, 0], abs=4)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L")
    image.putpalette([10, 20, 30, 250, 240, 230])
    image.save(path)
    opened = open_image(path)
    assert opened.mode == "P"
    a, b = [10, 20, 30], [250, 240, 230]
    assert np.asarray(to_channels(opened, 3)).tolist() == [[a, b], [b, a]]


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L")
    image.putpalette([10, 20, 30, 250, 240, 230])
    image.save(path, transparency=0)
    a, b = [255, 255, 255], [250, 240, 230]
    assert np.asarray(to_channels(open_image(path), 3)).tolist() == [[a, b], [b, a]]


def test_a_transparent_colour_without_a_palette_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "key.png"
    Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8)).save(path, transparency=(9, 8, 7))
    assert np.asarray(to_channels(open_image(path), 3)).tolist() == [[[255, 255, 255], [1, 2, 3]]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    stored = np.array([[[200, 0, 100, 255], [200, 0, 100, 0], [200, 0, 100, 51]]], np.uint8)
    Image.fromarray(stored).save(path)
    # 51 / 255 is a fifth of the colour and four fifths of white.
    wanted = [[200, 0, 100], [255, 255, 255], [244, 204, 224]]
    assert np.abs(np.asarray(to_channels(open_image(path), 3))[0].astype(int) - wanted).max() <= 1


def test_grey_with_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    Image.fromarray(np.array([[[40, 255], [40, 0]]], np.uint8), "LA").save(path)
    assert np.asarray(to_channels(open_image(path), 1)).tolist() == [[40, 255]]


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 25700, 32896, 65535]], np.uint16)).save(path)
    assert np.asarray(to_channels(open_image(path), 1)).tolist() == [[0, 1, 100, 128, 255]]


def test_a_dark_16_bit_image_stays_dark(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    Image.fromarray(np.array([[0, 200]], np.uint16)).save(path)
    assert np.asarray(to_channels(open_image(path), 1)).max() <= 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),  # bytes in a wide type
        (np.array([[0, 25700, 65535]], np.int32), [0, 100, 255]),  # 16 bits in a wide type
        (np.array([[0, 0.5, 1]], np.float32), [0, 127, 255]),
        (np.array([[0, 100.4, 255]], np.float32), [0, 100, 255]),
        (np.array([[-5, 100, 250]], np.float32), [0, 100, 250]),
    ],
)
def test_a_tiff_of_wide_numbers_is_scaled(
    tmp_path: Path, values: npt.NDArray[np.int32 | np.float32], wanted: list[int]
) -> None:
    path = tmp_path / "wide.tiff"
    Image.fromarray(values).save(path)
    opened = open_image(path)
    assert opened.mode in ("I", "F")
    assert np.asarray(to_channels(opened, 1)).tolist() == [wanted]
    assert np.asarray(to_channels(opened, 3)).tolist() == [[[value] * 3 for value in wanted]]


# Broken --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_jpeg_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(noise(64, 64, 3)).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    assert "not a readable image" in refusal(path)


@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "webp", "tiff"])
def test_other_truncated_images_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(noise(32, 32, 3)).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    assert "not a readable image" in refusal(path)


@pytest.mark.parametrize("raw", [b"", b"I am a text, not an image.\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(raw)
    assert "not a readable image" in refusal(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.png")


def test_a_folder_in_the_place_of_an_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert "not a readable image" in refusal(tmp_path / "folder.png")


# Large ---------------------------------------------------------------------------------------------------------------


def test_100_megapixels_open_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000), 1).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_image(path)
    assert image.size == (10_000, 10_000)
    assert image.getpixel((9_999, 9_999)) == 255


def test_too_large_an_image_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MOST_PIXELS", 99)
    path = tmp_path / "large.png"
    Image.fromarray(noise(10, 10)).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])  # decoding it would fail for another reason
    assert "10 x 10 pixels are too many" in refusal(path)
    monkeypatch.setattr(images, "_MOST_PIXELS", 100)
    assert "too many" not in refusal(path)


@pytest.mark.parametrize("asked", [10, 16, 40, 100, 200, 500])
@pytest.mark.parametrize("size", [(640, 480), (300, 900)])
def test_a_jpeg_decoded_small_has_at_least_the_asked_shorter_side(
    tmp_path: Path, asked: int, size: tuple[int, int]
) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth(size[1], size[0])).save(path, quality=95)
    decoded = open_image(path, asked)
    assert min(decoded.size) >= min(asked, *size)
    # The decoder halves at most three times; what it can leave out it does.
    assert min(decoded.size) < 2 * asked or decoded.size == size or min(decoded.size) == -(-min(size) // 8)
    assert decoded.width / decoded.height == pytest.approx(size[0] / size[1], rel=0.03)
    whole = open_image(path).resize((16, 16), Image.Resampling.BOX)
    small = decoded.resize((16, 16), Image.Resampling.BOX)
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(small)).max() <= 8


def test_shrinking_keeps_the_shape_and_never_enlarges() -> None:
    wide = Image.fromarray(noise(100, 250))
    assert shrink(wide, 40).size == (100, 40)
    assert shrink(wide, 100) is wide
    assert shrink(wide, 101) is wide
    assert shrink(Image.new("L", (1, 1000)), 1).size == (1, 1000)


# Inputs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resample", "filter_"), [("bilinear", 2), ("bicubic", 3)])
def test_stretching_is_a_resize_to_the_size(resample: str, filter_: int) -> None:
    values = noise(30, 50, 3)
    pixels = Preprocessing(3, (12, 20), *PLAIN, "stretch", 1.0, resample).pixels(Image.fromarray(values))  # type: ignore[arg-type]
    wanted = Image.fromarray(values).resize((20, 12), Image.Resampling(filter_))
    assert pixels.dtype == torch.uint8
    assert tuple(pixels.shape) == (3, 12, 20)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    values = noise(12, 20, 3)
    for fit in ("stretch", "crop"):
        pixels = Preprocessing(3, (12, 20), *PLAIN, fit).pixels(Image.fromarray(values))  # type: ignore[arg-type]
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize("turned", [False, True])
def test_cropping_takes_the_middle(turned: bool) -> None:
    """An image of three squares side by side: the middle one is what is left."""
    values = np.concatenate([np.full((16, 16, 3), 10), noise(16, 16, 3), np.full((16, 16, 3), 200)], 1).astype(np.uint8)
    values = values.transpose(1, 0, 2) if turned else values
    pixels = Preprocessing(3, (16, 16), *PLAIN, "crop").pixels(Image.fromarray(values))
    middle = values[16:32] if turned else values[:, 16:32]
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), middle)


def test_the_share_is_that_of_the_shorter_side() -> None:
    """Of 40 x 60 pixels a share of 0.5 is the middle 20 x 20; resized to its own size, it is those pixels."""
    values = noise(40, 60, 3)
    pixels = Preprocessing(3, (20, 20), *PLAIN, "crop", 0.5, "bicubic").pixels(Image.fromarray(values))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), values[10:30, 20:40])


def test_crop_and_resize_are_one_step() -> None:
    values = noise(40, 60, 3)
    prepare = Preprocessing(3, (14, 14), *PLAIN, "crop", 0.875, "bicubic")
    pixels = prepare.pixels(Image.fromarray(values))
    assert prepare.shown_region(Image.fromarray(values)) == (12.5, 2.5, 47.5, 37.5)
    # 0.875 * 40 = 35 pixels, from 2.5 on above and from 12.5 on at the left.
    wanted = Image.fromarray(values).resize((14, 14), Image.Resampling.BICUBIC, box=(12.5, 2.5, 47.5, 37.5))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_a_crop_that_is_not_square_covers_as_much_as_it_can() -> None:
    values = noise(40, 40, 3)
    pixels = Preprocessing(3, (10, 20), *PLAIN, "crop").pixels(Image.fromarray(values))
    wanted = Image.fromarray(values).resize((20, 10), Image.Resampling.BILINEAR, box=(0, 10, 40, 30))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(wanted))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_an_image_of_any_mode_becomes_an_input(mode: str, channels: int) -> None:
    image = Image.new(mode, (9, 7))
    prepare = Preprocessing(channels, (8, 8), (0.5,) * channels, (0.5,) * channels, "crop", 0.875)
    pixels = prepare.pixels(image)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (channels, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_in_lab_becomes_an_input(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "lab.tiff"
    Image.new("LAB", (9, 7), (128, 128, 128)).save(path)
    opened = open_image(path)
    assert opened.mode == "LAB"
    assert to_channels(opened, channels).mode == ("L" if channels == 1 else "RGB")


def test_values_are_normalised_per_channel() -> None:
    prepare = Preprocessing(3, (1, 1), (0.0, 0.5, 0.2), (1.0, 0.25, 0.1))
    normalised = prepare(torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1))
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.flatten(), torch.tensor([1.0, -2.0, 0.0]))


def test_pixels_are_in_the_order_of_the_network() -> None:
    values = noise(4, 6, 3)
    assert to_tensor(Image.fromarray(values))[2, 3, 5] == values[3, 5, 2]
    assert to_tensor(Image.fromarray(values[..., 0])).tolist() == [values[..., 0].tolist()]


def test_a_network_of_other_channels_takes_no_images() -> None:
    with pytest.raises(UserError, match="an image has 1 or 3 channels, the network takes 2"):
        to_channels(Image.new("RGB", (4, 4)), 2)


@pytest.mark.parametrize("size", [32, 224])
def test_images_of_any_size_are_cut_to_shape(size: int) -> None:
    """Rounding must not lead out of the image, of which all of the shorter side is seen."""
    prepare = Preprocessing(3, (size, size), (0.0,) * 3, (1.0,) * 3, "crop", 1.0, "bicubic")
    for shorter in range(1, 300):
        left, top, right, bottom = prepare.shown_region(Image.new("RGB", (shorter, shorter + 7)))
        assert 0 <= left < right <= shorter
        assert 0 <= top < bottom <= shorter + 7


def test_normalisation_is_mean_and_deviation_over_all_pixels() -> None:
    """Of images of several sizes and of a batch, as numpy has them over all of their pixels together."""
    odd, batch = [noise(3, 5, 7, seed=1), noise(3, 1, 2, seed=2)], noise(4, 3, 6, 6, seed=3)
    got = with_normalisation(Preprocessing(3, (8, 8), *PLAIN), map(torch.from_numpy, [*odd, batch]))
    pixels = np.concatenate([*(image.reshape(3, -1) for image in odd), *(image.reshape(3, -1) for image in batch)], 1)
    assert got.mean == pytest.approx(tuple(pixels.mean(1) / 255))
    assert got.std == pytest.approx(tuple(pixels.std(1) / 255))


def test_images_of_one_colour_have_a_deviation_that_can_be_divided_by() -> None:
    got = with_normalisation(Preprocessing(1, (4, 4), (0.0,), (1.0,)), [torch.full((1, 4, 4), 51, dtype=torch.uint8)])
    assert (got.mean, got.std) == (pytest.approx((0.2,)), (1e-3,))
