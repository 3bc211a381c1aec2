"""A process forked from one with threads, as the pool's processes are, uses nothing of theirs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from tests.services.workers import ROOT, environment

# A thread is in the middle of a statement on its hot connection while its process forks. The child
# has the thread's data but not the thread: giving its connection back would wait for ever for a
# lock that nobody frees, or speak on the parent's socket.
_FORKED_IN_A_STATEMENT = """
import os, sys, threading, time
from orchestrator.store.database import Database

database = Database(sys.argv[1])
entered = threading.Event()

def sleep(connection):
    entered.set()
    return connection.execute("SELECT 'mine', pg_sleep(1)").fetchone()[0]

answers = []
thread = threading.Thread(target=lambda: answers.append(database.run(sleep)))
database.run(lambda connection: connection.execute("SELECT 1"))
thread.start()
entered.wait()
time.sleep(0.2)  # the statement is on its way
child = os.fork()
if not child:
    database.close_after_fork()
    one = database.run(lambda connection: connection.execute("SELECT 1").fetchone()[0])
    os._exit(0 if one == 1 else 1)
_, status = os.waitpid(child, 0)
thread.join()
after = database.run(lambda connection: connection.execute("SELECT 2").fetchone()[0])
print(os.waitstatus_to_exitcode(status), answers, after)
"""


def test_fork_in_the_middle_of_a_statement_harms_neither_parent_nor_child(
    empty_database_url: str,
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _FORKED_IN_A_STATEMENT, empty_database_url],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = program.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()

    assert said == "0 ['mine'] 2\n"
