"""The command ``dropkit``: reads arguments, calls the library, prints."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import NoReturn

from dropkit.cli import audit, env, explain, listing, predict, report, schedule, status, study, tune
from dropkit.core.errors import DropkitError, InputError, phrase

_COMMANDS = (study, tune, report, status, audit, predict, listing, explain, schedule, env)
_UNREAD = 141  # the exit code that a shell shows for SIGPIPE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every dropkit error does, and not with the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}. See `{self.prog} --help`.\n")


def make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Build the parser of the command line, and return with it those of the subcommands, by name."""
    parser = _Parser(prog="dropkit", description="Dropout for PyTorch: does it help, and where does it act?")
    parser.add_argument("--version", action="version", version=f"dropkit {metadata.version('dropkit')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for command in _COMMANDS:
        command.add(commands)
    return parser, commands.choices


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: what follows ``dropkit``; the process's own by default.

    Returns:
        0 when it worked; 2 for input that breaks a rule; 1 for a run that failed; 130 after Ctrl-C; 141 when nobody reads
        the output any more.
    """
    parsed = argparse.Namespace(command="")
    try:
        _parse(arguments, parsed)
        code = _run(parsed)
        sys.stdout.flush()  # here, where a reader who has gone is caught
        return code
    except InputError as error:
        return _complain(parsed.command, error, 2)
    except DropkitError as error:
        return _complain(parsed.command, error, 2 if isinstance(error, ImportError) else 1)
    except KeyboardInterrupt:
        print(f"dropkit {parsed.command}".rstrip() + ": stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `dropkit list | head -1`, which is no error of anybody's
        return _UNREAD
    except OSError as error:  # disk full, no permission: the user's to mend, and no traceback helps with it
        return _complain(parsed.command, error, 2)


def run() -> NoReturn:
    """Enter from the shell; SIGTERM stops as cleanly as Ctrl-C, and a terminal without a sign shows a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    if code == _UNREAD:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still holds goes there when it ends
    sys.exit(code)


def _parse(arguments: Sequence[str] | None, parsed: argparse.Namespace) -> None:
    """Read arguments; what a subcommand does not know is told by it, with the option that may have been meant."""
    parser, commands = make_parser()
    _, unknown = parser.parse_known_args(arguments, parsed)
    if unknown:
        command = commands[parsed.command]
        known = [option for action in command._actions for option in action.option_strings]
        meant = [found for text in unknown if text.startswith("--")
                 for found in difflib.get_close_matches(text.partition("=")[0], known, n=1)]
        hint = f", perhaps {' '.join(meant)}" if meant else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _run(parsed: argparse.Namespace) -> int:
    try:
        return int(parsed.run(parsed))
    except SystemExit as error:  # no command of dropkit's ends so: its code would pass for the command's own
        if isinstance(error.__context__, BrokenPipeError):  # but rich does where nobody reads on
            raise error.__context__ from None
        raise InputError("the code that a command calls returns", got=phrase(f"SystemExit: {error}"),
                         fix="Take sys.exit out of what is named") from error


def _complain(command: str, error: Exception, code: int) -> int:
    text = " ".join(str(error).split())  # one line, whatever a user's exception put into it
    print(f"dropkit {command}: error: {text}", file=sys.stderr)
    return code
