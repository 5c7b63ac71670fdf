"""What happens at which step, as pure functions of the configuration (so a resumed run does the same)."""

from dataclasses import dataclass
from enum import Enum, auto

from pipelines.train import TrainConfig


class Phase(Enum):
    """The three stages of training."""

    BOOTSTRAP = auto()
    ALTERNATE = auto()
    FINISH = auto()


@dataclass(frozen=True)
class Schedule:
    """The plan of one run."""

    config: TrainConfig

    def phase(self, step: int) -> Phase:
        """With no rounds at all the scales stay unknown, so every object stays alone."""
        done = step / self.config.steps
        if self.config.rounds == 0 or done < self.config.bootstrap_share:
            return Phase.BOOTSTRAP
        if done < self.config.bootstrap_share + self.config.alternate_share:
            return Phase.ALTERNATE
        return Phase.FINISH

    @property
    def round_steps(self) -> list[int]:
        """Steps before which the scales are learned, evenly over the alternating stage, the first at its beginning."""
        c = self.config
        first, length = c.bootstrap_share * c.steps, c.alternate_share * c.steps
        return [round(first + length * i / c.rounds) for i in range(c.rounds)]

    def resolution(self, step: int) -> int:
        """Resolution of the background's field: grows at `upsample_at` by equal factors, as TensoRF."""
        c = self.config
        passed = sum(step >= round(share * c.steps) for share in c.upsample_at)
        if not c.upsample_at:
            return c.resolution_final
        factor = (c.resolution_final / c.resolution_start) ** (passed / len(c.upsample_at))
        return round(c.resolution_start * factor)

    def mover_resolution(self, step: int) -> int:
        return max(8, round(self.resolution(step) * self.config.mover_resolution_ratio))

    def rate(self, step: int) -> float:
        """Factor on all learning rates: exponential decay."""
        return self.config.final_rate ** (step / self.config.steps)

    def refines_poses(self, step: int) -> bool:
        return self.config.pose_rate > 0 and step >= self.config.refine_poses_from * self.config.steps
