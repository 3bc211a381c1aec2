"""Let executions have a deadline: events that become due later, and starts that write them."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0005"


def upgrade() -> None:
    """Run the statements of the SQL file beside this one."""
    statements = Path(__file__).with_suffix(".sql").read_text("utf-8")
    # the driver's own execute: without parameters it leaves percent signs alone
    op.get_bind().connection.cursor().execute(statements)
