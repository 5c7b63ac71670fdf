"""Which of the sampled scenes a command is about: one text, the same for rendering, export and viewing.

best                the sample with the highest score
7                   one sample by its index
0,3,9               several
diverse:8           the first 8: samples are ordered so that the first m are a diverse subset
scales:0.8,1.3      a combination of one's own, one scale per object in the scene's order, without the background
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import Samples
from pipelines.errors import ReconstructionError, UsageError

FORMS = "'best', an index, several indices '0,3,9', 'diverse:N', or 'scales:a,b,...'"


@dataclass(frozen=True)
class ChosenScene:
    """One scale combination; `index` and `score` are those of the sample, None for a combination of one's own."""

    name: str
    scale: Float[np.ndarray, " K"]
    index: int | None
    score: float | None


def names_samples(text: str) -> bool:
    """Whether a text is about sampled scenes at all, not about scales of a person's own."""
    return not text.strip().startswith("scales:")


def choose_scenes(text: str, samples: Samples | None, n_objects: int) -> list[ChosenScene]:
    """The scenes that a text names, in its order. n_objects: without the background.

    Raises UsageError for a text that is none of the forms or names what is not there, ReconstructionError when there are
    no samples.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "scales" and rest:
        return [_own_combination(rest, n_objects)]
    if samples is None or len(samples.score) == 0:
        raise ReconstructionError(
            "there are no sampled scenes to choose from: see the outcome of `osn sample`, or give scales:..."
        )
    if text.strip() == "best":
        return [_sample(int(np.argmax(samples.score)), samples)]
    if kind == "diverse":
        count = _whole_number(rest, text)
        if count < 1:
            raise UsageError(f"sample {text!r} asks for {count} scenes, expected at least 1")
        return [_sample(i, samples) for i in range(min(count, len(samples.score)))]
    # One named twice is one scene: its files have one name.
    named = dict.fromkeys(_whole_number(part, text) for part in text.split(","))
    return [_sample(i, samples) for i in named]


def _whole_number(part: str, text: str) -> int:
    try:
        return int(part)
    except ValueError:
        raise UsageError(f"sample {text!r} is not understood, expected {FORMS}") from None


def _sample(index: int, samples: Samples) -> ChosenScene:
    if not 0 <= index < len(samples.score):
        raise UsageError(f"sample {index} does not exist, expected 0 to {len(samples.score) - 1} (osn sample --n draws more)")
    return ChosenScene(f"sample_{index:04d}", samples.scale[index], index, float(samples.score[index]))


def _own_combination(rest: str, n_objects: int) -> ChosenScene:
    try:
        scales = [float(part) for part in rest.split(",")]
    except ValueError:
        raise UsageError(f"scales {rest!r} are not numbers, expected {n_objects} of them separated by commas") from None
    if len(scales) != n_objects or not all(0 < s < np.inf for s in scales):
        raise UsageError(
            f"scales {rest!r} do not fit, expected {n_objects} positive numbers, one per object without background"
        )
    return ChosenScene("own_scales", np.array([1.0, *scales]), None, None)
