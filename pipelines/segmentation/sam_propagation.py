"""Objects followed through a video by flow and a promptable segmentation model, in the style of Track Anything.

In every frame the masks of the frames before it are carried over by flow (adjacent and wider strides vote, so that neither
drift nor a short occlusion loses an object), and each carried mask becomes a new prompt: points, a box and a mask prior. The
model's answer replaces the carried mask where both agree. Where they don't, other prompts are tried; then consistent flow is
believed. An object that consistent flow has lost is looked for where it would have moved to, and counts as hidden meanwhile.

Symbols: T frames, H x W pixels, object ids from 1 (0 is the background). Pixel coordinates follow `pipelines.geometry`.
Source: Yang et al., "Track Anything: Segment Anything Meets Videos" (2023), with flow in the place of its mask propagation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from pipelines.artifacts import BACKGROUND, Flow, Video
from pipelines.errors import UsageError
from pipelines.geometry import along_flow
from pipelines.progress import Progress, Silent
from third_party.prompt import Prediction, Prompt

Mask = Bool[np.ndarray, "H W"]
Prompts = Mapping[int, Mapping[int, Prompt | Mask]]
"""Frame -> object id -> what is known of the object there: a prompt, or its whole mask."""
SILENT = Silent()


@runtime_checkable
class Predictor(Protocol):
    """What is needed of a promptable model (`third_party.sam.SamPredictor`)."""

    def set_image(self, image: UInt8[np.ndarray, "H W 3"]) -> None: ...

    def prior(self, mask: Mask) -> Float32[np.ndarray, "side side"]: ...

    def predict(self, prompt: Prompt) -> Prediction: ...


@runtime_checkable
class VideoPredictor(Protocol):
    """What is needed of a model with video memory (`third_party.sam2.VideoSegmenter`)."""

    def track(
        self,
        read: Callable[[int], UInt8[np.ndarray, "H W 3"]],
        size: tuple[int, int],
        n_frames: int,
        prompts: Mapping[int, Mapping[int, Prompt | Mask]],
    ) -> Iterator[tuple[int, dict[int, Float32[np.ndarray, "H W"]]]]: ...


@dataclass(frozen=True)
class Propagation:
    """When an answer is believed."""

    min_agreement: float = 0.6
    """IoU of the model's mask and the mask carried by flow, below which one of them has drifted."""
    min_area_px: int = 20
    points: int = 3
    """Positive points per prompt."""
    box_margin: float = 0.05
    """Growth of a box round a carried mask, as a share of its sides."""
    relink_margin: float = 0.3
    """The same where a hidden object is looked for."""
    relink_score: float = 0.8
    relink_similarity: float = 0.7
    """Least overlap of colour histograms between an object and its reappearance."""
    relink_area_ratio: float = 3.0
    """Most that a reappearance may be larger or smaller."""
    whole_area_ratio: float = 0.9
    """An object that shrinks below this share of its last whole area is being covered: it keeps its size, speed and colours."""


@dataclass(frozen=True)
class Propagated:
    """Label maps, and per object id the frames in which it was hidden, or flow overruled the model."""

    maps: UInt8[np.ndarray, "T H W"]
    hidden: dict[int, Bool[np.ndarray, " T"]]
    corrected: dict[int, Bool[np.ndarray, " T"]]


def segment_with_sam(
    video: Video,
    flow: Flow,
    prompts: Prompts,
    predictor: Predictor,
    settings: Propagation = Propagation(),
    progress: Progress = SILENT,
) -> Propagated:
    """Follow every prompted object forwards from its first prompt to the end, and backwards to the beginning.

    A later prompt of an object overrules what was carried to its frame.
    Raises UsageError: no prompts, or a prompt beyond the video.
    """
    first = first_prompts(prompts, video.n_frames)
    run = _Run(video, flow, prompts, predictor, settings, first)
    forwards = range(min(first.values()), video.n_frames)
    backwards = range(max(first.values()) - 1, -1, -1)
    with progress.task("masks", len(forwards) + len(backwards)) as advance:
        for t in forwards:
            run.step(t, [k for k, start in first.items() if start <= t], -1)
            advance(1)
        for t in backwards:
            run.step(t, [k for k, start in first.items() if start > t], 1)
            advance(1)
    return Propagated(run.maps, run.hidden, run.corrected)


def segment_with_sam2(video: Video, prompts: Prompts, model: VideoPredictor, progress: Progress = SILENT) -> Propagated:
    """Follow every prompted object with a model that has video memory; where two objects claim a pixel, the surer one has it.

    Raises UsageError: no prompts, or a prompt beyond the video.
    """
    first = first_prompts(prompts, video.n_frames)
    maps = np.zeros((video.n_frames, video.height, video.width), np.uint8)
    hidden = {k: np.zeros(video.n_frames, bool) for k in first}
    with progress.task("masks", video.n_frames) as advance:
        for t, logits in model.track(video.frame, (video.width, video.height), video.n_frames, prompts):
            maps[t] = surest(logits)
            for k in first:
                hidden[k][t] = not (maps[t] == k).any()
            advance(1)
    return Propagated(maps, hidden, {k: np.zeros(video.n_frames, bool) for k in first})


def first_prompts(prompts: Prompts, n_frames: int) -> dict[int, int]:
    """The first frame in which each object is prompted, by object id in rising order."""
    beyond = [t for t in prompts if not 0 <= t < n_frames]
    if beyond:
        raise UsageError(f"a prompt is for frame {beyond[0]}, but the video has frames 0 to {n_frames - 1}")
    first: dict[int, int] = {}
    for t in sorted(prompts):
        for k in prompts[t]:
            first.setdefault(k, t)
    if not first:
        raise UsageError("there are no prompts: give clicks or boxes with --prompts FILE, or let the motion find the objects")
    return dict(sorted(first.items()))


def surest(logits: Mapping[int, Float[np.ndarray, "H W"]]) -> UInt8[np.ndarray, "H W"]:
    """Label map of the object with the highest positive logit at each pixel."""
    ids = np.array([BACKGROUND, *logits], np.uint8)
    stack = np.stack([np.zeros_like(next(iter(logits.values()))), *logits.values()])
    return ids[stack.argmax(0)]


@dataclass(frozen=True)
class _Source:
    """A finished frame that flow connects to the current one: where each current pixel was, and whether that is certain."""

    frame: int
    column: Float32[np.ndarray, "H W"]
    row: Float32[np.ndarray, "H W"]
    ok: Mask


@dataclass(frozen=True)
class _Carried:
    """An object's mask in the current frame by consistent flow, where flow is consistent, and what uncertain flow adds."""

    mask: Mask
    known: Mask
    uncertain: Mask


@dataclass(frozen=True)
class _Seen:
    """What is remembered of an object: when and where it was last seen whole, and its colours."""

    frame: int
    centre_px: Float[np.ndarray, "2"]
    box_px: Float[np.ndarray, "4"]
    area_px: int
    colours: Float[np.ndarray, " bins"]
    speed_px: Float[np.ndarray, "2"]
    """Per frame, in the direction of work."""


class _Run:
    """The state of one propagation."""

    def __init__(
        self,
        video: Video,
        flow: Flow,
        prompts: Prompts,
        predictor: Predictor,
        settings: Propagation,
        first: dict[int, int],
    ) -> None:
        self._video, self._flow, self._prompts = video, flow, prompts
        self._predictor, self._settings = predictor, settings
        self._pairs = set(flow.pairs)
        self._seen: dict[int, _Seen] = {}
        self._done = {k: np.zeros(video.n_frames, bool) for k in first}
        self.maps = np.zeros((video.n_frames, video.height, video.width), np.uint8)
        self.hidden = {k: np.zeros(video.n_frames, bool) for k in first}
        self.corrected = {k: np.zeros(video.n_frames, bool) for k in first}

    def step(self, t: int, objects: list[int], towards: int) -> None:
        """Find the objects in frame t; `towards` is the step back to the frame that was done before it."""
        image = self._video.frame(t)
        self._predictor.set_image(image)
        sources = self._sources(t, towards)
        carried = {k: self._carried(k, sources) for k in objects if not self._done[k][t]}
        taken = self.maps[t] != BACKGROUND
        logits = {}
        for k in carried:
            others = np.any([taken, *(carried[j].mask for j in carried if j != k)], axis=0)
            answer = self._answer(t, k, carried[k], others & ~carried[k].mask, image)
            self._done[k][t] = True
            if answer is not None:
                logits[k] = np.where(taken, -np.inf, answer)
        if logits:
            found = surest(logits)
            self.maps[t] = np.where(taken, self.maps[t], found)
        for k in carried:
            self._remember(t, k, image)

    def _sources(self, t: int, towards: int) -> list[_Source]:
        sources = []
        for s in sorted((s for pair_t, s in self._pairs if pair_t == t and (s - t) * towards > 0), key=lambda s: abs(s - t)):
            flow_px, ok = self._flow.read(t, s)
            sources.append(_Source(s, *along_flow(flow_px), ok))
        return sources

    def _carried(self, k: int, sources: list[_Source]) -> _Carried:
        """What flow brings of object k: every consistent stride has one vote, the nearest one decides a tie."""
        import cv2

        shape = self._video.height, self._video.width
        votes, voters, nearest = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        known = [source for source in sources if self._done[k][source.frame]]
        for source in known:
            mask = (self.maps[source.frame] == k).astype(np.uint8)
            there = cv2.remap(mask, source.column, source.row, cv2.INTER_NEAREST, borderValue=0).astype(bool)
            if source is known[0]:
                nearest = there
            tie_break = 1.5 if source is known[0] else 1.0
            votes += tie_break * (there & source.ok)
            voters += tie_break * source.ok
        return _Carried(2 * votes > voters, voters > 0, nearest)

    def _answer(
        self, t: int, k: int, carried: _Carried, others: Mask, image: UInt8[np.ndarray, "H W 3"]
    ) -> Float32[np.ndarray, "H W"] | None:
        """Logits of object k in frame t; None when it is hidden."""
        given = self._prompts.get(t, {}).get(k)
        if isinstance(given, Prompt):
            return self._predictor.predict(given).logit
        if given is not None:
            carried = _Carried(given, np.ones_like(given), given)
        if carried.mask.sum() < self._settings.min_area_px:
            found = self._relinked(t, k, carried, others, image)
            self.hidden[k][t] = found is None
            return found
        answer, agreement = self._best_answer(carried, others)
        if agreement >= self._settings.min_agreement:
            return answer.logit
        self.corrected[k][t] = True
        return np.where(carried.mask, 1.0, -1.0).astype(np.float32)

    def _best_answer(self, carried: _Carried, others: Mask) -> tuple[Prediction, float]:
        """The answer that agrees best with the carried mask where flow knows it; other prompts are tried if need be."""
        points, positive = self._points(carried.mask, others)
        box = grown(box_of(carried.mask), self._settings.box_margin, carried.mask.shape)
        best = self._predictor.predict(Prompt(points, positive, box, self._predictor.prior(carried.mask)))
        agreement = iou(best.mask & carried.known, carried.mask)
        for prompt in (Prompt(points, positive, box), Prompt(points, positive), Prompt(box_px=box)):
            if agreement >= self._settings.min_agreement:
                break
            answer = self._predictor.predict(prompt)
            agrees = iou(answer.mask & carried.known, carried.mask)
            if agrees > agreement:
                best, agreement = answer, agrees
        return best, agreement

    def _points(self, mask: Mask, others: Mask) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
        """Points well inside the mask, and one inside what other objects have of its box."""
        inside = interior_points(mask, self._settings.points)
        x0, y0, x1, y1 = grown(box_of(mask), self._settings.box_margin, mask.shape).round().astype(int)
        near = np.zeros_like(others)
        near[y0:y1, x0:x1] = others[y0:y1, x0:x1]
        outside = interior_points(near, 1)
        return np.concatenate([inside, outside]), np.arange(len(inside) + len(outside)) < len(inside)

    def _relinked(
        self, t: int, k: int, carried: _Carried, others: Mask, image: UInt8[np.ndarray, "H W 3"]
    ) -> Float32[np.ndarray, "H W"] | None:
        """Look for an object that flow has lost, where it would have moved to and where uncertain flow points."""
        seen = self._seen.get(k)
        if seen is None:
            return None
        boxes = [seen.box_px + np.tile(seen.speed_px * abs(t - seen.frame), 2)]
        if carried.uncertain.sum() >= self._settings.min_area_px:
            boxes.append(box_of(carried.uncertain))
        for box in (grown(box, self._settings.relink_margin, others.shape) for box in boxes):
            if np.all(box[2:] - box[:2] >= 1):
                answer = self._predictor.predict(Prompt(box_px=box))
                if self._is_same(seen, answer, answer.mask & ~others, image):
                    return np.where(others, -np.inf, answer.logit).astype(np.float32)
        return None

    def _is_same(self, seen: _Seen, answer: Prediction, mask: Mask, image: UInt8[np.ndarray, "H W 3"]) -> bool:
        """A reappearance is believed only if the model is sure, and size and colours are right."""
        area_px = int(mask.sum())
        if area_px < self._settings.min_area_px or answer.score < self._settings.relink_score:
            return False
        if max(area_px / seen.area_px, seen.area_px / area_px) > self._settings.relink_area_ratio:
            return False
        return similarity(colours_of(image, mask), seen.colours) >= self._settings.relink_similarity

    def _remember(self, t: int, k: int, image: UInt8[np.ndarray, "H W 3"]) -> None:
        mask = self.maps[t] == k
        if mask.sum() < self._settings.min_area_px:
            self.hidden[k][t] = True
            return
        before, area_px = self._seen.get(k), int(mask.sum())
        if before is not None and area_px < self._settings.whole_area_ratio * before.area_px:
            return
        centre = np.argwhere(mask).mean(0)[::-1] + 0.5
        speed = np.zeros(2) if before is None else (centre - before.centre_px) / max(1, abs(t - before.frame))
        self._seen[k] = _Seen(t, centre, box_of(mask), area_px, colours_of(image, mask), speed)


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def box_of(mask: Mask) -> Float[np.ndarray, "4"]:
    """x0, y0, x1, y1 of the edges round a mask that is not empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def grown(box_px: Float[np.ndarray, "4"], margin: float, shape: tuple[int, int]) -> Float[np.ndarray, "4"]:
    """A box with every side moved out by a share of its length, cut at the frame."""
    by = margin * np.tile(box_px[2:] - box_px[:2], 2) * [-1, -1, 1, 1]
    return np.clip(box_px + by, 0, [shape[1], shape[0]] * 2)


def interior_points(mask: Mask, n: int) -> Float[np.ndarray, "m 2"]:
    """Up to n pixel centres far from the mask's edge and from each other, the deepest first."""
    import cv2

    left = np.pad(mask, 1).astype(np.uint8)
    points: list[tuple[float, float]] = []
    while len(points) < n and left.any():
        depth = cv2.distanceTransform(left, cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        points.append((column - 0.5, row - 0.5))
        cv2.circle(left, (int(column), int(row)), max(1, round(float(depth.max()) / 2)), 0, -1)
    return np.array(points, float).reshape(-1, 2)


def colours_of(image: UInt8[np.ndarray, "H W 3"], mask: Mask) -> Float[np.ndarray, " bins"]:
    """Histogram of the mask's colours, 8 levels per channel, summing to 1."""
    level: Int[np.ndarray, "n 3"] = image[mask].astype(np.int64) // 32
    counts = np.bincount(level @ [64, 8, 1], minlength=512)
    return counts / max(1, counts.sum())


def similarity(first: Float[np.ndarray, " bins"], second: Float[np.ndarray, " bins"]) -> float:
    """Bhattacharyya coefficient of two histograms: 1 for equal ones, 0 where they share no colour."""
    return float(np.sqrt(first * second).sum())
