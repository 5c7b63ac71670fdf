from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines import palette_png
from pipelines.errors import InputError
from pipelines.segmentation.masks import import_masks, resize_labels

SIZE = {"n_frames": 3, "width": 8, "height": 6}


def scene(*ids: int) -> np.ndarray:
    """Three 8 x 6 maps; object i fills the columns from 2i on by two, moving down one row per frame."""
    maps = np.zeros((3, 6, 8), np.uint16)
    for i, original in enumerate(ids):
        for t in range(3):
            maps[t, t : t + 3, 2 * i : 2 * i + 2] = original
    return maps


def write_palette(folder: Path, maps: np.ndarray) -> Path:
    folder.mkdir()
    for t, labels in enumerate(maps):
        palette_png.write(folder / f"{t:05d}.png", labels.astype(np.uint8))
    return folder


def write_mots(folder: Path, maps: np.ndarray) -> Path:
    folder.mkdir()
    for t, labels in enumerate(maps):
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{t:06d}.png")
    return folder


def test_palette_png_keeps_objects_and_the_unknown_label(tmp_path: Path) -> None:
    maps = scene(3, 7)
    maps[0, 5, 5] = 255
    imported = import_masks(write_palette(tmp_path / "davis", maps), **SIZE)
    assert imported.names == ("background", "object 3", "object 7")
    expected = np.select([maps == 3, maps == 7, maps == 255], [1, 2, 255], 0)
    np.testing.assert_array_equal(imported.maps, expected)


def test_grey_png_of_0_and_255_is_one_object(tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for t, labels in enumerate(scene(255)):
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"{t}.png")
    imported = import_masks(folder, **SIZE)
    np.testing.assert_array_equal(imported.maps, scene(1))
    assert len(imported.notes) == 1


def test_mots_png_names_classes_and_ignores_10000(tmp_path: Path) -> None:
    maps = scene(1004, 2001, 5003)
    maps[2, 5, 7] = 10_000
    imported = import_masks(write_mots(tmp_path / "mots", maps), **SIZE)
    assert imported.names == ("background", "car 4", "pedestrian 1", "class 5 3")
    assert imported.maps[2, 5, 7] == 255
    np.testing.assert_array_equal(imported.maps == 2, maps == 2001)


def test_mots_folder_may_begin_with_an_empty_frame(tmp_path: Path) -> None:
    maps = scene(1001)
    maps[0] = 0
    assert import_masks(write_mots(tmp_path / "mots", maps), **SIZE).names == ("background", "car 1")


@pytest.mark.parametrize("as_stack", [True, False])
def test_npy_label_maps(tmp_path: Path, as_stack: bool) -> None:
    maps = scene(300, 2).astype(np.int64)
    maps[1, 5, 0] = -1
    if as_stack:
        path = tmp_path / "masks.npy"
        np.save(path, maps)
    else:
        path = tmp_path / "npy"
        path.mkdir()
        for t in range(3):
            np.save(path / f"frame_{8 + t}.npy", maps[t])  # 8, 9, 10: natural order
    imported = import_masks(path, **SIZE)
    assert imported.names == ("background", "object 2", "object 300")
    np.testing.assert_array_equal(imported.maps, np.select([maps == 2, maps == 300, maps == -1], [1, 2, 255], 0))


def test_masks_of_twice_the_size_are_resized(tmp_path: Path) -> None:
    maps = scene(1, 2)
    doubled = np.repeat(np.repeat(maps, 2, 1), 2, 2)
    imported = import_masks(write_palette(tmp_path / "big", doubled), **SIZE)
    np.testing.assert_array_equal(imported.maps, maps)
    assert "resized" in imported.notes[0]


def test_resize_takes_the_pixel_under_the_centre() -> None:
    labels = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(resize_labels(labels, width=2, height=3), labels[:, [1, 3]])
    np.testing.assert_array_equal(resize_labels(labels, width=8, height=3), np.repeat(labels, 2, 1))


def test_no_object_is_not_an_error(tmp_path: Path) -> None:
    imported = import_masks(write_palette(tmp_path / "empty", np.zeros((3, 6, 8))), **SIZE)
    assert imported.names == ("background",)
    assert "no object" in imported.notes[0]


def test_wrong_count_says_what_to_do(tmp_path: Path) -> None:
    folder = write_palette(tmp_path / "short", scene(1)[:2])
    with pytest.raises(InputError, match=r"2 label maps, but the working video has 3 frames.*--start"):
        import_masks(folder, **SIZE)


def test_wrong_aspect_and_mixed_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"8x3 px, the video 8x6 px"):
        import_masks(write_palette(tmp_path / "flat", scene(1)[:, :3]), **SIZE)
    folder = write_palette(tmp_path / "mixed", scene(1))
    palette_png.write(folder / "00001.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(InputError, match=r"00001.png is 16x12 px, the maps before it 8x6 px"):
        import_masks(folder, **SIZE)


def test_missing_empty_or_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a folder"):
        import_masks(tmp_path / "nowhere", **SIZE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no .png or .npy files"):
        import_masks(tmp_path / "empty", **SIZE)
    folder = write_palette(tmp_path / "text", scene(1))
    (folder / "00002.png").write_text("not a picture")
    with pytest.raises(InputError, match="not a readable label map"):
        import_masks(folder, **SIZE)
    np.save(tmp_path / "flow.npy", np.zeros((3, 6, 8), np.float32))
    with pytest.raises(InputError, match="expected integer maps"):
        import_masks(tmp_path / "flow.npy", **SIZE)


def test_colour_images_and_missing_background_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rgb"
    folder.mkdir()
    for t in range(3):
        Image.fromarray(np.full((6, 8, 3), (200, 0, 0), np.uint8)).save(folder / f"{t}.png")
    with pytest.raises(InputError, match="palette or grey-scale"):
        import_masks(folder, **SIZE)
    with pytest.raises(InputError, match="label 0 must mark"):
        import_masks(write_palette(tmp_path / "full", np.ones((3, 6, 8))), **SIZE)


def sixteen_bits(folder: Path, labels: np.ndarray) -> Path:
    folder.mkdir()
    for t in range(2):
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{t}.png")
    return folder


def test_plain_labels_of_sixteen_bits_are_not_mots(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), int)
    labels[2:8, 2:8], labels[10:16, 10:16], labels[0] = 1, 2, 255
    found = import_masks(sixteen_bits(tmp_path / "plain", labels), n_frames=2, width=30, height=20)
    assert found.names == ("background", "object 1", "object 2")
    np.testing.assert_array_equal(found.maps[1], labels)
    white = import_masks(sixteen_bits(tmp_path / "white", 65_535 * (labels == 1)), n_frames=2, width=30, height=20)
    np.testing.assert_array_equal(white.maps[0], labels == 1)


@pytest.mark.parametrize("mode", ["1", "LA", "RGB"])
def test_black_and_white_masks_of_any_mode(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 255
    for t in range(2):
        Image.fromarray(mask).convert(mode).save(tmp_path / f"{t}.png")
    found = import_masks(tmp_path, n_frames=2, width=30, height=20)
    np.testing.assert_array_equal(found.maps[0], mask > 0)
    assert len(found.names) == 2


def test_smoothed_edges_are_no_objects(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    cv2.circle(mask, (40, 30), 15, 255, -1)
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), cv2.GaussianBlur(mask, (0, 0), 1))
    with pytest.raises(InputError, match="without smoothed edges"):
        import_masks(tmp_path, n_frames=2, width=80, height=60)


@pytest.mark.parametrize(("size", "is_whole"), [((24, 12), False), ((24, 16), True), ((48, 24), False), ((48, 32), True)])
def test_masks_of_a_picture_with_black_bars_are_cut_as_the_frames_are(tmp_path: Path, size, is_whole: bool) -> None:
    """The frames, of 24x12 px, have lost an eighth of the filmed picture at the top and at the bottom."""
    width, height = size
    factor, bar = width // 24, 2 if is_whole else 0
    truth = np.zeros((12, 24), np.uint8)
    truth[2:6, 3:9] = 1
    labels = np.zeros((height // factor, 24), np.uint8)
    labels[bar : bar + 12] = truth
    stack = tmp_path / "masks.npy"
    np.save(stack, np.repeat(labels.repeat(factor, 0).repeat(factor, 1)[None], 2, 0))
    found = import_masks(stack, n_frames=2, width=24, height=12, shown=(0.0, 0.125, 1.0, 0.875))
    np.testing.assert_array_equal(found.maps, np.stack([truth, truth]))
    assert any("black bars" in note for note in found.notes) == is_whole
