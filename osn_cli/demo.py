"""`osn demo`: make a small video with known truth, and run the whole chain on it as a user would."""

import sys
from dataclasses import replace
from pathlib import Path

from osn_cli import outcomes
from osn_cli.session import Session
from pipelines.errors import UsageError

DEMO_STAGES = ("frames", "flow", "segment", "tracks", "sfm", "train", "sample", "render", "export")


def run(session: Session, folder: Path, seed: int) -> None:
    """Write the demo's video to `folder/scene`, its results to `folder/osn-work`, and say where to look."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a folder for the demo")
    scene = folder / "scene"
    video = scene / "video.mp4"
    if not video.exists():
        from pipelines.synthetic import demo_spec, make_scene

        session.console.say(f"Rendering a toy room with moving objects to {scene} ...")
        make_scene(demo_spec(seed)).write(scene)
    session = replace(session, folder=folder / "osn-work")
    choices = {
        "sample": {"n": 1000},
        "render": {"samples": "diverse:2", "width_px": 160, "frame_step": 3},
    }
    _, places = session.execute(DEMO_STAGES, source=video, choices=choices)
    outcomes.show(session.console, places, "segment", "sfm", "train", "sample")
    session.console.say("")
    session.console.say("Take a look at:")
    session.console.say(f"  the video              {video}")
    session.console.say(f"  the objects found      {places['segment'] / 'overlay.mp4'}")
    session.console.say(f"  some of the scenes     {places['render']}")
    session.console.say(f"  a mesh per object      {places['export']}")
    session.console.say(f"  the sampled scales     {places['sample'] / 'samples.csv'}")
    session.console.say(f"Next: {sys.argv[0]} -h, or {sys.argv[0]} render --path orbit -w {session.folder}")
