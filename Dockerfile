# One image for worker, beat, Flower and the command line; docker-compose.yml says which is which.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/orchestrator orchestrator

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY orchestrator orchestrator
COPY examples examples
# Editable: the examples are run from here.
RUN pip install -c constraints.txt -e '.[flower]'

USER orchestrator
CMD ["celery", "-A", "orchestrator.workers.app", "worker", "-n", "worker@%h", "-l", "INFO"]
