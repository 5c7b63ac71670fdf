"""Comparing results with the truth, and with what was filmed: images, depth, labels, poses, valid sets, meshes."""
