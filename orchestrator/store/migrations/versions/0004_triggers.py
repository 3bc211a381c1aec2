"""Create what messages of foreign programs need: inbox, replies, their place in quarantine."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the statements of the SQL file beside this one."""
    statements = Path(__file__).with_suffix(".sql").read_text("utf-8")
    # the driver's own execute: without parameters it leaves percent signs alone
    op.get_bind().connection.cursor().execute(statements)
