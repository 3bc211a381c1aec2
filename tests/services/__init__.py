"""Real services and real processes for the tests.

    processes    children in their own process groups that never outlive the test run
    postgres     PostgreSQL servers of our own, that a test may kill
    rabbitmq     RabbitMQ nodes of our own, that a test may kill and wipe
    redis        Redis servers of our own
    discovery    which server a test session uses: named, found, started, or none
    databases    a fresh migrated database per test
    vhosts       a fresh virtual host per test
    workers      Celery workers and beat as children
    nodes        the same services in the shape pytest-celery expects of containers

The fixtures are in ``tests/conftest.py``.
"""
