"""Camera paths through a scene, and what the filming camera has seen of it."""
