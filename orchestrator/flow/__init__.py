"""Flow graphs, pure: authoring, definition, planning, reading, retry policy, re-runs."""
