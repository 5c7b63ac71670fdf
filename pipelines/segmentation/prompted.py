"""Masks from clicks, boxes and strokes without any learned weights, over one frame and over the whole clip.

A click picks a region of the frame's hierarchy (`hierarchy`), or the object that the automatic result has there. Then the
region and its surroundings compete for the pixels between them: each side's motion is extended to a field of its own, and a
pixel goes to the side whose motion explains the colours of other frames better. Over the clip, masks are carried by flow from
frame to frame, every consistent stride having one vote, and compete anew in each frame.

Symbols: frame t, other frame u. Masks are (H, W).
"""

import threading
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.artifacts import BACKGROUND, UNKNOWN, Flow, Labels, Video
from pipelines.errors import UsageError
from pipelines.geometry import along_flow
from pipelines.progress import Progress, Silent
from pipelines.segmentation.edge_filter import GuidedFilter
from pipelines.segmentation.hierarchy import Hierarchy, HierarchyOptions, build_hierarchy
from pipelines.segmentation.layers import layer_motion, photometric_cost
from pipelines.segmentation.prompts import Base, ObjectPrompt, PromptFile
from pipelines.segmentation.sam_propagation import Predictor
from third_party.prompt import Prompt

Mask = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class PromptedOptions:
    """Sizes are in px of a frame whose longer side is 400 px, and grow with the frame."""

    hierarchy: HierarchyOptions = field(default_factory=HierarchyOptions)
    max_strides: int = 3
    colour_tolerance: float = 10.0
    """Colour difference (of 255) that counts as one unit of cost."""
    flow_tolerance_px: float = 0.7
    flow_weight: float = 0.6
    cap: float = 4.0
    absence_weight: float = 1.5
    window_px: float = 5.0
    sigma_px: float = 8.0
    guide_radius_px: float = 5.0
    guide_variance: float = 1e-3
    min_agreement: float = 0.6
    """IoU with the carried mask, below which the outcome of a competition is not believed."""
    min_area_px: float = 30.0
    """Smaller remains count as hidden."""
    cached_frames: int = 8


@dataclass
class Prompter:
    """Answers prompts about one video; keeps the hierarchies of the frames that were asked about last."""

    video: Video
    flow: Flow | None
    automatic: Labels | None = None
    predictor: Predictor | None = None
    """A learned model that answers points and boxes instead (Segment Anything)."""
    options: PromptedOptions = field(default_factory=PromptedOptions)
    _hierarchies: dict[int, Hierarchy] = field(default_factory=dict)
    _encoded: int | None = None
    """Frame that the model has before it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hierarchy(self, t: int) -> Hierarchy:
        with self._lock:
            if t not in self._hierarchies:
                while len(self._hierarchies) >= self.options.cached_frames:
                    del self._hierarchies[next(iter(self._hierarchies))]
                self._hierarchies[t] = build_hierarchy(self.video, self.flow, t, self.options.hierarchy)
            return self._hierarchies[t]

    def _predicted(self, predictor: Predictor, prompt: ObjectPrompt, own: Mask) -> Mask:
        """The model's answer; an object that is there already is its prior."""
        kinds = [prompt.xy_px(positive=kind) for kind in (True, False)]
        asked = Prompt(
            points_px=np.concatenate(kinds),
            positive=np.arange(len(prompt.points)) < len(kinds[0]),
            box_px=None if prompt.box is None else np.array(prompt.box, float),
            logits=predictor.prior(own) if own.any() else None,
        )
        with self._lock:
            if self._encoded != prompt.frame:
                predictor.set_image(self.video.frame(prompt.frame))
                self._encoded = prompt.frame
            return predictor.predict(asked).mask

    @property
    def _size(self) -> float:
        return max(self.video.width, self.video.height) / 400

    def mask(self, prompt: ObjectPrompt, current: UInt8[np.ndarray, "H W"] | None, base: Base) -> Mask:
        """What a prompt means in its frame.

        current: label map of the frame without this prompt. With base `automatic` it is what is corrected, with `nothing` it
            only tells what a click may mean.
        """
        shape = (self.video.height, self.video.width)
        own = np.zeros(shape, bool)
        if current is not None and base is Base.AUTOMATIC:
            own = current == prompt.object
        if self.predictor is not None and (prompt.points or prompt.box):
            smart = self._predicted(self.predictor, prompt, own)
        else:
            smart = self._from_points(prompt, own, current, base)
        painted, erased = (prompt.painted(*shape, positive=positive) for positive in (True, False))
        return (smart | painted) & ~erased

    def _from_points(self, prompt: ObjectPrompt, own: Mask, current: UInt8[np.ndarray, "H W"] | None, base: Base) -> Mask:
        """The object's present mask, extended by positive points and the box, cut by negative points."""
        positive, negative = (self._pixels(prompt.xy_px(positive=kind)) for kind in (True, False))
        mask, t = own, prompt.frame
        forbidden = self._at(negative)
        allowed = self._box(prompt, own.shape)
        if prompt.box is not None and not positive:
            mask = mask | self._competed(t, self.hierarchy(t).region_in(prompt.box), forbidden)
        for column, row in positive:
            if not mask[row, column]:
                mask = mask | self._clicked(t, column, row, forbidden | ~allowed, current, base)
        for column, row in negative:
            if mask[row, column]:
                mask = mask & ~self.hierarchy(t).region_at(column, row, self._at(positive))
        return mask & allowed

    def _clicked(
        self, t: int, column: int, row: int, without: Mask, current: UInt8[np.ndarray, "H W"] | None, base: Base
    ) -> Mask:
        """The region about a click: the automatic object where that is what one can mean, else one of the hierarchy."""
        there = np.ones_like(without)
        if current is not None and current[row, column] not in (BACKGROUND, UNKNOWN):
            there = current == current[row, column]
            if base is Base.NOTHING and not (there & without).any():
                return there
        region = self.hierarchy(t).region_at(column, row, without)
        # A click into another object splits that one: the part ends where the whole does.
        return self._competed(t, region & there, without) & there

    def meant(self, prompt: ObjectPrompt) -> list[int]:
        """The automatic objects that a prompt's clicks mean as wholes (base `nothing`)."""
        if self.automatic is None or self.predictor is not None:
            return []
        labels = self.automatic.maps[prompt.frame]
        without = self._at(self._pixels(prompt.xy_px(positive=False))) | ~self._box(prompt, labels.shape)
        clicked = {int(labels[row, column]) for column, row in self._pixels(prompt.xy_px(positive=True))}
        return sorted(k for k in clicked - {BACKGROUND, UNKNOWN} if not ((labels == k) & without).any())

    def _at(self, pixels: list[tuple[int, int]]) -> Mask:
        """Pixels (column, row) as a mask."""
        mask = np.zeros((self.video.height, self.video.width), bool)
        for column, row in pixels:
            mask[row, column] = True
        return mask

    def _competed(self, t: int, region: Mask, without: Mask) -> Mask:
        """The region after a competition with its surroundings, without parts that hang together with nothing of it."""
        answer = self.compete(t, region) & ~without
        answer = touching_parts(answer, region)
        return answer if overlap(answer, region) >= self.options.min_agreement / 2 else region

    def _pixels(self, xy_px: Float[np.ndarray, "n 2"]) -> list[tuple[int, int]]:
        """Column and row of the pixels that points lie in; points beyond the frame belong to its edge."""
        limit = [self.video.width - 1, self.video.height - 1]
        return [(int(x), int(y)) for x, y in np.clip(np.floor(xy_px), 0, limit)]

    def _box(self, prompt: ObjectPrompt, shape: tuple[int, int]) -> Mask:
        allowed = np.ones(shape, bool)
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box
            column, row = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
            allowed = ((row > y0) & (row < y1))[:, None] & ((column > x0) & (column < x1))[None]
        return allowed

    # Competition by motion ------------------------------------------------------------------------------------------

    def compete(self, t: int, region: Mask) -> Mask:
        """Where the region's motion explains frame t better than the motion of everything else does."""
        import cv2

        if self.flow is None or not region.any() or region.all():
            return region
        o, image = self.options, self.video.frame(t)
        kernel = np.ones((5, 5), np.uint8)
        sides = np.stack([~region, region])
        # The edge is where the region may be wrong, and where flow is smeared: the inside speaks, unless there is none.
        weight = np.stack([cv2.erode(side.astype(np.uint8), kernel) for side in sides]).astype(np.float32) + 1e-6 * sides
        sums, support = np.zeros((2, 2, *region.shape), np.float32), np.zeros((2, *region.shape), np.float32)
        counts = np.zeros(2)
        for u in self._others(t):
            flow_px, ok = self.flow.read(t, u)
            other, later = self.video.frame(u), int(u > t)
            counts[later] += 1
            for side in (0, 1):
                layer = layer_motion(flow_px, weight[side] * ok, o.sigma_px * self._size)
                gap = np.linalg.norm(flow_px - layer.flow_px, axis=-1) / o.flow_tolerance_px
                sums[later, side] += self._colour_cost(image, other, layer.flow_px) + o.flow_weight * np.minimum(gap, o.cap)
                support[side] += layer.support
        known = [sums[later] / counts[later] for later in (0, 1) if counts[later]]
        if not known:
            return region
        # What is hidden in the frames before is often seen in those after, and the reverse: the better side counts more.
        evidence = 0.7 * np.min(known, axis=0) + 0.3 * np.mean(known, axis=0)
        cost = evidence + o.absence_weight * (1 - support / np.maximum(support.sum(0), 1e-9))
        smooth = GuidedFilter(image, max(1, round(o.guide_radius_px * self._size)), o.guide_variance)
        return np.asarray(smooth(cost[1]) < smooth(cost[0]))

    def _colour_cost(
        self, image: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"], flow_px: Float[np.ndarray, "H W 2"]
    ) -> Float[np.ndarray, "H W"]:
        o = self.options
        window_px = 2 * round(o.window_px * self._size / 2) + 1
        return photometric_cost(image, other, flow_px, tolerance=o.colour_tolerance, cap=o.cap, window_px=window_px)

    def _others(self, t: int) -> list[int]:
        """The nearest frames on both sides that flow leads to."""
        assert self.flow is not None
        others = sorted((u for start, u in self.flow.pairs if start == t), key=lambda u: (abs(u - t), u))
        return [u for u in others if u < t][: self.options.max_strides] + [u for u in others if u > t][
            : self.options.max_strides
        ]

    # Over the clip --------------------------------------------------------------------------------------------------

    def carried(self, masks: dict[int, Mask], t: int) -> Mask:
        """The mask that flow brings to frame t from frames where it is known, every consistent stride having one vote."""
        import cv2

        shape = (self.video.height, self.video.width)
        votes, voters = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        known = [u for u in self._others(t) if u in masks] if self.flow is not None else []
        nearest = np.zeros(shape, bool)
        for u in known:
            assert self.flow is not None
            flow_px, ok = self.flow.read(t, u)
            source = masks[u].astype(np.uint8)
            there = cv2.remap(source, *along_flow(flow_px), cv2.INTER_NEAREST, borderValue=0) > 0
            nearest = there if u == min(known, key=lambda u: abs(u - t)) else nearest
            votes += there & ok
            voters += ok
        return np.where(voters > 0, 2 * votes > voters, nearest)

    def propagated(self, keys: dict[int, Mask], *, competing: bool, progress: Progress) -> Bool[np.ndarray, "T H W"]:
        """A mask known in some frames, in all of them: each frame takes it from the side of the nearest known one."""
        n = self.video.n_frames
        owner = [min(keys, key=lambda key: (abs(key - t), key)) for t in range(n)]
        found: dict[int, Mask] = dict(keys)
        with progress.task("carrying masks", n - len(keys)) as advance:
            for key in sorted(keys):
                own = [t for t in range(n) if owner[t] == key]
                for step in (1, -1):
                    chain = {key: keys[key]}
                    for t in sorted((t for t in own if (t - key) * step > 0), key=lambda t: abs(t - key)):
                        chain[t] = found[t] = self._continued(t, chain, competing)
                        advance(1)
        return np.stack([found[t] for t in range(n)])

    def _continued(self, t: int, chain: dict[int, Mask], competing: bool) -> Mask:
        carried = self.carried(chain, t)
        if carried.sum() < self.options.min_area_px * self._size**2:
            return np.zeros_like(carried)
        if not competing:
            return carried
        answer = touching_parts(self.compete(t, carried), carried)
        return answer if overlap(answer, carried) >= self.options.min_agreement else carried


def apply_prompts(
    prompts: PromptFile, prompter: Prompter, *, progress: Progress | None = None, numbered: bool = True
) -> Labels:
    """Label maps of the whole clip after all corrections.

    numbered: number objects anew, in the order of their ids; otherwise labels are the ids of the prompts file.

    Raises InputError: the prompts do not fit the video. UsageError: nothing is left, or flow is needed and not there.
    """
    video, automatic, progress = prompter.video, prompter.automatic, progress or Silent()
    prompts = prompts.fitted(video.width, video.height, video.n_frames)
    if prompter.flow is None and prompts.prompted and video.n_frames > 1:
        raise UsageError("prompts are carried over the clip by optical flow: run the stage flow first")
    maps = edited(prompts, automatic, (video.n_frames, video.height, video.width))
    hints = automatic.maps if automatic is not None else None
    for object_id in prompts.prompted:
        current, said = hints if prompts.base is Base.NOTHING else maps, prompts.of_object(object_id)
        keys = {p.frame: prompter.mask(p, None if current is None else current[p.frame], prompts.base) for p in said}
        if automatic is not None and prompts.base is Base.NOTHING:
            # A click on an automatic object means it in every frame, not only what flow carries of it from this one.
            maps[np.isin(automatic.maps, [k for p in said for k in prompter.meant(p)]) & (maps == BACKGROUND)] = object_id
        write_object(maps, object_id, keys, prompter, progress)
    named = names_of(prompts, automatic)
    if numbered:
        return compacted(maps, named)
    return Labels(maps, tuple(named.get(k, f"object {k}") for k in range(int(maps[maps != UNKNOWN].max(initial=0)) + 1)))


def predictor_of(model: str | None, device: str) -> Predictor | None:
    """The learned model that answers points and boxes, by the name of its weights.

    Raises MissingDependencyError: its weights or packages are not on this machine.
    """
    if model is None:
        return None
    from pipelines import dependencies
    from third_party import weights

    with dependencies.third_party():
        from third_party.sam import load_sam

        return load_sam(weights.find(model), device)


def write_object(
    maps: UInt8[np.ndarray, "T H W"], object_id: int, keys: dict[int, Mask], prompter: Prompter, progress: Progress
) -> None:
    """Carry an object's corrections over the clip and write them into the maps: what it gains, and what it loses."""
    gained = {t: mask & (maps[t] != object_id) for t, mask in keys.items()}
    lost = {t: (maps[t] == object_id) & ~mask for t, mask in keys.items()}
    is_new = not (maps == object_id).any()
    gains = prompter.propagated(gained, competing=is_new, progress=progress) if any(m.any() for m in gained.values()) else None
    losses = prompter.propagated(lost, competing=False, progress=progress) if any(m.any() for m in lost.values()) else None
    if losses is not None:
        maps[losses & (maps == object_id)] = BACKGROUND
    if gains is not None:
        if not is_new:
            gains = _belonging(gains, maps == object_id, keys, prompter)
        maps[gains] = object_id


def _belonging(
    gains: Bool[np.ndarray, "T H W"], known: Bool[np.ndarray, "T H W"], keys: dict[int, Mask], prompter: Prompter
) -> Bool[np.ndarray, "T H W"]:
    """Carried gains without what moves with the surroundings, which a stroke across the object's edge takes along."""
    kept = gains.copy()
    for t in (t for t in range(len(gains)) if t not in keys and gains[t].any()):
        whole = known[t] | gains[t]
        answer = prompter.compete(t, whole)
        if overlap(answer & whole, whole) >= prompter.options.min_agreement:
            kept[t] &= answer
    return kept


def edited(prompts: PromptFile, automatic: Labels | None, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "T H W"]:
    """The automatic label maps after merging and giving objects to the background; empty ones with base `nothing`."""
    if automatic is None or prompts.base is Base.NOTHING:
        return np.zeros(shape, np.uint8)
    target = np.arange(256, dtype=np.uint8)
    for first, *others in filter(None, prompts.merge):
        target[others] = first
    target[list(prompts.background)] = BACKGROUND
    # An object may have been merged into one that was merged into another, or became background.
    while not np.array_equal(target[target], target):
        target = target[target]
    return target[automatic.maps]


def names_of(prompts: PromptFile, automatic: Labels | None) -> dict[int, str]:
    """Names by id: the prompts file's, else those of the automatic result."""
    known = {} if automatic is None or prompts.base is Base.NOTHING else dict(enumerate(automatic.names))
    return {BACKGROUND: "background"} | known | {named.id: named.name for named in prompts.objects}


def compacted(maps: UInt8[np.ndarray, "T H W"], names: dict[int, str]) -> Labels:
    """Labels 1 ... K-1 without gaps.

    Raises UsageError: there is no background left.
    """
    ids = [int(k) for k in np.unique(maps) if k not in (BACKGROUND, UNKNOWN)]
    if not (maps == BACKGROUND).any():
        raise UsageError("the prompts leave no background: the static surroundings must keep some pixels")
    target = np.zeros(256, np.uint8)
    target[UNKNOWN] = UNKNOWN
    target[ids] = np.arange(1, len(ids) + 1)
    return Labels(target[maps], tuple(names.get(k, f"object {k}") for k in (BACKGROUND, *ids)))


def touching_parts(mask: Mask, region: Mask) -> Mask:
    """The connected parts of a mask that share pixels with a region."""
    import cv2

    _, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    shared = np.unique(part[region & mask])
    return np.isin(part, shared[shared > 0])


def overlap(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0
