"""Lets ``python -m dropkit`` stand in for the command."""

from dropkit.cli.main import run

if __name__ == "__main__":
    run()
