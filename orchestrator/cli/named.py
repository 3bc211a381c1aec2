"""A group of commands that names the one that was probably meant, whatever click does itself."""

from __future__ import annotations

import click

from orchestrator.flow.functions import near_miss


class Named(click.Group):
    """See the module's text."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = near_miss(args[0], self.list_commands(ctx))
            if not hint or hasattr(error, "possibilities"):  # click 8.5 names them itself
                raise
            sentence = f"{error.message.rstrip('.')}{hint}"
            raise click.UsageError(sentence, ctx=error.ctx) from error
