"""The viewer in the browser: one sampled scene after another in motion, and the scales by hand."""
