"""What every stage has in common: a frozen configuration, and the context in which it runs."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.progress import Progress, Silent


class StageConfig(BaseModel):
    """Base of each stage's options. Frozen, and an unknown key is an error; a default is written in exactly one place.

    The text below an option is its description: `osn options` and the workspace's config.toml show it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def digest(content: Any) -> str:
    """Content key of anything that JSON can hold (paths and other leaves by their text): 16 hex digits of SHA-256."""
    canonical = json.dumps(content, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def shortened(name: str, longest: int = 120) -> str:
    """A file's name, of at most so many bytes: the end of a longer one gives way to a digest of it."""
    if len(name.encode()) <= longest:
        return name
    return f"{name.encode()[: longest - 7].decode(errors='ignore')}-{digest(name)[:6]}"


@dataclass(frozen=True)
class ItemCache:
    """Results of parts of a stage (one object's reconstruction, one mesh), kept by content key across runs of the stage."""

    folder: Path

    def get(self, name: str, key: Any, make: Callable[[Path], None]) -> Path:
        """Folder with the item's files: found, or made by `make(empty folder)` and moved into place in one step.

        name: what the item is, for people, e.g. "object_02"; key: everything that its content depends on.
        """
        place = self.folder / f"{name}-{digest(key)}"
        if place.is_dir():
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
        try:
            make(partial)
            partial.rename(place)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            # Another command may have made the same in the meantime (the viewer works beside them).
            if not place.is_dir():
                raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return place


@dataclass(frozen=True)
class StageContext:
    """Where a stage writes and whom it tells.

    out: folder of the stage's result. It is empty, except that a resumable stage finds there what an interrupted
        run of the same key left. The store moves it into place when the stage returns, so a kill never leaves half a result.
    items: per-object results that survive a change in the other objects, outside `out`.
    """

    out: Path
    items: ItemCache
    progress: Progress = field(default_factory=Silent)
    device: str = "cpu"
    """Torch device that learned stages run on; it is no part of a result's key."""
