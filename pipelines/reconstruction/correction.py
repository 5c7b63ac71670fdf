"""How the motions correct the masks, where a person did not give them.

The segmentation knows motions over a few frames, from a few tracks; reconstructions know them over the clip. In this order: an
object in doubt is two, if its halves have motions of their own; what moves as a larger object does is a piece of it; strangers
in a mask (`strays`) are an object, if they have a motion of their own; and those that move as another object does are given to
that one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from pipelines.artifacts import BACKGROUND, MAX_OBJECTS, UNKNOWN, Labels, ObjectModel, SfmStatus, Tracks, Video
from pipelines.reconstruction.bundle import Structure
from pipelines.reconstruction.grow import place_points
from pipelines.reconstruction.model import coloured, to_model
from pipelines.reconstruction.pieces import SAME_BODY, as_piece, bodies_of, body_of, misfit_under
from pipelines.reconstruction.sightings import Sightings, spread_tracks
from pipelines.reconstruction.strays import LEFT_OUT_SHARE, Strays, corrected_maps, find_strays, missing, places
from pipelines.reconstruction.waist import halves_in_time

MIN_PART_TRACKS = 60
"""Each of the two bodies that an object is split into has so many tracks."""
HALVED_TRACKS = 800
"""So many tracks are compared with each other to find the halves; the others follow their neighbours."""
MIN_STRANGERS = 30
"""Fewer strangers in one place are no object."""
GAINED = 0.25
"""An object that is given so many tracks, as a share of those that it had, is reconstructed anew."""
REACH = 0.05
"""Of the width: strangers this near to each other are in one place."""


@dataclass(frozen=True)
class Reconstructed:
    """One model per object, and the label maps and tracks that they rest on."""

    models: tuple[ObjectModel, ...]
    labels: Labels
    tracks: Tracks

    def with_models(self, changed: Mapping[int, ObjectModel]) -> "Reconstructed":
        return replace(self, models=tuple(changed.get(model.object_id, model) for model in self.models))


@dataclass(frozen=True)
class Corrector:
    """What the corrections need besides."""

    video: Video
    focal_px: float
    max_error_px: float
    seed: int
    solve: Callable[[int, Labels, Tracks], ObjectModel]
    """An object's reconstruction with its verdict."""
    note: Callable[[str], None]

    @property
    def principal_px(self) -> Float[np.ndarray, "2"]:
        return np.array([self.video.width / 2, self.video.height / 2])

    def corrected(self, found: Reconstructed) -> Reconstructed:
        """All corrections. Numbers of objects stay; new ones come after them."""
        return self.without_strays(self.founded(self.joined(self.split(found))))

    def split(self, found: Reconstructed) -> Reconstructed:
        """Objects of which each half of the tracks has a motion of its own become two.

        The halves of an object in doubt are those that prefer different motions; those of an object with a waist (`waist`) are
        its earlier and its later tracks.
        """
        for model in found.models[1:]:
            sightings = self._sightings(found.tracks, model.object_id)
            if sightings.n_tracks < 2 * MIN_PART_TRACKS or len(found.models) == MAX_OBJECTS:
                continue
            parted = None
            if model.status is not SfmStatus.OK:
                parted = self._split(found, model.object_id, halves(sightings, self.video.width, self.seed))
            if parted is None and (half := halves_in_time(sightings)) is not None:
                parted = self._split(found, model.object_id, half)
            found = parted or found
        return found

    def _split(self, found: Reconstructed, k: int, half: Int[np.ndarray, " P"]) -> Reconstructed | None:
        """Object k as two: the larger half keeps its number. None where it is one."""
        smaller = np.flatnonzero(half == np.bincount(half, minlength=2).argmin())
        if len(smaller) < MIN_PART_TRACKS:
            return None
        new = len(found.models)
        parted = self._moved(found, k, Strays(smaller, np.full(len(smaller), new)), (*found.labels.names, f"object {new}"))
        parts = [self.solve(j, parted.labels, parted.tracks.of_object(j)) for j in (k, new)]
        if not all(part.usable for part in parts) or all(part.status is not SfmStatus.OK for part in parts):
            return None
        misfits = [misfit_under(one, other, self.focal_px, self.principal_px) for one, other in (parts, parts[::-1])]
        # Infinite: they are hardly seen together, as two stretches of one object's way might be.
        if not all(SAME_BODY < misfit < np.inf for misfit in misfits):
            return None
        self.note(f"{found.labels.names[k]} was two objects: its mask is split, the smaller part is object {new}")
        return replace(parted, models=(*parted.with_models({k: parts[0]}).models, parts[1]))

    def joined(self, found: Reconstructed) -> Reconstructed:
        """What moves as a larger object does is a part of it. Such bodies are reconstructed from all parts."""
        models, labels = found.models, found.labels
        sizes = np.bincount(labels.maps.ravel(), minlength=labels.n_objects).tolist()
        bodies = bodies_of(models, sizes, self.focal_px, self.principal_px)
        whole = replace(found, labels=labels.joined(bodies), tracks=found.tracks.joined(bodies))
        changed = {piece: as_piece(models[piece], body, labels.names[body]) for piece, body in bodies.items()}
        for body in sorted(set(bodies.values()) - {BACKGROUND}):
            model = self.solve(body, whole.labels, whole.tracks.of_object(body))
            # Where the parts together are harder to explain, the motion of the largest one stands for all.
            if model.status is SfmStatus.OK or (models[body].status is not SfmStatus.OK and model.usable):
                changed[body] = model
        return whole.with_models(changed)

    def founded(self, found: Reconstructed) -> Reconstructed:
        """Strangers in a mask that no motion explains become an object where they have a motion of their own."""
        for host in [model for model in found.models if model.usable]:
            for strangers in self._strangers(found, host.object_id):
                if len(found.models) < MAX_OBJECTS:
                    found = self._founded(found, host.object_id, strangers) or found
        return found

    def _strangers(self, found: Reconstructed, k: int) -> list[Int[np.ndarray, " n"]]:
        """Ids of object k's tracks that no motion explains, in groups that are large enough for an object."""
        sightings = self._sightings(found.tracks, k)
        others = {m.object_id: m for m in found.models if m.usable and m.object_id != k}
        strays = find_strays(sightings, found.models[k], others, self.focal_px)
        groups = places(sightings, strays.tracks[strays.owner == UNKNOWN], REACH * self.video.width)
        least = MIN_STRANGERS if k == BACKGROUND else max(MIN_STRANGERS, LEFT_OUT_SHARE * sightings.n_tracks)
        own = np.flatnonzero(found.tracks.object_id == k)
        return [own[group] for group in groups if len(group) >= least]

    def _founded(self, found: Reconstructed, k: int, strangers: Int[np.ndarray, " n"]) -> Reconstructed | None:
        """These tracks of object k as an object, in doubt: its mask is as coarse as they are, and nothing else speaks for it.

        None where they are no object; if they are the background's, that is told. From a mover's mask strangers are left out
        anyway, so there a motion in doubt is better than none. On the background, shadows have such motions.
        """
        new, name = len(found.models), found.labels.names[k]
        # Object k may have lost tracks to another object since the strangers were found.
        group = np.flatnonzero(np.isin(np.flatnonzero(found.tracks.object_id == k), strangers))
        parted = self._moved(found, k, Strays(group, np.full(len(group), new)), (*found.labels.names, f"object {new}"))
        stranger = self.solve(new, parted.labels, parted.tracks.of_object(new))
        known = [model for model in found.models if model.status in (SfmStatus.OK, SfmStatus.DOUBTFUL)]
        if stranger.status is not SfmStatus.OK and (k == BACKGROUND or not stranger.usable):
            if k == BACKGROUND:
                self.note(missing(self._sightings(found.tracks, k), group, self.principal_px))
            return None
        if body_of(stranger, known, self.focal_px, self.principal_px) is not None:
            return None
        reason = f"{len(group)} tracks of {name} have a motion of their own: see its mask in the report"
        reason += f"; {stranger.reason}" if stranger.reason else ""
        stranger = replace(stranger, status=SfmStatus.DOUBTFUL, reason=reason)
        rest = None if k == BACKGROUND else self.solve(k, parted.labels, parted.tracks.of_object(k))
        host = rest if rest and rest.status is SfmStatus.OK else self._triangulated(found.models[k], parted.tracks)
        return replace(parted, models=(*parted.with_models({k: host}).models, stranger))

    def without_strays(self, found: Reconstructed) -> Reconstructed:
        """Tracks and pixels that another object's motion explains are that object's; points are triangulated anew.

        An object whose tracks have become many more is surer of its motion, and reconstructed again.
        """
        moving = {m.object_id: m for m in found.models if m.usable}
        result, changed = found, set[int]()
        for k, model in moving.items():
            sightings = self._sightings(found.tracks, k)
            strays = find_strays(sightings, model, {j: other for j, other in moving.items() if j != k}, self.focal_px)
            for said in strays.told(found.labels.names, k, sightings, self.principal_px) if k != BACKGROUND else ():
                self.note(said)
            strays = strays.taken_out(sightings.n_tracks, of_background=k == BACKGROUND)
            if len(strays):
                # Numbers of tracks are those of what was found: what came from others is not looked at again.
                maps = corrected_maps(result.labels.maps, k, strays, sightings, self.principal_px)
                object_id = result.tracks.object_id.copy()
                object_id[np.flatnonzero(found.tracks.object_id == k)[strays.tracks]] = strays.owner
                result = replace(
                    result, labels=replace(result.labels, maps=maps), tracks=replace(result.tracks, object_id=object_id)
                )
                changed |= {k, *strays.owner.tolist()}
        return result.with_models({k: self._renewed(moving[k], found, result) for k in changed & set(moving)})

    def _renewed(self, model: ObjectModel, before: Reconstructed, now: Reconstructed) -> ObjectModel:
        """The model of its present tracks; one that was good never becomes doubtful."""
        k = model.object_id
        had, has = (np.count_nonzero(found.tracks.object_id == k) for found in (before, now))
        if k != BACKGROUND and has >= (1 + GAINED) * had:
            anew = self.solve(k, now.labels, now.tracks.of_object(k))
            if anew.status is SfmStatus.OK or (model.status is not SfmStatus.OK and anew.usable):
                return anew
        return self._triangulated(model, now.tracks)

    def _moved(self, found: Reconstructed, k: int, strays: Strays, names: tuple[str, ...]) -> Reconstructed:
        """Some of object k's tracks, and their pixels, as another object's."""
        maps = corrected_maps(found.labels.maps, k, strays, self._sightings(found.tracks, k), self.principal_px)
        object_id = found.tracks.object_id.copy()
        object_id[np.flatnonzero(object_id == k)[strays.tracks]] = strays.owner
        return replace(found, labels=Labels(maps, names), tracks=replace(found.tracks, object_id=object_id))

    def _triangulated(self, model: ObjectModel, tracks: Tracks) -> ObjectModel:
        """The model with the points of its present tracks. A background of assumed depth keeps its points."""
        if model.status is SfmStatus.ASSUMED_DEPTH:
            return model
        sightings = self._sightings(tracks, model.object_id)
        structure = Structure(model.cam_from_obj, np.zeros((sightings.n_tracks, 3)), self.focal_px)
        structure, placed = place_points(sightings, structure, model.registered, self.max_error_px)
        anew = to_model(
            model.object_id, model.status, model.reason, sightings, structure, model.registered, placed, self.principal_px,
            model.quality, self.max_error_px,
        )  # fmt: skip
        return coloured(anew, self.video)

    def _sightings(self, tracks: Tracks, k: int) -> Sightings:
        return Sightings.from_tracks(tracks.of_object(k), self.video.n_frames, self.principal_px)


def halves(sightings: Sightings, width: int, seed: int) -> Int[np.ndarray, " P"]:
    """The two parts (0, 1) of an object's tracks that prefer different motions most."""
    from scipy.spatial import cKDTree

    from pipelines.segmentation import bodies

    chosen = np.sort(spread_tracks(sightings, HALVED_TRACKS, seed))
    few = sightings.of_tracks(chosen)
    visible = few.seen.T
    centred = np.where(visible[..., None], few.xy_px.transpose(1, 0, 2), 0.0) / width
    half = bodies.halves(centred, visible, np.random.default_rng(seed))
    votes = np.zeros((sightings.n_tracks, 2))
    for t in range(sightings.n_frames):
        here, known = np.flatnonzero(sightings.seen[t]), np.flatnonzero(visible[:, t])
        if len(known):
            _, nearest = cKDTree(few.xy_px[t, known]).query(sightings.xy_px[t, here])
            np.add.at(votes, (here, half[known[nearest]]), 1)
    result: Int[np.ndarray, " P"] = votes.argmax(1)
    result[chosen] = half
    return result
