"""Surfaces of the objects, as triangle meshes in each object's own frame and unit."""
