"""The gate's decision for those who read it: a module for each format, chosen by name."""

from __future__ import annotations

from collections.abc import Callable

from kexec_verify.gate.formats import github, json, junit, kernel, ktap, markdown, sarif, text
from kexec_verify.gate.formats.report import Report

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text.render,
    "json": json.render,
    "junit": junit.render,
    "ktap": ktap.render,
    "sarif": sarif.render,
    "github": github.commands,
    "summary": github.summary,
    "markdown": markdown.render,
    "kernel": kernel.render,
}
"""Each format's function from a report to the whole text."""
