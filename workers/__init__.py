"""Short names for a checkout; what is installed is `orchestrator.workers`."""
