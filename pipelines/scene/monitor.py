"""What training tells while it runs: `metrics.jsonl`, TensorBoard events where they are asked for, and early warnings."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import MissingDependencyError, ReconstructionError
from pipelines.scene.schedule import Phase
from pipelines.stage import StageContext

WARN_FACTOR, WARN_OFFSET = 4.0, 0.02
"""A loss is warned of when it has grown to so many times its best, and so much more."""


class Monitor:
    """Writes every row of figures, and warns early.

    Raises MissingDependencyError: TensorBoard events are asked for, and the package is missing.
    """

    def __init__(self, context: StageContext, *, tensorboard: bool = False) -> None:
        self.context = context
        self.events = _events(context.out / "tensorboard") if tensorboard else None
        self.best: dict[tuple[Phase, str], float] = {}
        self.warned: set[tuple[Phase, str]] = set()

    def write(self, row: dict[str, object]) -> None:
        with (self.context.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self.events.add_scalar(name, value, row["step"])
            self.events.flush()

    def watch(self, step: int, phase: Phase, values: dict[str, float]) -> None:
        """Record the losses; say once when one has grown to several times its best, and stop when one is not finite.

        Raises ReconstructionError: a loss is not a number any more.
        """
        self.write({"step": step, "phase": phase.name.lower(), **values})
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        if bad:
            raise ReconstructionError(
                f"training diverged at step {step} ({', '.join(bad)}): lower train.table_rate or change train.seed"
            )
        for name in ("colour", "depth", "segmentation"):
            key, value = (phase, name), values[name]
            best = self.best[key] = min(self.best.get(key, value), value)
            if value > WARN_FACTOR * best + WARN_OFFSET and key not in self.warned:
                self.warned.add(key)
                self.context.progress.note(
                    f"step {step}: the {name} loss is {value:.3g}, it was {best:.3g} before: look at the previews"
                )


def _events(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            'train.tensorboard needs the package tensorboard: pip install "osn-cli[tensorboard]"'
        ) from None
    return SummaryWriter(str(folder))
