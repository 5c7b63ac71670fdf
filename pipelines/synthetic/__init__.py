"""Scenes with exact ground truth, made on the spot: for the demo, the tests and the benchmarks."""

from pipelines.synthetic.scene import SyntheticScene, make_scene
from pipelines.synthetic.spec import SceneSpec, Surroundings, Variant, demo_spec

__all__ = ["SceneSpec", "Surroundings", "SyntheticScene", "Variant", "demo_spec", "make_scene"]
