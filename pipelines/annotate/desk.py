"""What the annotation page asks for, without HTTP: label maps under given prompts, over one frame and over the clip."""

import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.artifacts import BACKGROUND, Flow, Labels, Video
from pipelines.errors import InputError, OsnError
from pipelines.palette_png import palette
from pipelines.progress import Progress, Silent
from pipelines.segmentation.prompted import Prompter, apply_prompts, edited, predictor_of
from pipelines.segmentation.prompts import Base, NamedObject, ObjectPrompt, PromptFile
from pipelines.stage import digest

MASKS_KEPT = 256


@dataclass
class ClipRun:
    """A run over the whole clip, in a thread of its own."""

    key: str
    done: int = 0
    total: int = 0
    labels: Labels | None = None
    error: str | None = None

    def described(self) -> dict[str, Any]:
        return {"key": self.key, "done": self.done, "total": self.total, "ready": self.labels is not None, "error": self.error}


@dataclass
class Desk:
    """The video, its automatic result, and the prompts that are worked on."""

    video: Video
    flow: Flow
    automatic: Labels | None
    path: Path
    """Where the prompts file is saved."""
    model: str | None = None
    """Weights of the learned model that answers points and boxes; none: motion and colour do."""
    device: str = "cpu"
    prompter: Prompter = field(init=False)
    clip: ClipRun | None = None
    _masks: dict[str, np.ndarray] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.prompter = Prompter(self.video, self.flow, self.automatic, predictor_of(self.model, self.device))

    def described(self) -> dict[str, Any]:
        """All that the page needs to start."""
        return {
            "frames": self.video.n_frames,
            "fps": self.video.fps,
            "width": self.video.width,
            "height": self.video.height,
            "automatic": [] if self.automatic is None else list(self.automatic.names),
            "palette": palette().tolist(),
            "prompts": self.start().model_dump(mode="json"),
            "path": str(self.path),
        }

    def start(self) -> PromptFile:
        """The saved prompts, or an empty file; either with a name for every object that there is."""
        prompts = PromptFile(width=self.video.width, height=self.video.height)
        if self.path.is_file():
            prompts = PromptFile.load(self.path).fitted(self.video.width, self.video.height, self.video.n_frames)
        return prompts.model_copy(update={"model": self.model, "objects": self._named(prompts)})

    def _named(self, prompts: PromptFile) -> tuple[NamedObject, ...]:
        """The page has a row for each name: also for automatic and prompted objects that the file says no name of."""
        automatic = {} if self.automatic is None else dict(enumerate(self.automatic.names[1:], start=1))
        prompted = {k: f"object {k}" for k in prompts.prompted}
        # Under the base `nothing` an automatic object's number may be another object's.
        names = automatic | prompted if prompts.base is Base.NOTHING else prompted | automatic
        names |= {one.id: one.name for one in prompts.objects}
        return tuple(NamedObject(id=k, name=names[k]) for k in sorted(names))

    def parsed(self, content: object) -> PromptFile:
        """Prompts that the page sent.

        Raises InputError: not of the right form, or not for this video.
        """
        prompts = PromptFile.parse(content, "what the page sent")
        return prompts.fitted(self.video.width, self.video.height, self.video.n_frames)

    def frame_labels(self, prompts: PromptFile, t: int) -> UInt8[np.ndarray, "H W"]:
        """Label map of one frame (ids of the prompts file): from the run over the clip if there is one of these prompts,
        else only what the frame's own prompts say.

        Raises InputError: there is no such frame.
        """
        if not 0 <= t < self.video.n_frames:
            raise InputError(f"there is no frame {t}, only 0 to {self.video.n_frames - 1}")
        with self._lock:
            clip = self.clip
            if clip is not None and clip.labels is not None and clip.key == key_of(prompts):
                return clip.labels.maps[t]
            return self._own_labels(prompts, t)

    def _own_labels(self, prompts: PromptFile, t: int) -> UInt8[np.ndarray, "H W"]:
        one = None if self.automatic is None else Labels(self.automatic.maps[t : t + 1], self.automatic.names)
        labels = edited(prompts, one, (1, self.video.height, self.video.width))[0]
        hint = one.maps[0] if one is not None else None
        for prompt in (p for k in prompts.prompted for p in prompts.of_object(k) if p.frame == t):
            mask = self._mask(prompt, hint if prompts.base == "nothing" else labels, prompts)
            labels[(labels == prompt.object) & ~mask] = BACKGROUND
            labels[mask] = prompt.object
        return labels

    def _mask(self, prompt: ObjectPrompt, current: np.ndarray | None, prompts: PromptFile) -> np.ndarray:
        """Answers to single prompts are remembered: moving through the frames, or a click on another object, keeps them."""
        below = "" if current is None else digest([current.shape, current.tobytes().hex()])
        key = digest([prompt.model_dump(mode="json"), prompts.base, below])
        if key not in self._masks:
            while len(self._masks) >= MASKS_KEPT:
                del self._masks[next(iter(self._masks))]
            self._masks[key] = self.prompter.mask(prompt, current, prompts.base)
        return self._masks[key]

    def follow(self, prompts: PromptFile) -> ClipRun:
        """Start a run over the clip; an older one's result is dropped when it comes."""
        run = ClipRun(key_of(prompts))
        with self._lock:
            self.clip = run
        threading.Thread(target=self._follow, args=(prompts, run), daemon=True).start()
        return run

    def _follow(self, prompts: PromptFile, run: ClipRun) -> None:
        try:
            labels = apply_prompts(prompts, self.prompter, progress=_Counting(run), numbered=False)
        except Exception as error:
            # The page waits for one or the other; an error that nobody foresaw must not leave it waiting.
            run.error = str(error) if isinstance(error, OsnError) else f"unexpected {type(error).__name__}: {error}"
        else:
            run.labels = labels

    def save(self, prompts: PromptFile) -> Path:
        prompts.save(self.path)
        return self.path


def key_of(prompts: PromptFile) -> str:
    """Content key of what decides the label maps (names do not)."""
    return digest(prompts.model_dump(mode="json", exclude={"objects"}))


def overlay_png(labels: UInt8[np.ndarray, "H W"]) -> bytes:
    """A label map as a palette PNG whose background is transparent."""
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(palette().ravel().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=BACKGROUND)
    return stream.getvalue()


class _Counting(Silent, Progress):
    """Progress that a page can ask for."""

    def __init__(self, run: ClipRun) -> None:
        self.run = run

    def task(self, description: str, total: int) -> Any:
        from contextlib import nullcontext

        self.run.total += total

        def advance(steps: int) -> None:
            self.run.done += steps

        return nullcontext(advance)
