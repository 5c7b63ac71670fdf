"""Finding the objects: motion segmentation, prompts, mask refinement and propagation."""
