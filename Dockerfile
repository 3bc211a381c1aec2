# One image for worker, beat, Flower and the command line; docker-compose.yml says which is which.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/orchestrator orchestrator

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE celeryconfig.py ./
COPY orchestrator orchestrator
COPY workers workers
COPY examples examples
# Editable: the examples and celeryconfig.py are run from here, and so is what they import.
RUN pip install -c constraints.txt -e '.[flower]'

USER orchestrator
CMD ["celery", "-A", "workers.app", "worker", "-n", "worker@%h", "-l", "INFO"]
