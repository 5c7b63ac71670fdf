"""`osn doctor` and `osn --version`: is this installation complete, and what can it use?"""

import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path

import typer

from osn_cli.console import Console
from pipelines.errors import MissingDependencyError

DISTRIBUTION = "osn-cli"
PACKAGES = ("osn_cli", "pipelines", "third_party")
REQUIRED = (
    "torch",
    "numba",
    "numpy",
    "scipy",
    "opencv-python",
    "pycolmap",
    "scikit-image",
    "trimesh",
    "segment-anything",
    "imageio-ffmpeg",
)
OPTIONAL = {
    "usd-core": "usd",
    "viser": "view",
    "torchvision": "sam",
    "transformers": "sam2",
    "lpips": "lpips",
    "tensorboard": "tensorboard",
}


def print_version(asked: bool) -> None:
    """Callback of `osn --version`: the version of the program, and of what a report of an error needs besides."""
    if asked:
        versions = [f"{name} {_version(name) or '-'}" for name in (DISTRIBUTION, "torch")]
        Console().say(", ".join([versions[0], f"Python {platform.python_version()}", *versions[1:]]))
        raise typer.Exit


def examine(console: Console) -> None:
    """Print a table of findings.

    Raises MissingDependencyError: something that every run needs is missing or shadowed.
    """
    version = _version(DISTRIBUTION)
    rows = [[DISTRIBUTION, version or "-", "ok" if version else "not installed: pip install the folder of this program"]]
    rows += [["Python", platform.python_version(), "ok" if sys.version_info >= (3, 11) else "3.11 or newer is needed"]]
    rows += [_required(name) for name in REQUIRED]
    rows += [_optional(name, extra) for name, extra in OPTIONAL.items()]
    rows += [_shadowing(name) for name in PACKAGES]
    rows += [_device(), _ffmpeg()]
    console.table("Installation", ["what", "found", "verdict"], rows)
    console.result({"findings": [dict(zip(("what", "found", "verdict"), row, strict=True)) for row in rows]})
    broken = [row[0] for row in rows if not row[2].startswith(("ok", "optional"))]
    if broken:
        raise MissingDependencyError(f"not usable: {', '.join(broken)}; install osn-cli into an environment of its own")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _required(name: str) -> list[str]:
    version = _version(name)
    return [name, version or "-", "ok" if version else "missing"]


def _optional(name: str, extra: str) -> list[str]:
    version = _version(name)
    return [name, version or "-", "ok" if version else f"optional: pip install 'osn-cli[{extra}]'"]


def _shadowing(name: str) -> list[str]:
    """Our package names are common words: another distribution may come before ours on the path."""
    spec = importlib.util.find_spec(name)
    found = Path(spec.origin).parent if spec and spec.origin else None
    ours = Path(__file__).parents[1] / name
    return [f"package {name}", str(found or "-"), "ok" if found == ours else f"shadowed: expected {ours}"]


def _device() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return ["device", torch.cuda.get_device_name(0), "ok"]
    return ["device", f"CPU, {torch.get_num_threads()} threads", "ok (no CUDA device)"]


def _ffmpeg() -> list[str]:
    from imageio_ffmpeg import get_ffmpeg_exe, get_ffmpeg_version

    try:
        return ["ffmpeg", get_ffmpeg_version(), "ok" if get_ffmpeg_exe() else "missing"]
    except RuntimeError as error:
        return ["ffmpeg", "-", str(error)]
