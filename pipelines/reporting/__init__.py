"""The report of a workspace: one self-contained HTML page that shows what was found, and how far it can be trusted."""
