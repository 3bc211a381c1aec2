"""What to say of a database that cannot be reached, and whether waiting for it may help.

A refused connection has no code in psycopg, only what the server and the network said of it.
"""

from __future__ import annotations

import re

from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable

_VARIABLE = "ORCHESTRATOR_DATABASE_URL"
#: Words of a refusal, and what to do about it.
_WRONG_ADDRESS = {
    r'database ".*" does not exist': (
        f"make it with createdb and run `orchestrator db upgrade`, or correct {_VARIABLE}"
    ),
    r"password authentication failed|no password supplied|role \".*\" does not exist"
    r"|no pg_hba.conf entry": f"correct the user and the password in {_VARIABLE}",
}
_MAY_COME = {
    "failed to resolve host": f"correct the host in {_VARIABLE}",
    "": f"start it, or correct {_VARIABLE}",
}


def unreached(address: str, error: BaseException) -> OrchestratorError:
    """Return what to raise when a connection fails.

    Args:
        address: as messages may show it.

    Returns:
        `Unavailable` if the database may come, `InvalidInput` if it refuses this address, and will
        whenever it is asked.
    """
    kind = InvalidInput if _words(_WRONG_ADDRESS, error) is not None else Unavailable
    return kind(f"the database {address} cannot be reached: {reason(error)}; {cure(error)}")


def reason(error: BaseException) -> str:
    """Return what a server or the network said, in one line and without where it was said."""
    line = next(iter(str(error).strip().splitlines()), "no reason given")
    said = re.sub(r"^connection failed: (connection to .*? failed: )?", "", line)
    return " ".join(said.removeprefix("FATAL: ").split())


def cure(error: BaseException) -> str:
    """Return what to do about a failed connection."""
    cures = {**_WRONG_ADDRESS, **_MAY_COME}
    return cures[_words(cures, error) or ""]


def _words(cures: dict[str, str], error: BaseException) -> str | None:
    return next((words for words in cures if re.search(words, str(error))), None)
