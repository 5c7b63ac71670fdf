"""Every table of docs/BENCHMARKS.md, by one command.

    python -m benchmarks [NAME ...] [--data DIR] [--work DIR] [--out ROWS.jsonl] [--against EARLIER.jsonl] [--list]

Without names: everything that the data at hand allow. DIR of --data may hold `playroom/` (a scene with gt.npz) and `tracks/`
(Hopkins155). Each benchmark prints its own tables; the rows that it records go to --out (a run that is repeated starts the file
anew), and are compared with those of an earlier run: what became worse is listed last, and the exit code is then 1.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import KEPT_IN, Row, markdown, stored


@dataclass(frozen=True)
class Benchmark:
    """One script. `{playroom}`, `{tracks}` and `{work}` in its arguments become paths."""

    what: str
    module: str
    arguments: tuple[str, ...] = ()


PLAYROOM, CHAINS, CLIPS = "{playroom}", ("--work", "{work}/chains"), ("--work", "{work}/clips")
LONG = ("--clip", "32x384x288x4", "--clip", "100x854x480x4")
BENCHMARKS = {
    "chain": Benchmark("the whole chain, playroom", "quality", (PLAYROOM, *CHAINS)),
    "synthetic": Benchmark(
        "the whole chain and 20 true scenes, synthetic", "quality", ("--synthetic", "1", "2", "3", "--truths", "20", *CHAINS)
    ),
    "oracle": Benchmark("what many scenes buy where the geometry is perfect", "oracle"),
    "automatic": Benchmark("preprocessing without masks, twelve synthetic scenes", "automatic"),
    "sfm": Benchmark("structure from motion per object", "sfm", (PLAYROOM,)),
    "hopkins": Benchmark("motion segmentation of tracks", "hopkins", ("{tracks}",)),
    "flow": Benchmark("optical flow", "flow", (PLAYROOM,)),
    "valid-set": Benchmark("valid scale combinations, true geometry", "valid_set", (PLAYROOM,)),
    "compositing": Benchmark("many combinations from one query", "training", ("compositing",)),
    "scaling": Benchmark("time and memory over frames, size, K", "scaling", CLIPS),
    "long": Benchmark("time and memory of the clips that limits are set for", "scaling", (*LONG, *CLIPS)),
    "ablations": Benchmark("what the parts of training are worth", "ablations", ("--out", "{work}/ablations.jsonl")),
    "exports": Benchmark("meshes and exports of the first", "exports", (PLAYROOM, "{work}/chains/playroom-fast")),
    "interruptions": Benchmark("kills at random moments", "interruptions"),
}
BETTER_HIGH = re.compile(r"psnr|ssim$|iou|^pq|precision|recall|f_score|per_s$|share_right")
BETTER_LOW = re.compile(
    r"ssimae|lpips|(^|_)(s|seconds|gib|deg)$|median_px|ms_per_step|error|invalid|distance|position|of_separate"
)
"""What is measured in a column, by its name; a name that fits both belongs to the first. Others are no measure of quality."""
TOLERANCE = {"_s": 0.25, "ms_per_step": 0.25, "per_s": 0.25, "_gib": 0.1}
"""Relative change that is noise, by what the name of a column ends with; all others:"""
USUAL_TOLERANCE = 0.05


def sign(column: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither."""
    return 1 if BETTER_HIGH.search(column) else -1 if BETTER_LOW.search(column) else 0


def identity(row: Row) -> tuple[str, ...]:
    """What tells a row from others of its table: everything that is neither a number nor an outcome."""
    return tuple(f"{key}={value}" for key, value in row.items() if isinstance(value, str) and key not in ("failed", "status"))


def regressions(rows: list[Row], earlier: list[Row]) -> Iterator[Row]:
    """Measured numbers that became worse than noise explains, and those that are not measured any more.

    Tables of which no row was made now were not asked for.
    """
    made, known_now = {row.get("table") for row in rows}, {identity(row) for row in rows}
    for old in earlier:
        if old.get("table") in made and identity(old) not in known_now:
            yield {"row": ", ".join(identity(old)), "figure": "all", "earlier": "measured", "now": "-"}
    before = {identity(row): row for row in earlier}
    for row in rows:
        old = before.get(identity(row), {})
        for column, value in row.items():
            known = old.get(column)
            if value is None and isinstance(known, int | float) and sign(column):
                yield {"row": ", ".join(identity(row)), "figure": column, "earlier": known, "now": "-"}
            if not (isinstance(value, int | float) and isinstance(known, int | float)):
                continue
            tolerance = next((t for end, t in TOLERANCE.items() if column.endswith(end)), USUAL_TOLERANCE)
            # Some tables have a row per measure.
            measure = row["measure"] if column == "mean" else column
            if sign(measure) * (known - value) > tolerance * abs(known):
                yield {"row": ", ".join(identity(row)), "figure": column, "earlier": known, "now": value}
        if "failed" in row and old and "failed" not in old:
            yield {"row": ", ".join(identity(old)), "figure": "failed", "earlier": "-", "now": row["failed"]}
        if old.get("status") == "ok" and row.get("status") != "ok":
            yield {"row": ", ".join(identity(old)), "figure": "status", "earlier": "ok", "now": row.get("status")}


def run(benchmark: Benchmark, places: dict[str, Path], out: Path) -> str:
    """Its output goes to the terminal. Returns why it did not run or failed; empty when all went well."""
    missing = [name for name, place in places.items() if f"{{{name}}}" in benchmark.arguments and not place.exists()]
    if missing:
        return f"needs {', '.join(str(places[name]) for name in missing)}"
    arguments = [argument.format(**places) for argument in benchmark.arguments]
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *arguments]
    done = subprocess.run(command, env={**os.environ, KEPT_IN: str(out)})
    return f"ended with code {done.returncode}" if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with playroom/ and tracks/ [data]")
    parser.add_argument("--work", type=Path, default=Path("osn-work") / "benchmarks", help="scenes and workspaces, kept")
    parser.add_argument("--out", type=Path, help="[rows.jsonl in --work]")
    parser.add_argument("--against", type=Path, help="rows of an earlier run")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.list:
        print(markdown([{"name": name, "what": known.what} for name, known in BENCHMARKS.items()]))
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    out = options.out or options.work / "rows.jsonl"
    earlier = stored(options.against) if options.against else []
    out.unlink(missing_ok=True)
    places = {"playroom": options.data / "playroom", "tracks": options.data / "tracks", "work": options.work}
    failed = []
    for name in options.names or BENCHMARKS:
        print(f"\n# {name}: {BENCHMARKS[name].what}\n", flush=True)
        if reason := run(BENCHMARKS[name], places, out):
            failed.append(f"{name}: {reason}")
            print(reason)
    worse = list(regressions(stored(out), earlier))
    if options.against:
        print(f"\n# worse than in {options.against}\n\n{markdown(worse) if worse else 'nothing'}")
    for line in failed:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if worse or failed else 0


if __name__ == "__main__":
    sys.exit(main())
