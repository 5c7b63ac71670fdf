import numpy as np
import pytest

from osn_cli import annotate, view
from pipelines.artifacts import Labels
from pipelines.errors import MissingDependencyError


@pytest.fixture
def corrected_folder(tmp_path):
    """A segmentation of two objects, of which a person left one."""
    Labels(np.eye(3, dtype=np.uint8)[None] * 1, ("background", "a")).save(tmp_path)
    Labels(np.eye(3, dtype=np.uint8)[None] * 2, ("background", "a", "b")).save(tmp_path / "automatic")
    return tmp_path


def test_corrections_are_not_applied_twice(corrected_folder):
    assert annotate.automatic_labels(corrected_folder, corrected=True).names == ("background", "a", "b")
    assert annotate.automatic_labels(corrected_folder, corrected=False).names == ("background", "a")


def test_corrected_labels_are_not_taken_for_automatic_ones(tmp_path):
    Labels(np.zeros((1, 3, 3), np.uint8), ("background",)).save(tmp_path)
    assert annotate.automatic_labels(tmp_path, corrected=True) is None


def test_the_model_can_be_named_or_refused():
    assert annotate.chosen_model("none") is None
    assert annotate.chosen_model("sam-vit-l") == "sam-vit-l"


def test_the_viewer_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert annotate.chosen_model(None) is None
    with pytest.raises(MissingDependencyError, match=r"osn-cli\[view\]"):
        view.require_viser()
