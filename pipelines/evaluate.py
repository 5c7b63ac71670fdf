"""The `evaluate` stage: how good the scenes are, measured against ground truth (DESIGN section 8).

Tables as lists of rows, ready for JSON: novel views (best of N samples, and the baselines on the same views), the learned
set of scales against the true one, per-object poses, coverage and meshes, and on request the mean over many true scenes.
Writes `eval.json`, where figures that are not defined are null, and plots of it.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.artifacts import Labels, Samples, Sfm, Video, write_json
from pipelines.ground_truth import GroundTruth
from pipelines.meshing.surfaces import MeshConfig
from pipelines.scenery import EvaluatedScene
from pipelines.stage import StageConfig, StageContext


class EvaluateConfig(StageConfig):
    """What is compared, and how thoroughly."""

    truth: Path | None = None
    """Folder with the ground truth: our own layout, or another one that is known (docs/formats.md)."""
    n_views: int = Field(default=8, ge=1)
    """Held-out views, evenly spread over those there are."""
    width_px: int | None = Field(default=None, ge=16)
    """Width of the compared images; unset: as the truth is."""
    screening_width_px: int = Field(default=128, ge=16)
    """Width at which the candidates of best-of-N are compared; only the best is rendered at full width."""
    closest: int = Field(default=5, ge=1)
    """Samples nearest to the true scales that are always rendered."""
    lucky: int = Field(default=5, ge=0)
    """How many more are drawn at random ..."""
    lucky_of: int = Field(default=10, ge=0)
    """... from the next nearest ones."""
    explored: int = Field(default=48, ge=1)
    """Where the truth does not know the objects' motion, so many of the samples (they are ordered from diverse to dense) are
    rendered first, and those near the best of them take the place of those near the truth."""
    baselines: bool = True
    """Also render the single solutions that need no samples: ones, zone centre, contact, and depth prior where given."""
    depth_prior: Path | None = None
    """Folder with one depth map per filmed frame (%06d.npy, any unit) of a monocular depth network, for its baseline."""
    covisible: bool = False
    """Judge only pixels that enough filmed frames show (DyCheck's rule, by optical flow; slow)."""
    truths: int = Field(default=0, ge=0)
    """Multi-truth protocol: how many other scenes that film the same video are compared with (synthetic truth only)."""
    meshes: bool = True
    """Also compare meshes with the surface that the camera saw."""
    mesh_tolerance: float = Field(default=0.02, gt=0)
    """Distance within which mesh and truth agree, as a share of the object's size."""
    meshing: MeshConfig = MeshConfig()
    combinations: int = Field(default=16_000, ge=1)
    """Scale combinations on which learned and true valid set are compared."""
    agreement: float = Field(default=0.995, gt=0, le=1)
    """A combination is truly valid where at least this share of the rays that tell shows the right object."""
    max_rays: int = Field(default=400_000, ge=1)
    """Rays that the true agreement is computed on, at most. A share of 0.5 % of 50,000 rays is known to a tenth only, which
    moved the precision by up to 0.02."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of what is drawn: candidates, combinations, rays."""


def evaluate(
    config: EvaluateConfig,
    *,
    scene: EvaluatedScene,
    samples: Samples,
    sfm: Sfm,
    labels: Labels,
    truth: GroundTruth,
    context: StageContext,
    video: Video | None = None,
) -> dict[str, Any]:
    """Compare; write `eval.json` and plots. The content of `eval.json` is returned.

    video: the working frames, of which meshes are made; None: meshes are not compared.
    Raises InputError: the truth is of another video (its number of frames or its shape differs).
    """
    from pipelines.evaluation import plots
    from pipelines.evaluation.report import compare

    tables, comparison = compare(
        config, scene=scene, samples=samples, sfm=sfm, labels=labels, truth=truth, video=video, context=context
    )
    write_json(context.out / "eval.json", tables)
    plots.write(context.out, tables)
    if comparison:
        plots.write_pictures(context.out / "novel_views.png", comparison)
    return tables
