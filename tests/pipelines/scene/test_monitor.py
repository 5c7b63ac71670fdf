import json
import sys

import pytest

from pipelines.errors import MissingDependencyError, ReconstructionError
from pipelines.scene.monitor import Monitor
from pipelines.scene.schedule import Phase
from pipelines.stage import ItemCache, StageContext

GOOD = {"colour": 0.01, "depth": 0.02, "segmentation": 0.03}


@pytest.fixture
def context(tmp_path, notes) -> StageContext:
    return StageContext(tmp_path, ItemCache(tmp_path / "items"), notes)


def test_a_loss_that_grows_is_told_once_and_one_that_is_no_number_ends_training(context):
    monitor = Monitor(context)
    for step, colour in ((50, 0.01), (100, 0.02), (150, 0.2), (200, 0.3)):
        monitor.watch(step, Phase.FINISH, GOOD | {"colour": colour})
    assert [note.split(":")[0] for note in context.progress.said] == ["step 150"]
    with pytest.raises(ReconstructionError, match="diverged at step 250 \\(depth\\)"):
        monitor.watch(250, Phase.FINISH, GOOD | {"depth": float("nan")})
    rows = [json.loads(line) for line in (context.out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100, 150, 200, 250]


def test_tensorboard_is_asked_for_by_its_extra(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="osn-cli\\[tensorboard\\]"):
        Monitor(context, tensorboard=True)


def test_events_hold_the_same_figures(context):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = Monitor(context, tensorboard=True)
    monitor.watch(50, Phase.FINISH, GOOD)
    monitor.watch(100, Phase.FINISH, GOOD | {"depth": 0.5})
    events = EventAccumulator(str(context.out / "tensorboard"))
    events.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("depth")] == [(50, 0.02), (100, 0.5)]
