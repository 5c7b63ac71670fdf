"""What a command prints when it is done: read from the results on disk, shown as tables or as JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from osn_cli.console import Console
from osn_cli.session import Session
from pipelines.json_files import read_json


def show(console: Console, places: Mapping[str, Path], *stages: str, is_last: bool = True) -> dict[str, Any]:
    """Print the outcome of the named stages and where their results are. is_last: whether the JSON is complete with this."""
    told: dict[str, Any] = {}
    for stage in stages:
        described = DESCRIBE.get(stage, _files)(console, places[stage])
        told[stage] = {"folder": str(places[stage]), **described}
        console.say(f"{stage}: {places[stage]}")
    if is_last:
        console.result(told)
    return told


def show_exports(console: Console, folders: Sequence[Path], before: Mapping[str, Any] | None = None) -> None:
    """Print where the exported files are. before: what else the JSON holds."""
    for folder in folders:
        console.say(f"export: {folder}")
    console.result({**(before or {}), "export": [{"folder": str(folder), **_files(console, folder)} for folder in folders]})


def _files(console: Console, folder: Path) -> dict[str, Any]:
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {"files": files}


def _segment(console: Console, folder: Path) -> dict[str, Any]:
    names = read_json(folder / "segment.json")["names"]
    count = len(names) - 1
    console.say(f"{count} moving object{'' if count == 1 else 's'} found; check {folder / 'overlay.mp4'}")
    return {"names": names}


def _tracks(console: Console, folder: Path) -> dict[str, Any]:
    from pipelines.artifacts import Tracks

    found = Tracks.load(folder)
    rows = [{"object": int(k), "tracks": int((found.object_id == k).sum())} for k in sorted(set(found.object_id.tolist()))]
    console.table("Tracks", ["object", "tracks"], [list(row.values()) for row in rows])
    return {"objects": rows}


def _sfm(console: Console, folder: Path) -> dict[str, Any]:
    import numpy as np

    from pipelines.artifacts import Sfm

    sfm = Sfm.load(folder)
    rows = []
    for model in sfm.objects:
        row = {
            "object": model.object_id,
            "status": str(model.status),
            "frames": f"{int(model.registered.sum())}/{len(model.registered)}",
            "points": len(model.points),
            "error_px": round(float(np.median(model.point_error_px)), 3) if len(model.point_error_px) else None,
            "reason": model.reason,
        }
        rows.append(row)
    if rows:
        console.table("Objects", list(rows[0]), [list(row.values()) for row in rows])
    console.say(f"focal length {sfm.intrinsics[0, 0]:.1f} px ({sfm.focal_source})")
    return {"objects": rows, "focal_px": float(sfm.intrinsics[0, 0]), "focal_source": sfm.focal_source}


def _json_summary(name: str, title: str) -> Callable[[Console, Path], dict[str, Any]]:
    """A stage that wrote its own summary: scalars as one table, lists of rows as further ones."""

    def describe(console: Console, folder: Path) -> dict[str, Any]:
        summary = dict(read_json(folder / name))
        scalars = {key: value for key, value in summary.items() if not isinstance(value, list | dict)}
        console.table(title, ["", ""], [[key, value] for key, value in scalars.items()])
        for key, rows in summary.items():
            if isinstance(rows, list) and rows and isinstance(rows[0], dict):
                console.table(key, list(rows[0]), [[row.get(column) for column in rows[0]] for row in rows])
        return summary

    return describe


def _sample(console: Console, folder: Path) -> dict[str, Any]:
    told = dict(read_json(folder / "sample.json"))
    acceptance = told["acceptance"]
    console.say(
        f"{told['n']} scenes; {acceptance['share_of_zone']:.0%} of the draws from the zone are valid"
        f" ({acceptance['share_of_uniform_draws']:.2%} of plain uniform draws would be)"
    )
    rows = [
        [row["name"], *(f"{end:.3g}" for end in row["scale"]), _because(row["low_end"]), _because(row["high_end"])]
        for row in told["objects"]
    ]
    console.table("Scales", ["object", "from", "to", "lower bound", "upper bound"], rows)
    return told


def _because(end: Mapping[str, Any]) -> str:
    """What bounds an interval, in the words of the sampling stage."""
    return "; ".join(bound["text"] for bound in end["because"]) + (" (assumed)" if end["assumed"] else "")


DESCRIBE: dict[str, Callable[[Console, Path], dict[str, Any]]] = {
    "segment": _segment,
    "tracks": _tracks,
    "sfm": _sfm,
    "train": _json_summary("summary.json", "Training"),
    "sample": _sample,
    "evaluate": _json_summary("eval.json", "Evaluation"),
}


def show_status(session: Session, *, thorough: bool) -> None:
    """Table of all results in the workspace."""
    from pipelines.runner import CHAIN

    run, memory = session.prepare(CHAIN)
    rows = []
    for stage, verdict in run.plan((*CHAIN, "render", "export"), thorough=thorough):
        place = stage.place(run.config)
        manifest = run.workspace.manifest(place) or {}
        size = sum(entry[0] for entry in manifest.get("outputs", {}).values()) / 2**20
        rows.append(
            {
                "stage": stage.name,
                "state": "up to date" if verdict.hit else "out of date" if manifest else "-",
                "why": "" if verdict.hit else verdict.reason,
                "seconds": manifest.get("wall_s"),
                "MB": round(size, 1) if manifest else None,
            }
        )
    session.console.say(f"{session.folder}: {memory['source']} (preset {memory['preset']})")
    session.console.table("Results", list(rows[0]), [list(row.values()) for row in rows])
    session.console.result({"workspace": str(session.folder), **memory, "stages": rows})


def show_plan(session: Session) -> None:
    """What `osn run` would do."""
    from pipelines.runner import CHAIN

    run, _ = session.prepare(CHAIN)
    rows = [
        {"stage": stage.name, "run": not verdict.hit, "why": verdict.reason}
        for stage, verdict in run.plan((*CHAIN, "render", "export"))
    ]
    session.console.table("Plan", list(rows[0]), [list(row.values()) for row in rows])
    session.console.result({"stages": rows})
