"""What is said of a database that cannot be reached."""

from __future__ import annotations

import psycopg
import pytest

from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.store import migrate, reaching
from orchestrator.store.database import parse_url

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (
            f"{AT}Connection refused\n\tIs the server running on that host?",
            Unavailable,
            "Connection refused; start it, or correct ORCHESTRATOR_DATABASE_URL",
        ),
        (
            "failed to resolve host 'db': [Errno -2] Name or service not known",
            Unavailable,
            "failed to resolve host 'db': [Errno -2] Name or service not known; correct the host",
        ),
        (
            f'{AT}FATAL:  database "shopp" does not exist',
            InvalidInput,
            'database "shopp" does not exist; make it with createdb and run `orchestrator db',
        ),
        (
            f'{AT}FATAL:  password authentication failed for user "ann"',
            InvalidInput,
            'password authentication failed for user "ann"; correct the user and the password',
        ),
        (f'{AT}FATAL:  role "ann" does not exist', InvalidInput, "correct the user and"),
        (f"{AT}FATAL:  the database system is starting up", Unavailable, "start it, or correct"),
    ],
)
def test_each_refusal_is_told_with_its_cure(
    said: str, kind: type[OrchestratorError], sentence: str
) -> None:
    told = reaching.unreached("postgresql://ann:***@db/shop", psycopg.OperationalError(said))

    assert type(told) is kind, "waiting helps, or it does not"
    assert sentence in str(told)
    assert str(told).startswith("the database postgresql://ann:***@db/shop cannot be reached: ")


def test_a_server_is_asked_once(database_url: str) -> None:
    migrate.look(database_url)

    wrong = parse_url(database_url).set(database="nowhere", drivername="postgresql")
    with pytest.raises(InvalidInput, match="make it with createdb"):
        migrate.look(wrong.render_as_string(hide_password=False))
    with pytest.raises(Unavailable, match="start it"):
        migrate.look("postgresql://127.0.0.1:1/shop")
