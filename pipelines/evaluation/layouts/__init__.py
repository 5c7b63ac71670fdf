"""Reading ground truth as others lay it out on disk: one module per layout, each giving a `GroundTruth`."""

from pathlib import Path

from pipelines.errors import InputError
from pipelines.ground_truth import GroundTruth


def load_truth(folder: Path) -> GroundTruth:
    """Recognise the layout of a folder and read it.

    Raises InputError: the folder is none of the known layouts, or is damaged.
    """
    from pipelines.evaluation.layouts import colmap, llff, nerfies, nerfstudio, processed

    if (folder / "gt.npz").is_file():
        return GroundTruth.load(folder)
    for layout in (processed, nerfies, llff, nerfstudio, colmap):
        if layout.recognises(folder):
            return layout.read(folder)
    raise InputError(
        f"{folder} holds no ground truth that osn can read: expected gt.npz, transforms_train.json, transforms.json, "
        "dataset.json with camera/, poses_bounds.npy, or a COLMAP model"
    )
