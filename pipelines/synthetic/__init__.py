"""Scenes with exact ground truth, made on the spot: for the demo, the tests and the benchmarks."""

from pipelines.synthetic.scene import SyntheticScene, World, load_world, make_scene, make_world
from pipelines.synthetic.spec import SceneSpec, Surroundings, Variant, demo_spec

__all__ = [
    "SceneSpec",
    "Surroundings",
    "SyntheticScene",
    "Variant",
    "World",
    "demo_spec",
    "load_world",
    "make_scene",
    "make_world",
]
