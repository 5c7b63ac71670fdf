from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import InputError, ReconstructionError
from pipelines.evaluation import valid_set, views
from pipelines.evaluation.alignment import align
from pipelines.evaluation.multi_truth import multi_truth, rescaled_truth, true_combinations
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.synthetic.oracle import OracleScene


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A perfect scene in odd units, its alignment, and one held-out view."""
    synthetic = make_scene(SceneSpec(seed=3, n_movers=2, n_frames=4, width=64, height=48, candidates=1))
    truth = synthetic.write(tmp_path_factory.mktemp("truth"))
    scene = OracleScene(synthetic, np.array([2.0, 0.5, 3.0]))
    alignment = align(scene.object_ids, scene.cam_from_obj, scene.registered, scene.labels(), truth)
    return synthetic, truth, scene, alignment, views.true_views(truth, 1, None, scene.registered[0])


def test_other_truths_film_the_same_video(setting):
    synthetic, truth, *_ = setting
    found = true_combinations(truth, 3, np.random.default_rng(0))
    assert found.shape == (3, 3) and np.all(found[:, 0] == 0)
    oracle = OracleScene(synthetic, np.ones(3))
    for log_scale in found:
        film = oracle.render(t=1, scale=np.exp(log_scale))
        assert (film.label == synthetic.segm_train[1]).mean() > 0.98


def test_samples_at_the_truths_score_perfectly_and_one_solution_does_not(setting):
    _, truth, scene, alignment, true_views = setting
    combinations = true_combinations(truth, 3, np.random.default_rng(0))
    at_truths = alignment.true_log_scale + combinations
    solutions = {"many": at_truths, "one": at_truths[:1]}
    found = multi_truth(scene, alignment, solutions, (true_views, true_views), combinations, rescaled_truth(truth))
    many, one = found["many"], found["one"]
    assert many["psnr_db"]["mean"] > 60 and many["miou"]["mean"] == pytest.approx(1)
    assert many["log_distance"]["mean"] == pytest.approx(0, abs=1e-6)
    assert one["psnr_db"]["mean"] < many["psnr_db"]["mean"] and one["psnr_db"]["deviation"] > 0
    assert many["psnr_db"]["n"] == one["psnr_db"]["n"] == 3


def test_a_truth_that_cannot_be_rendered_again(setting, tmp_path):
    with pytest.raises(InputError, match="only be rendered for a synthetic scene"):
        rescaled_truth(replace(setting[1], folder=tmp_path))


def test_a_video_without_other_truths(setting, monkeypatch):
    monkeypatch.setattr(valid_set, "is_valid", lambda agreement, *_: np.zeros(len(agreement), bool))
    with pytest.raises(ReconstructionError, match="only 0 of"):
        true_combinations(setting[1], 3, np.random.default_rng(0))
