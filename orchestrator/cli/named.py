"""A group of commands that names the one that was probably meant, and says of each what it does."""

from __future__ import annotations

import re

import click

from orchestrator.flow.functions import near_miss

_LINE = 62  # characters beside a command's name on a terminal of 80


def brief(command: click.Command) -> str:
    """Return in half a sentence what a command does; click would cut it off in the middle."""
    text = command.get_short_help_str(200).rstrip(".")
    return text if len(text) <= _LINE else re.split("[:;]", text)[0]


class Named(click.Group):
    """See the module's text."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, brief(one)) for name, one in commands if one is not None])

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
