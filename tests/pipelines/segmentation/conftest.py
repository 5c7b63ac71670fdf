"""A clip in which a textured square slides over a textured ground that slides the other way, with its exact flow."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import Flow, Labels, Video

WIDTH, HEIGHT, N_FRAMES, SIDE = 160, 120, 6, 40
GROUND_STEP, SQUARE_STEP = -2, 4


@dataclass(frozen=True)
class Slide:
    video: Video
    flow: Flow
    labels: Labels
    """The truth: 0 ground, 1 square."""

    def middle(self, t: int) -> tuple[float, float]:
        """Centre of the square in frame t."""
        row, column = np.nonzero(self.labels.maps[t] == 1)
        return float(column.mean()) + 0.5, float(row.mean()) + 0.5


def texture(seed: int, height: int, width: int, tint: tuple[int, int, int]) -> np.ndarray:
    """Random blotches about a colour."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    blotches = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(np.array(tint) + 120 * blotches, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def slide(tmp_path_factory) -> Slide:
    folder = tmp_path_factory.mktemp("slide")
    ground = texture(1, HEIGHT, WIDTH + 40, (110, 120, 100))
    square = texture(2, SIDE, SIDE, (130, 110, 120))
    maps = np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8)
    video = Video(folder, WIDTH, HEIGHT, N_FRAMES, 10.0, "slide")
    for t in range(N_FRAMES):
        left, right = 20 - GROUND_STEP * t, 30 + SQUARE_STEP * t
        image = ground[:, left : left + WIDTH].copy()
        image[40 : 40 + SIDE, right : right + SIDE] = square
        maps[t, 40 : 40 + SIDE, right : right + SIDE] = 1
        Image.fromarray(image).save(video.path(t))
    video.save()
    return Slide(video, _exact_flow(folder, maps), Labels(maps, ("background", "square")))


def _exact_flow(folder, maps: np.ndarray) -> Flow:
    pairs = tuple((t, u) for t in range(N_FRAMES) for u in (t - 2, t - 1, t + 1, t + 2) if 0 <= u < N_FRAMES)
    flow = Flow(folder, pairs)
    column, row = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    for t, u in pairs:
        step = np.where(maps[t] == 1, SQUARE_STEP, GROUND_STEP) * (u - t)
        flow_px = np.stack([step, np.zeros_like(step)], -1).astype(np.float32)
        there = np.clip(column + step, 0, WIDTH - 1)
        visible = (maps[u][row, there] == maps[t]) & (column + step >= 0) & (column + step < WIDTH)
        flow.write(t, u, flow_px, visible)
    flow.save()
    return flow
