"""From tracks to geometry: intrinsics, per-object structure from motion, and what tells a right answer from a wrong one."""
