"""Everything that speaks Celery, and nothing else."""
