"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def reports_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--reports DIRECTORY``, passed on as ``directory``: where runs are written and read."""
    return click.option(
        "--reports",
        "directory",
        default="reports",
        type=click.Path(path_type=Path),
        show_default=True,
        help=help_text,
    )
