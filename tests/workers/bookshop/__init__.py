"""A user's project: an application configured by an object, tasks found by autodiscovery, flows."""
