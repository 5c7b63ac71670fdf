"""The command `osn`: every subcommand, and the one place where errors become exit codes."""

import os
import sys
import traceback
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from osn_cli import annotate, demo, doctor, outcomes, report, view, weights
from osn_cli.console import Console
from osn_cli.options import gathered, preprocessing_options, session_options
from osn_cli.session import Session
from pipelines.errors import OsnError
from pipelines.interrupts import EXIT_INTERRUPTED, end_as_by_ctrl_c

EXIT_UNEXPECTED = 1
SPIN_COUNT = "20000"
"""As fast as the default on a machine that does nothing else, and not half as slow on a busy one (docs/BENCHMARKS.md)."""

app = typer.Typer(
    name="osn",
    help="From one ordinary video with moving rigid objects to as many 3D scenes as it allows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(weights.app, name="weights")

Choices = dict[str, dict[str, Any]]
Host = Annotated[str, typer.Option("--host", help="Address to listen at.")]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")]
Source = Annotated[Path | None, typer.Argument(metavar="VIDEO", help="Video file or folder of images. Later runs remember it.")]


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def preprocess(session: Session, choices: Choices, source: Source = None) -> None:
    """Find the objects of a video and how each of them moves (frames, flow, segment, tracks, sfm)."""
    from pipelines.runner import PREPROCESSING

    _, places = session.execute(PREPROCESSING, source=source, choices=choices)
    outcomes.show(session.console, places, "segment", "sfm")


@app.command("flow")
@gathered(choices=preprocessing_options, session=session_options)
def flow_command(session: Session, choices: Choices, source: Source = None) -> None:
    """Compute optical flow only."""
    _, places = session.execute(["flow"], source=source, choices=choices)
    outcomes.show(session.console, places, "flow")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def segment(session: Session, choices: Choices, source: Source = None) -> None:
    """Find the moving objects, or import masks; see overlay.mp4 in the workspace."""
    _, places = session.execute(["segment"], source=source, choices=choices)
    outcomes.show(session.console, places, "segment")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def tracks(session: Session, choices: Choices, source: Source = None) -> None:
    """Follow points on every object through the video."""
    _, places = session.execute(["tracks"], source=source, choices=choices)
    outcomes.show(session.console, places, "tracks")


@app.command()
@gathered(choices=preprocessing_options, session=session_options)
def sfm(session: Session, choices: Choices, source: Source = None) -> None:
    """Reconstruct every object's points and motion, each in its own unit."""
    _, places = session.execute(["sfm"], source=source, choices=choices)
    outcomes.show(session.console, places, "sfm")


@app.command()
@gathered(session=session_options)
def train(
    session: Session,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random in training.")] = None,
) -> None:
    """Learn the objects' fields and which scales go together. Interrupted runs go on where they were."""
    _, places = session.execute(["train"], choices={"train": {"seed": seed}})
    outcomes.show(session.console, places, "train")


@app.command()
@gathered(session=session_options)
def sample(
    session: Session,
    n: Annotated[int | None, typer.Option("--n", help="Number of scenes.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampling.")] = None,
    measure: Annotated[
        str | None, typer.Option("--measure", help="Uniform in scale (linear, as by default) or in log scale (log).")
    ] = None,
) -> None:
    """Draw scale combinations that agree with the video: each is one 3D scene."""
    _, places = session.execute(["sample"], choices={"sample": {"n": n, "seed": seed, "measure": measure}})
    outcomes.show(session.console, places, "sample")


@app.command()
@gathered(session=session_options)
def render(
    session: Session,
    path: Annotated[str | None, typer.Option("--path", help="filmed, orbit, sway, freeze, or a JSON file.")] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", help="best, 7, 0,3,9, diverse:4, or scales:0.8,1.3 (one per object).")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", help="Width of the pictures, px (as the video, 256 at most).")] = None,
) -> None:
    """Render sampled scenes along a camera path."""
    _, places = session.execute(["render"], choices={"render": {"path": path, "samples": samples, "width_px": width}})
    outcomes.show(session.console, places, "render")


@app.command()
@gathered(session=session_options)
def export(
    session: Session,
    mesh: Annotated[bool, typer.Option("--mesh", help="A mesh per object.")] = False,
    glb: Annotated[bool, typer.Option("--glb", help="An animated GLB per sample (Blender, three.js).")] = False,
    usd: Annotated[bool, typer.Option("--usd", help="One USD stage, a variant per sample.")] = False,
    colmap: Annotated[bool, typer.Option("--colmap", help="COLMAP models.")] = False,
    nerfstudio: Annotated[bool, typer.Option("--nerfstudio", help="transforms.json with frames and masks.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Depth of the filmed views, 16-bit PNG and npy.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Label maps.")] = False,
    points: Annotated[bool, typer.Option("--points", help="Sparse points as PLY.")] = False,
    sample: Annotated[str | None, typer.Option("--sample", help="best, 7, 0,3,9, diverse:8, or scales:0.8,1.3.")] = None,
    mesh_format: Annotated[str | None, typer.Option("--format", help="Mesh files: ply, obj or glb.")] = None,
    max_faces: Annotated[
        int | None, typer.Option("--max-faces", help="Faces per mesh at most (20,000; background 150,000).")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help='A known size: "object 2 height = 0.3 m".')] = None,
) -> None:
    """Write meshes, animations, cameras, depth for other programs. Without a format: --mesh."""
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
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of ground truth (gt.npz, or a known layout).")] = None,
    truths: Annotated[
        int | None, typer.Option("--truths", help="Also compare with this many other scenes that film the same (synthetic).")
    ] = None,
    views: Annotated[int | None, typer.Option("--views", help="Held-out views to compare.")] = None,
    meshes: Annotated[bool | None, typer.Option("--meshes/--no-meshes", help="Compare meshes, too.")] = None,
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
    """Everything: preprocess, train, sample, render, export meshes and an animated GLB."""
    from pipelines.runner import CHAIN

    _, places = session.execute((*CHAIN, "render"), source=source, choices={**choices, "sample": {"n": n}})
    told = outcomes.show(session.console, places, "segment", "sfm", "train", "sample", "render", is_last=False)
    # What was to be made again is made again by now, but for the exports.
    session = session if session.from_stage == "export" else replace(session, from_stage=None)
    outcomes.show_exports(session.console, session.export_each(["mesh", "glb"], {}), told)


@app.command("report")
@gathered(session=session_options)
def report_command(session: Session) -> None:
    """Write report.html: everything that is in the workspace on one page."""
    report.run(session)


@app.command("view")
@gathered(session=session_options)
def view_command(session: Session, host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Look at the scenes in the browser, with time and scales to play with."""
    view.run(session, host=host, port=port)


@app.command("annotate")
@gathered(choices=preprocessing_options, session=session_options)
def annotate_command(
    session: Session,
    choices: Choices,
    source: Source = None,
    save_to: Annotated[Path | None, typer.Option("--save-to", help="Prompts file (prompts.json in the workspace).")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Weights that answer clicks, or none.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8090,
) -> None:
    """Mark or correct the objects on a page in the browser; saves the prompts that osn segment reads."""
    annotate.run(session, source=source, choices=choices, prompts=save_to, model=model, host=host, port=port)


@app.command()
@gathered(session=session_options)
def status(
    session: Session,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the content of every stored file.")] = False,
) -> None:
    """What is in the workspace, and what is out of date."""
    outcomes.show_status(session, thorough=verify)


@app.command()
@gathered(session=session_options)
def plan(session: Session) -> None:
    """What osn run would do now, and why."""
    outcomes.show_plan(session)


@app.command("doctor")
@gathered(session=session_options)
def doctor_command(session: Session) -> None:
    """Check this installation."""
    doctor.examine(session.console)


@app.command("demo")
@gathered(session=session_options)
def demo_command(
    session: Session,
    folder: Annotated[Path, typer.Argument(help="Folder of the demo.")] = Path("osn-demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another scene.")] = 1,
) -> None:
    """Make a small video with known truth and run the whole chain on it."""
    demo.run(session, folder, seed)


def main() -> None:
    """The command that was typed. Every failure is one line on stderr and a fixed exit code (docs/user-guide.md)."""
    # Threads of torch that wait by spinning take the time of those that work when other programs run: let them sleep soon.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    end_as_by_ctrl_c()
    for stream in (sys.stdout, sys.stderr):
        # A pipe on Windows may not know every letter of an object's name.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    console = Console()
    try:
        code = app(standalone_mode=False)
    except (OsnError, typer.TyperException) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message:
            console.error(message)
        code = error.exit_code
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        console.error(f"unexpected {type(error).__name__}: {error}; please report it with the output of --debug")
        code = EXIT_UNEXPECTED
    if code == EXIT_INTERRUPTED:
        console.error("interrupted; nothing is lost: the same command goes on where it was")
    sys.exit(code if isinstance(code, int) else 0)
