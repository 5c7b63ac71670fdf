"""The report's sections, apart from the scales: each takes the findings and returns markup."""

import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artifacts import SfmStatus
from pipelines.errors import WorkspaceError
from pipelines.reporting import charts
from pipelines.reporting.findings import Findings
from pipelines.reporting.markup import Html, data_uri, join, table, tag
from pipelines.reporting.pictures import jpeg_uri, object_picture
from pipelines.reporting.scales import swatch_of
from pipelines.reporting.scenes import SamplePictures

LOSSES = ("total", "colour", "depth", "segmentation")


def absent(command: str) -> Html:
    return tag("p", f"Not made yet: run {command}.", class_="absent")


def video_section(found: Findings, max_bytes: int) -> Html:
    """The video with the masks drawn over it."""
    if found.overlay is None or found.labels is None:
        return absent("osn segment")
    source = data_uri("video/mp4", fitting_video(found.overlay, max_bytes))
    player = tag("video", src=source, controls="", loop="", muted="", playsinline="", aria_label="Video with masks")
    movers = found.labels.n_objects - 1
    said = f"{movers} moving object{'' if movers == 1 else 's'} found. Grey: unknown, left out of everything."
    return join([player, tag("p", said, class_="quiet")])


def fitting_video(path: Path, max_bytes: int) -> bytes:
    """An mp4's bytes; a larger one is encoded again, smaller and coarser.

    Raises WorkspaceError: the video cannot be read.
    """
    content = path.read_bytes()
    if len(content) <= max_bytes:
        return content
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.mp4"
        scale = "scale='min(640,iw)':-2"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-vf", scale, "-crf", "32", str(small)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkspaceError(f"{path} cannot be read ({done.stderr.strip()}): run osn segment --force")
        return small.read_bytes()


def objects_section(found: Findings) -> Html:
    """A row per object: picture, outcome, frames, points, errors."""
    sfm, labels, video = found.sfm, found.labels, found.video
    if sfm is None or labels is None or video is None:
        return absent("osn sfm")
    rows = []
    for model, name in zip(sfm.objects, labels.names, strict=True):
        picture = jpeg_uri(object_picture(video, labels, model.object_id, 120))
        kind = {SfmStatus.OK: "ok", SfmStatus.ASSUMED_DEPTH: "doubt", SfmStatus.DOUBTFUL: "doubt", SfmStatus.PIECE: "ok"}.get(
            model.status, "failed"
        )
        outcome = [tag("span", str(model.status), class_=kind)]
        if model.reason:
            outcome.append(tag("div", model.reason, class_="quiet"))
        chip = tag("span", class_="chip", style=f"background:{swatch_of(model.object_id)}")
        frames = join(
            [charts.presence_strip(model.registered.tolist()), f"{int(model.registered.sum())}/{len(model.registered)}"]
        )
        error = f"{np.median(model.point_error_px):.2f}" if len(model.points) else ""
        figures = [f"{len(model.points):,}", error]
        rows.append([tag("img", src=picture, width=120, alt=name), join([chip, name]), join(outcome), frames, *figures])
    focal = f"Focal length {sfm.intrinsics[0, 0]:.1f} px ({sfm.focal_source}), frames of {sfm.width} × {sfm.height} px."
    head = ["", "object", "outcome", "frames registered", "points", "median error (px)"]
    return join([table(head, rows, numeric=(4, 5)), tag("p", focal, class_="quiet"), _quality(found)])


def _quality(found: Findings) -> Html:
    """Every figure that the reconstruction noted, for those who want to know more."""
    assert found.sfm is not None and found.labels is not None
    keys = sorted({key for model in found.sfm.objects for key in model.quality})
    if not keys:
        return Html("")
    rows = [[key.replace("_", " "), *(format_figure(model.quality.get(key)) for model in found.sfm.objects)] for key in keys]
    head = ["", *found.labels.names]
    numeric = tuple(range(1, len(head)))
    return tag("details", tag("summary", "All figures of the reconstruction"), table(head, rows, numeric=numeric))


def format_figure(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return str(value)


def training_section(found: Findings) -> Html:
    """Loss curves, with the rounds in which scales were learned, and where the time went."""
    rows = [row for row in found.metrics if "phase" in row]
    if not rows:
        return absent("osn train")
    steps = [row["step"] for row in rows]
    rounds = [row["step"] for row in found.metrics if "round" in row]
    names = [name for name in LOSSES if name in rows[0]] + sorted(
        name for name in rows[0] if name not in (*LOSSES, "step", "phase")
    )
    drawn = [charts.curve_chart(name, steps, [row.get(name, math.nan) for row in rows], rounds) for name in names]
    said = "Losses over the steps (logarithmic). Dotted lines: the scales were learned anew." if rounds else ""
    return join([tag("p", said, class_="quiet"), tag("div", *drawn, class_="charts"), _summary(found, "train")])


def _summary(found: Findings, stage: str) -> Html:
    """Scalars that a stage wrote about itself."""
    scalars = {k: v for k, v in found.summaries.get(stage, {}).items() if not isinstance(v, list | dict)}
    if not scalars:
        return Html("")
    rows = [[key.replace("_", " "), format_figure(value)] for key, value in scalars.items()]
    return tag("details", tag("summary", f"Figures of osn {stage}"), table(["", ""], rows))


def samples_section(found: Findings, pictures: SamplePictures | None) -> Html:
    """The same frame of several sampled scenes, seen from beside the filming camera."""
    samples, scene = found.samples, found.scene
    if samples is None or scene is None or pictures is None:
        return absent("osn sample")
    filmed = tag("img", src=jpeg_uri(pictures.filmed), alt="as filmed")
    figures = [tag("figure", filmed, tag("figcaption", tag("strong", "As filmed"), ": the same for all of them."))]
    for index, picture in zip(pictures.index, pictures.novel, strict=True):
        scales = ", ".join(f"{name} {s:.3g}" for name, s in zip(scene.names[1:], samples.scale[index, 1:], strict=True))
        caption = tag("figcaption", tag("strong", f"Sample {index}"), f", score {samples.score[index]:.2f}", tag("br"), scales)
        figures.append(tag("figure", tag("img", src=jpeg_uri(picture), alt=f"sample {index}"), caption))
    said = (
        f"Frame {pictures.frame} of {len(samples.score):,} sampled scenes' first {len(pictures.index)} (a diverse subset), "
        "seen from beside the camera that filmed. Hatched: no frame ever saw that place."
    )
    return join([tag("p", said), tag("div", *figures, class_="grid"), _summary(found, "sample")])


def evaluation_section(found: Findings) -> Html:
    """Figures against ground truth, where there is one: scalars, then tables of rows."""
    summary = found.summaries.get("evaluate")
    if summary is None:
        return Html("")
    parts: list[Html] = [_summary(found, "evaluate")]
    for key, rows in summary.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            head = [str(column).replace("_", " ") for column in rows[0]]
            cells = [[format_figure(row.get(column)) for column in rows[0]] for row in rows]
            parts += [tag("h3", key.replace("_", " ")), table(head, cells, numeric=tuple(range(1, len(head))))]
    return join(parts)


def stages_section(found: Findings) -> Html:
    """What was made when, and with which settings."""
    rows = []
    for record in found.stages:
        state = "out of date: " + record.outdated if record.outdated else "up to date" if record.made else "not made yet"
        kind = "doubt" if record.outdated else None if record.made else "absent"
        seconds = "" if record.wall_s is None else f"{record.wall_s:.1f}"
        size = "" if record.size_mb is None else f"{record.size_mb:.1f}"
        rows.append([record.name, tag("span", state, class_=kind), seconds, size])
    config = tag("details", tag("summary", "Every option in force (config.toml)"), tag("pre", found.config_text))
    return join([table(["stage", "state", "seconds", "MB"], rows, numeric=(2, 3)), config if found.config_text else Html("")])


def versions() -> str:
    """What this was made with."""
    import platform
    from importlib import metadata

    found = [f"Python {platform.python_version()}"]
    for package in ("osn-cli", "torch", "numpy", "pycolmap", "opencv-python"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found) + f", {platform.system()} {platform.machine()}"
