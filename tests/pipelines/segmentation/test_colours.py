import numpy as np

from pipelines.segmentation.colours import ColourModels

ROAD, PAINT, SIGN = (120, 120, 120), (200, 30, 30), (30, 30, 200)


def _street() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A painted mover with a halo of road, and which of its pixels motion tells from the background."""
    image = np.full((40, 60, 3), ROAD, np.uint8)
    image[10:30, 20:40] = PAINT
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:50] = 1
    decided = np.zeros((2, 40, 60))
    decided[1, 10:30, 20:40] = 1
    return image, labels, decided


def test_what_looks_like_the_surroundings_is_not_the_object() -> None:
    image, labels, decided = _street()
    models = ColourModels(2, ring_px=5)
    models.add(image, labels, decided)
    image[0, 0] = SIGN
    penalty = models.penalty(image)
    assert penalty[1, 20, 45] > 2
    assert penalty[1, 20, 30] == 0
    assert penalty[1, 0, 0] == 0, "a colour that was seen nowhere says nothing"
    assert (penalty[0] == 0).all()


def test_an_object_of_unknown_colours_pays_nothing() -> None:
    image, labels, decided = _street()
    models = ColourModels(2, ring_px=5)
    models.add(image, labels, 0 * decided)
    assert (models.penalty(image) == 0).all()
