"""PgBouncer in front of a PostgreSQL server, giving out its sessions by transaction."""

from __future__ import annotations

import os
import shutil

import psycopg
from sqlalchemy.engine import make_url

from tests.services.postgres import server_account
from tests.services.processes import Child, free_port, private_folder, remove_folder

#: As few sessions for as many connections, so that they are shared.
_SESSIONS = 6


def installed() -> str | None:
    """The program; Debian has it where a plain user's PATH does not lead."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PrivatePooler:
    """A PgBouncer of the test's own before the database of an address."""

    def __init__(self, database_url: str) -> None:
        program = installed()
        if program is None:
            raise FileNotFoundError("no PgBouncer is installed on this machine")
        self._program = program
        self._account = server_account()
        self.folder = private_folder("pb", owner=self._account.pw_uid if self._account else None)
        self.port = free_port()
        self._server = make_url(database_url)
        here = self._server.set(host="127.0.0.1", port=self.port)
        self.url = here.render_as_string(hide_password=False)
        self._child: Child | None = None

    def start(self) -> PrivatePooler:
        server = self._server
        where = f"host={server.host} port={server.port or 5432} user={server.username}"
        if server.password:
            where += f" password={server.password}"
        (self.folder / "ini").write_text(
            f"[databases]\n* = {where}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {_SESSIONS}\nmax_client_conn = 200\n"
        )
        account = self._account
        self._child = Child(
            "private PgBouncer",
            [self._program, self.folder / "ini"],
            log_file=self.folder / "log",
            env={"PATH": os.defpath},
            cwd=self.folder,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
        )
        self._child.wait_for(self.answers, timeout=20, what="the first answer")
        return self

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        """End it and remove its folder."""
        if self._child is not None and self._child.running():
            self._child.kill9()
        remove_folder(self.folder)
