"""Typer commands: parse, call, format. Every command has a Python twin and --json."""
