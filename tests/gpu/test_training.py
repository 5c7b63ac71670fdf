"""Training on CUDA: finite, and the scene that it makes looks the same on the CPU."""

import numpy as np
import torch

from benchmarks.known import true_workspace
from pipelines.artifacts import Labels, Sfm, Video
from pipelines.scene.scene import Scene
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.train import TrainConfig, train

DEVICE = "cuda"


def test_a_scene_is_the_same_on_both_devices(tmp_path):
    made = make_scene(SceneSpec(seed=1, n_movers=2, n_frames=8, width=96, height=72, candidates=1))
    true_workspace(made.write(tmp_path), made.names, tmp_path)
    context = StageContext(tmp_path / "train", ItemCache(tmp_path / "items"), device=DEVICE)
    context.out.mkdir()
    config = TrainConfig.preset("fast", steps=60, rays_per_step=512, max_side_px=96, rounds=1, preview_every_steps=0)
    inputs = (Video.load(tmp_path / "frames"), Labels.load(tmp_path / "segment"), Sfm.load(tmp_path / "sfm"))
    video, labels, sfm = inputs
    trained = train(config, video=video, labels=labels, sfm=sfm, context=context)
    assert trained.zone is not None and not trained.zone.is_empty
    assert all(torch.isfinite(parameter).all() for parameter in trained.model.parameters())
    trained.save(context.out)
    views = []
    for device in (DEVICE, "cpu"):
        scene = Scene.load(context.out, device=device)
        view = scene.render(
            t=3,
            scale=np.exp(trained.zone.sample(1, np.random.default_rng(0))[0]),
            view_from_world=scene.cam_from_obj[0, 3],
            intrinsics=scene.intrinsics,
            width=96,
            height=72,
        )
        assert np.isfinite(view.rgb).all() and np.isfinite(view.depth).all()
        views.append(view)
    assert np.abs(views[0].rgb - views[1].rgb).mean() < 2e-3
    assert (views[0].label == views[1].label).mean() > 0.995
