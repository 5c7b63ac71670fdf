"""The learned scene: object fields, rays, compositing, scale zone, scale network, training."""
