"""Let a claim use up every message that was wanted before it."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the statements of the SQL file beside this one."""
    statements = Path(__file__).with_suffix(".sql").read_text("utf-8")
    # the driver's own execute: without parameters it leaves percent signs alone
    op.get_bind().connection.cursor().execute(statements)
