"""The terminal: commands, options, progress bars, and the one place where errors become exit codes."""
