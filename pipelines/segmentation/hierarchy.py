"""A tree of ever larger regions of one frame, made from superpixels that look and move alike; a click picks one of them.

Symbols: S superpixels, E pairs of neighbouring superpixels, F features (flow at several strides, colour), H x W pixels.

Regions merge in the order of Ward's criterion per length of common border. The regions above a clicked superpixel are nested
candidates for the object; the one whose border is distinct even where it is weakest, compared with its inside, wins.
Sources: Salembier and Garrido, "Binary Partition Tree as an Efficient Representation for Image Processing" (TIP 2000); Ward,
"Hierarchical Grouping to Optimize an Objective Function" (JASA 1963).
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import Flow, Video


@dataclass(frozen=True)
class HierarchyOptions:
    """Flow differences are in units of `flow_tolerance_px` per frame."""

    superpixels: int = 1200
    compactness: float = 1.2
    flow_tolerance_px: float = 0.5
    colour_weight: float = 0.06
    """Of a difference of one in CIE Lab."""
    max_strides: int = 3
    min_area_share: float = 5e-4
    max_area_share: float = 0.4
    weakest_percent: float = 20.0
    """A border counts as distinct as this percentile of it is."""
    inner_floor: float = 0.5
    """Added to the differences inside a region, so that tiny uniform regions do not win."""


@dataclass(frozen=True)
class Hierarchy:
    """The tree of one frame. Nodes 0 ... S-1 are superpixels; a parent has a larger number than its children."""

    superpixel: Int[np.ndarray, "H W"]
    neighbours: Int[np.ndarray, "E 2"]
    border_px: Int[np.ndarray, " E"]
    difference: Float[np.ndarray, " E"]
    parent: Int[np.ndarray, " nodes"]
    """-1 at a root."""
    options: HierarchyOptions

    def ancestors(self, node: int) -> Iterator[int]:
        """The node itself, then every larger region that holds it."""
        while node != -1:
            yield node
            node = int(self.parent[node])

    def members(self, node: int) -> Bool[np.ndarray, " S"]:
        """The superpixels of a region."""
        inside = np.zeros(len(self.parent), bool)
        inside[node] = True
        for child in range(node - 1, -1, -1):
            inside[child] = self.parent[child] != -1 and inside[self.parent[child]]
        return inside[: int(self.superpixel.max()) + 1]

    def region_at(self, column: int, row: int, without: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        """The most distinct region about a pixel that holds no pixel of `without`; the superpixel itself if there is none."""
        area = self.superpixel.size
        leaf = int(self.superpixel[row, column])
        best, best_score = self.superpixel == leaf, -np.inf
        for node in self.ancestors(leaf):
            members = self.members(node)
            region = members[self.superpixel]
            if (region & without).any() or region.sum() > self.options.max_area_share * area:
                break
            if region.sum() < self.options.min_area_share * area:
                continue
            score = self._distinctness(members)
            if score > best_score:
                best, best_score = region, score
        return best

    def region_in(self, box_px: tuple[float, float, float, float]) -> Bool[np.ndarray, "H W"]:
        """The region whose own bounding box is the most like a given one (x0, y0, x1, y1 of the edges)."""
        low, high = self._extents()
        x0, y0, x1, y1 = box_px
        common = np.minimum(high, [x1, y1]) - np.maximum(low, [x0, y0])
        inner = np.prod(np.maximum(common, 0.0), axis=1)
        union = np.prod(high - low, axis=1) + (x1 - x0) * (y1 - y0) - inner
        return self.members(int(np.argmax(inner / union)))[self.superpixel]

    def _extents(self) -> tuple[Float[np.ndarray, "nodes 2"], Float[np.ndarray, "nodes 2"]]:
        """Least and greatest x, y of the edges of every node's pixels."""
        n, height, width = len(self.parent), *self.superpixel.shape
        low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
        row, column = np.indices((height, width))
        corners = np.stack([column, row], -1).reshape(-1, 2).astype(float)
        np.minimum.at(low, self.superpixel.ravel(), corners)
        np.maximum.at(high, self.superpixel.ravel(), corners + 1)
        for node, parent in enumerate(self.parent):
            if parent != -1:
                low[parent], high[parent] = np.minimum(low[parent], low[node]), np.maximum(high[parent], high[node])
        return low, high

    def _distinctness(self, members: Bool[np.ndarray, " S"]) -> float:
        ends = members[self.neighbours]
        border, inner = ends[:, 0] != ends[:, 1], ends.all(1)
        if not border.any() or not inner.any():
            return -np.inf
        inside = float(np.average(self.difference[inner], weights=self.border_px[inner]))
        return float(np.percentile(self.difference[border], self.options.weakest_percent)) / (inside + self.options.inner_floor)


def build_hierarchy(video: Video, flow: Flow | None, t: int, options: HierarchyOptions) -> Hierarchy:
    """The tree of frame t; without flow it knows colours only."""
    image = video.frame(t)
    superpixel = superpixels(image, options)
    colour = colours(image) * options.colour_weight
    motion = flow_features(flow, t, options) if flow is not None else []
    features = np.concatenate([*motion, colour], -1)
    n = int(superpixel.max()) + 1
    count = np.bincount(superpixel.ravel(), minlength=n).astype(float)
    flat = superpixel.ravel()
    mean = np.stack([np.bincount(flat, f.ravel(), n) for f in np.moveaxis(features, -1, 0)], 1) / count[:, None]
    neighbours, border_px = touching(superpixel)
    difference = np.minimum(np.linalg.norm(mean[neighbours[:, 0]] - mean[neighbours[:, 1]], axis=1), 3.0)
    return Hierarchy(superpixel, neighbours, border_px, difference, merged(mean, count, neighbours, border_px), options)


def colours(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """CIE Lab."""
    import cv2

    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def superpixels(image: UInt8[np.ndarray, "H W 3"], options: HierarchyOptions) -> Int[np.ndarray, "H W"]:
    """SLIC (Achanta et al., TPAMI 2012) on colours whose fine texture was smoothed away."""
    import cv2
    from skimage.segmentation import slic

    smooth = cv2.bilateralFilter(colours(image), 7, 15, 4)
    return slic(
        smooth / 10,
        n_segments=options.superpixels,
        compactness=options.compactness,
        channel_axis=-1,
        convert2lab=False,
        start_label=0,
        max_num_iter=5,
    )


def flow_features(flow: Flow, t: int, options: HierarchyOptions) -> list[Float[np.ndarray, "H W 2"]]:
    """Flow per frame to the nearest frames on both sides, in units of its tolerance; all strides together weigh as one."""
    others = sorted((u for start, u in flow.pairs if start == t), key=lambda u: (abs(u - t), u))[: 2 * options.max_strides]
    weight = 1.0 / (options.flow_tolerance_px * np.sqrt(max(len(others), 1)))
    return [flow.read(t, u)[0] * np.float32(weight / abs(u - t)) for u in others]


def touching(superpixel: Int[np.ndarray, "H W"]) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, " E"]]:
    """Pairs of superpixels that touch, and the length of their common border."""
    across = np.stack([superpixel[:, :-1].ravel(), superpixel[:, 1:].ravel()], 1)
    down = np.stack([superpixel[:-1].ravel(), superpixel[1:].ravel()], 1)
    pairs = np.concatenate([across, down])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0, return_counts=True)


def merged(
    mean: Float[np.ndarray, "S F"],
    count: Float[np.ndarray, " S"],
    neighbours: Int[np.ndarray, "E 2"],
    border_px: Int[np.ndarray, " E"],
) -> Int[np.ndarray, " nodes"]:
    """Merge neighbouring regions, the most alike first; returns each node's parent."""
    n = len(mean)
    means, counts = list(mean), list(count)
    touches: list[dict[int, int]] = [{} for _ in range(n)]
    for (a, b), length in zip(neighbours.tolist(), border_px.tolist(), strict=True):
        touches[a][b] = touches[b][a] = length
    parent = [-1] * n
    queue: list[tuple[float, int, int]] = []

    def offer(a: int, b: int) -> None:
        rise = float(np.square(means[a] - means[b]).sum()) * counts[a] * counts[b] / (counts[a] + counts[b])
        heapq.heappush(queue, (rise / touches[a][b], a, b))

    for a, b in neighbours.tolist():
        offer(a, b)
    while queue:
        _, a, b = heapq.heappop(queue)
        if parent[a] != -1 or parent[b] != -1:
            continue
        node = len(means)
        parent[a] = parent[b] = node
        parent.append(-1)
        means.append((means[a] * counts[a] + means[b] * counts[b]) / (counts[a] + counts[b]))
        counts.append(counts[a] + counts[b])
        shared: dict[int, int] = {}
        for old in (a, b):
            for other, length in touches[old].items():
                if parent[other] == -1:
                    shared[other] = shared.get(other, 0) + length
        touches.append(shared)
        for other, length in shared.items():
            touches[other][node] = length
            offer(node, other)
    return np.array(parent)
