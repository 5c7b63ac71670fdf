"""The loss of one training step, in the first stage (every object alone) and afterwards (all composited)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.scene import losses
from pipelines.scene.compositing import RaySamples, alone, composite
from pipelines.scene.model import SceneModel
from pipelines.scene.pixels import Batch
from pipelines.train import TrainConfig


@dataclass(frozen=True)
class Losses:
    """Terms of the loss before weighting, and their weighted sum."""

    terms: dict[str, Tensor]
    total: Tensor


def alone_losses(config: TrainConfig, model: SceneModel, samples: RaySamples, batch: Batch) -> Losses:
    """Every object on its own pixels; moving objects are pushed out of the rays on which the background is seen.

    A moving object may stand there behind something static, so the push is linear in its opacity, while its own pixels pull
    with a logarithm: where other frames show it, they win.
    """
    images = alone(samples)
    own = batch.column[:, None]
    rgb = images.rgb.gather(1, own[..., None].expand(-1, 1, 3))[:, 0]
    opacity = images.opacity.gather(1, own)[:, 0]
    everywhere = torch.ones_like(batch.coloured)
    terms = {
        "colour": losses.colour_loss(rgb, batch.rgb, batch.coloured),
        "segmentation": losses.opacity_loss(opacity, everywhere),
        "outside": losses.weighted_mean(images.opacity[:, 1:].sum(1), (batch.column == 0).to(opacity.dtype)),
    }
    return _weighted(config, model, samples, batch, terms)


def composite_losses(
    config: TrainConfig, model: SceneModel, samples: RaySamples, batch: Batch, scale: Float[Tensor, "1 K"]
) -> Losses:
    """All objects together under one scale combination."""
    image = composite(samples, scale)
    known: Bool[Tensor, " n"] = batch.column < scale.shape[1]
    terms = {
        "colour": losses.colour_loss(image.rgb[0], batch.rgb, batch.coloured),
        "segmentation": losses.segmentation_loss(image.weights[0], batch.column, known),
        "hidden": _hidden_opacity(samples, batch),
    }
    return _weighted(config, model, samples, batch, terms)


def _depth_of_seen(
    samples: RaySamples, batch: Batch, target: Float[Tensor, " n"], counted: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Depth of the seen object rendered alone (in its own unit, so the scales do not matter) against its target."""
    rays = torch.arange(len(batch.column), device=batch.column.device)
    own = batch.column.clamp(max=samples.depth.shape[1] - 1)
    return losses.depth_loss(samples.own_weights()[rays, own], samples.depth[rays, own], target, counted)


def _hidden_opacity(samples: RaySamples, batch: Batch) -> Float[Tensor, ""]:
    """Mean opacity of moving objects on rays where something else is seen.

    Behind what is seen nothing contradicts them, so without this, fragments that no frame shows would grow there. It is linear
    and weak: an object that other frames do show there stays.
    """
    opacity = samples.own_weights().sum(-1)[:, 1:]
    others = batch.column[:, None] != torch.arange(1, opacity.shape[1] + 1, device=opacity.device)
    return (opacity * others).sum(1).mean()


def _weighted(config: TrainConfig, model: SceneModel, samples: RaySamples, batch: Batch, terms: dict[str, Tensor]) -> Losses:
    """Add the terms that concern every object by itself, whatever the scales, and sum up."""
    alone_weights = samples.own_weights()
    terms = terms | {
        "depth": _depth_of_seen(samples, batch, batch.depth, batch.depth_weight),
        "guess": _depth_of_seen(samples, batch, batch.guess, (batch.guess > 0).to(batch.guess.dtype)),
        "distortion": losses.distortion_loss(alone_weights, samples.depth, model.extents.expand(len(batch.column), -1)).mean(),
    }
    weights = {
        "colour": 1.0,
        "depth": config.depth_weight,
        "guess": config.guess_weight,
        "hidden": config.hidden_weight,
        "segmentation": config.segmentation_weight,
        "outside": config.outside_weight,
        "distortion": config.distortion_weight,
    }
    return Losses(terms, torch.stack([weights[name] * term for name, term in terms.items()]).sum())
