"""Following points through a video."""
