"""The command `osn`: every subcommand, and the one place where errors become exit codes."""

import os
import sys
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from osn_cli import annotate, demo, doctor, listing, outcomes, report, view, weights
from osn_cli.console import Console
from osn_cli.options import (
    MeasureChoice,
    MeshFormatChoice,
    ModelChoice,
    PresetChoice,
    StageChoice,
    console_options,
    gathered,
    preprocessing_options,
    reading_options,
    rerun_options,
    session_options,
)
from osn_cli.session import Session
from pipelines.errors import OsnError
from pipelines.interrupts import EXIT_INTERRUPTED, end_as_by_ctrl_c

EXIT_UNEXPECTED = 1
SPIN_COUNT = "20000"
"""As fast as the default on a machine that does nothing else, and not half as slow on a busy one (docs/BENCHMARKS.md)."""

app = typer.Typer(
    name="osn",
    help="Reconstruct many 3D scenes from one video of several moving rigid objects.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(weights.app, name="weights")

Choices = dict[str, dict[str, Any]]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]
Source = Annotated[
    Path | None, typer.Argument(metavar="VIDEO", help="Video file or folder of images. The workspace remembers it.")
]


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=doctor.print_version, help="Print versions and exit.")
    ] = False,
) -> None:
    """Options of `osn` itself; each acts by its callback."""


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def preprocess(session: Session, choices: Choices, source: Source = None) -> None:
    """Find the objects in a video and how each of them moves (frames, flow, segment, tracks, sfm)."""
    from pipelines.runner import PREPROCESSING

    _, places = session.execute(PREPROCESSING, source=source, choices=choices)
    outcomes.show(session.console, places, "segment", "sfm")


@app.command("flow")
@gathered(choices=preprocessing_options, session=session_options)
def flow_command(session: Session, choices: Choices, source: Source = None) -> None:
    """Preprocess up to the optical flow."""
    _, places = session.execute(["flow"], source=source, choices=choices)
    outcomes.show(session.console, places, "flow")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def segment(session: Session, choices: Choices, source: Source = None) -> None:
    """Preprocess up to the masks of the objects, found or imported. Check segment/overlay.mp4 afterwards."""
    _, places = session.execute(["segment"], source=source, choices=choices)
    outcomes.show(session.console, places, "segment")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def tracks(session: Session, choices: Choices, source: Source = None) -> None:
    """Preprocess up to the point tracks on every object."""
    _, places = session.execute(["tracks"], source=source, choices=choices)
    outcomes.show(session.console, places, "tracks")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def sfm(session: Session, choices: Choices, source: Source = None) -> None:
    """Preprocess up to the points and motion of every object, each in its own unit."""
    _, places = session.execute(["sfm"], source=source, choices=choices)
    outcomes.show(session.console, places, "sfm")


@app.command()
@gathered(session=session_options)
def train(
    session: Session,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed for everything random in training.")] = None,
) -> None:
    """Learn the objects, and which combinations of scales fit the video. An interrupted run resumes."""
    _, places = session.execute(["train"], choices={"train": {"seed": seed}})
    outcomes.show(session.console, places, "train")


@app.command()
@gathered(session=session_options)
def sample(
    session: Session,
    n: Annotated[int | None, typer.Option("--n", help="Number of scenes.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed for sampling.")] = None,
    measure: Annotated[
        MeasureChoice | None, typer.Option("--measure", help="Sample uniformly in scale (linear, the default) or in log scale.")
    ] = None,
) -> None:
    """Sample scale combinations that are consistent with the video. Each is one 3D scene."""
    _, places = session.execute(["sample"], choices={"sample": {"n": n, "seed": seed, "measure": measure}})
    outcomes.show(session.console, places, "sample")


@app.command()
@gathered(session=session_options)
def render(
    session: Session,
    path: Annotated[
        str | None,
        typer.Option("--path", metavar="filmed|orbit|sway|freeze|FILE", help="Camera path: a name, or a JSON file."),
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", help="best, 7, 0,3,9, diverse:4, or scales:0.8,1.3 (one per object).")
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", help="Output width in px (default: the video's width, at most 256).")
    ] = None,
) -> None:
    """Render sampled scenes along a camera path."""
    _, places = session.execute(["render"], choices={"render": {"path": path, "samples": samples, "width_px": width}})
    outcomes.show(session.console, places, "render")


@app.command()
@gathered(session=session_options)
def export(
    session: Session,
    mesh: Annotated[bool, typer.Option("--mesh", help="A mesh per object.")] = False,
    glb: Annotated[bool, typer.Option("--glb", help="An animated GLB per sample (for Blender, three.js).")] = False,
    usd: Annotated[bool, typer.Option("--usd", help="One USD stage with a variant per sample.")] = False,
    colmap: Annotated[bool, typer.Option("--colmap", help="COLMAP models.")] = False,
    nerfstudio: Annotated[bool, typer.Option("--nerfstudio", help="transforms.json with frames and masks.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Depth of the filmed views as 16-bit PNG and npy.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Label maps as palette PNG.")] = False,
    points: Annotated[bool, typer.Option("--points", help="Sparse points as PLY.")] = False,
    sample: Annotated[
        str | None, typer.Option("--sample", help="best, 7, 0,3,9, diverse:8, or scales:0.8,1.3 (one per object).")
    ] = None,
    mesh_format: Annotated[MeshFormatChoice | None, typer.Option("--format", help="Format of the mesh files.")] = None,
    max_faces: Annotated[
        int | None,
        typer.Option("--max-faces", help="Maximum number of faces per mesh (default: 20,000; background: 150,000)."),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help='A known size, such as "object 2 height = 0.3 m".')] = None,
) -> None:
    """Export meshes, animations, cameras or depth for other programs. The default is --mesh."""
    chosen = {"mesh": mesh, "glb": glb, "usd": usd, "colmap": colmap}
    chosen |= {"nerfstudio": nerfstudio, "depth": depth, "masks": masks, "points": points}
    formats = [name for name, wanted in chosen.items() if wanted] or ["mesh"]
    details = {
        "sample": sample,
        "mesh_format": mesh_format,
        "metric": metric,
        "meshing": None if max_faces is None else {"max_faces": max_faces, "background_max_faces": max_faces},
    }
    outcomes.show_exports(session.console, session.export_each(formats, details))


@app.command("eval")
@gathered(session=session_options)
def evaluate(
    session: Session,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Folder with the ground truth (gt.npz or another known layout).")
    ] = None,
    truths: Annotated[
        int | None,
        typer.Option("--truths", help="Also compare with this many other scenes that give the same video (synthetic only)."),
    ] = None,
    views: Annotated[int | None, typer.Option("--views", help="Number of held-out views to compare.")] = None,
    meshes: Annotated[bool | None, typer.Option("--meshes/--no-meshes", help="Also compare meshes.")] = None,
) -> None:
    """Compare the scenes with ground truth."""
    choices = {"truth": truth, "truths": truths, "n_views": views, "meshes": meshes}
    _, places = session.execute(["evaluate"], choices={"evaluate": choices})
    outcomes.show(session.console, places, "evaluate")


@app.command("run")
@gathered(choices=preprocessing_options, session=session_options)
def run_command(
    session: Session,
    choices: Choices,
    source: Source = None,
    n: Annotated[int | None, typer.Option("--n", help="Number of scenes.")] = None,
) -> None:
    """Run everything: preprocess, train, sample, render, and export meshes and an animated GLB."""
    from pipelines.runner import CHAIN

    _, places = session.execute((*CHAIN, "render"), source=source, choices={**choices, "sample": {"n": n}})
    told = outcomes.show(session.console, places, "segment", "sfm", "train", "sample", "render", is_last=False)
    # --from has been honoured by now, except for the exports.
    session = session if session.from_stage == "export" else replace(session, from_stage=None)
    outcomes.show_exports(session.console, session.export_each(["mesh", "glb"], {}), told)


@app.command("report")
@gathered(session=reading_options)
def report_command(session: Session) -> None:
    """Write report.html: everything in the workspace on a single page."""
    report.run(session)


@app.command("view")
@gathered(session=session_options)
def view_command(session: Session, host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """View the scenes in the browser, over time and at any scales."""
    view.run(session, host=host, port=port)


@app.command("annotate")
@gathered(choices=preprocessing_options, session=session_options)
def annotate_command(
    session: Session,
    choices: Choices,
    source: Source = None,
    save_to: Annotated[
        Path | None, typer.Option("--save-to", help="Prompts file (default: prompts.json in the workspace).")
    ] = None,
    model: Annotated[ModelChoice | None, typer.Option("--model", help="Weights that turn clicks into masks.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8090,
) -> None:
    """Mark or correct the objects in the browser, and save the prompts file that osn segment reads."""
    annotate.run(session, source=source, choices=choices, prompts=save_to, model=model, host=host, port=port)


@app.command()
@gathered(session=reading_options)
def status(
    session: Session,
    verify: Annotated[bool, typer.Option("--verify", help="Check the content of every stored file.")] = False,
) -> None:
    """Show what is in the workspace and what is out of date."""
    outcomes.show_status(session, thorough=verify)


@app.command()
@gathered(session=session_options)
def plan(session: Session) -> None:
    """Show what osn run would do now, and why."""
    outcomes.show_plan(session)


@app.command("options")
@gathered(console=console_options)
def options_command(
    console: Console,
    stage: Annotated[StageChoice | None, typer.Argument(metavar="STAGE", help="List the options of this stage only.")] = None,
    preset: Annotated[PresetChoice, typer.Option("--preset", help="Show the defaults of this preset.")] = "default",
) -> None:
    """List the options that --set and --config accept: values, default, description."""
    listing.show_options(console, stage, preset)


@app.command("doctor")
@gathered(console=console_options)
def doctor_command(console: Console) -> None:
    """Check this installation."""
    doctor.examine(console)


@app.command("demo")
@gathered(session=rerun_options)
def demo_command(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the demo.")] = Path("osn-demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the toy scene.")] = 1,
) -> None:
    """Make a small video with known ground truth and run the whole chain on it."""
    demo.run(session, folder, seed)


def main() -> None:
    """The command that was typed. Every failure is one line on stderr and a fixed exit code (docs/user-guide.md)."""
    # Threads of torch that spin while they wait take time from working ones when other programs run: let them sleep soon.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    end_as_by_ctrl_c()
    for stream in (sys.stdout, sys.stderr):
        # A pipe on Windows may be unable to encode every letter of an object's name.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    console = Console()
    try:
        code = app(standalone_mode=False, obj=console)
    except (OsnError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message:
            # Some releases of Typer let the words of their validator through.
            console.error(message.replace(": Value error, ", ": "))
        code = error.exit_code
    except Exception as error:
        console.error(f"unexpected {type(error).__name__}: {error}; please report it with the output of --debug")
        code = EXIT_UNEXPECTED
    if code == EXIT_INTERRUPTED:
        console.error("interrupted: no finished work was lost; run the same command again to resume")
    sys.exit(code if isinstance(code, int) else 0)
