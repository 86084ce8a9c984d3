"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def run_json(path: Path) -> Path:
    """Return the path of a run.json that the user named by itself or by its folder."""
    return path / "run.json" if path.is_dir() else path


def reports_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--reports DIRECTORY``, passed on as ``directory``: the folder of reports."""
    return click.option(
        "--reports",
        "directory",
        default="reports",
        type=click.Path(path_type=Path),
        show_default=True,
        help=help_text,
    )


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--format text|json``, passed on as ``as_json``."""
    return click.option(
        "--format",
        "as_json",
        default="text",
        type=click.Choice(["text", "json"]),
        show_default=True,
        callback=lambda context, parameter, value: value == "json",
        help="Output format.",
    )(command)


def jobs_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``-j N``, passed on as ``jobs``: how many processes work side by side."""
    return click.option("-j", "--jobs", default=0, type=click.IntRange(min=0), metavar="N", help=help_text)


def scheduler_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--scheduler ADDRESS``, passed on as ``scheduler``: whose workers run the solvers."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Address of a Dask scheduler whose workers run the solvers, such as tcp://127.0.0.1:8786.",
    )(command)


def suite_option(
    help_text: str, multiple: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--suite NAME``, passed on as ``suite``; if it is repeatable, as ``suites``."""
    name = "suites" if multiple else "suite"
    return click.option("--suite", name, metavar="NAME", multiple=multiple, help=help_text)


def waivers_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--waivers FILE``, passed on as ``waiver_files``: the user's waivers."""
    return click.option(
        "--waivers",
        "waiver_files",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File of waivers (TOML) to use in addition to specs/waivers.toml; repeatable.",
    )(command)


def quiet_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--quiet``, passed on as ``quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help="Show no progress.")(command)


def number_option(
    name: str, default: int, help_text: str, least: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``NAME N``, a number of at least ``least``."""
    return click.option(
        name, default=default, show_default=True, type=click.IntRange(min=least), help=help_text
    )
