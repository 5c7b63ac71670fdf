"""Comparing results with the truth: images, depth, labels, poses, valid sets, meshes."""
