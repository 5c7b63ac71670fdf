import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from pipelines.caption import caption


@pytest.mark.parametrize("size_px", [4, 12, 40])
def test_letters_have_a_rim_and_nothing_but_a_rim(size_px):
    """A rim whose letters are wider than those on it shows a second text."""
    picture = np.full((60, 400, 3), 128, np.uint8)
    written = caption(picture, "sample 0001", (6, 5), size_px=size_px)
    assert (picture == 128).all()
    dark, white = written.mean(-1) < 40, written.mean(-1) > 150
    assert dark.any() and white.any()
    assert not (dark & ~binary_dilation(white, np.ones((3, 3)), iterations=1 + size_px // 10)).any()


def test_the_middle_of_a_number_is_where_it_is_asked():
    written = caption(np.full((80, 90, 3), 128, np.uint8), "8", (40, 30), size_px=30, anchor="mm")
    row, column = np.nonzero((written != 128).any(-1))
    assert row.mean() == pytest.approx(30, abs=2) and column.mean() == pytest.approx(40, abs=2)
