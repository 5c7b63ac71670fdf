"""A page about a tiny clip: a bright square that slides over a dark ground."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipelines.annotate.desk import Desk
from pipelines.annotate.server import AnnotateServer
from pipelines.artifacts import Flow, Labels, Video

WIDTH, HEIGHT, N_FRAMES = 96, 64, 4


@pytest.fixture
def desk(tmp_path) -> Desk:
    maps = np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8)
    video = Video(tmp_path, WIDTH, HEIGHT, N_FRAMES, 10.0, "slide")
    noise = np.random.default_rng(0).integers(0, 12, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for t in range(N_FRAMES):
        left = 20 + 5 * t
        maps[t, 16:48, left : left + 32] = 1
        image = np.where((maps[t] == 1)[..., None], (200, 120, 60), (40, 60, 80)).astype(np.uint8) + noise
        Image.fromarray(image).save(video.path(t))
    video.save()
    pairs = tuple((t, u) for t in range(N_FRAMES) for u in (t - 1, t + 1) if 0 <= u < N_FRAMES)
    flow = Flow(tmp_path, pairs)
    for t, u in pairs:
        step = np.where(maps[t] == 1, 5.0 * (u - t), 0.0)
        flow.write(t, u, np.stack([step, np.zeros_like(step)], -1).astype(np.float32), np.ones(maps[t].shape, bool))
    flow.save()
    two_halves = maps.copy()
    two_halves[:, 32:][maps[:, 32:] == 1] = 2
    return Desk(video, flow, Labels(two_halves, ("background", "upper", "lower")), tmp_path / "prompts.json")


@pytest.fixture
def page(desk) -> Iterator[AnnotateServer]:
    with AnnotateServer(desk, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
