"""Refuse SMT-LIB commands that this tool does not print: solvers execute others, which can open files."""

from __future__ import annotations

from collections.abc import Iterator

from kexec_verify.errors import TargetError

COMMANDS = frozenset({"set-logic", "declare-fun", "define-fun", "assert", "check-sat"})
"""Commands that verify/prove/smtlib.py prints."""
_DEEPEST = 200  # it defines each shared term by a name: its texts are some ten deep


def require_printed(text: str, name: str) -> None:
    """Refuse ``text`` unless it is made of commands that this tool prints.

    :param name: of the file, for the message.
    :raises TargetError: for another command, a string, a comment, or parentheses that do not match.
    """
    for command in _commands(text, name):
        if command not in COMMANDS:
            allowed = ", ".join(sorted(COMMANDS))
            raise TargetError(f"{name}: expected the commands {allowed}, found {command[:40]!r}")


def _commands(text: str, name: str) -> Iterator[str]:
    """Yield the first word of each form at top level; symbols in bars may hold any character."""
    depth = at = 0
    while at < len(text):
        character = text[at]
        if character == "|":
            end = text.find("|", at + 1)
            if end < 0:
                raise TargetError(f"{name}: expected a second |, found none")
            at = end
        elif character in '";':
            raise TargetError(f"{name}: expected no string and no comment, found {character}")
        elif character == "(":
            if depth == 0:
                rest = text[at + 1 : at + 64]
                yield rest.split(None, 1)[0].partition(")")[0] if rest.split() else ""
            depth += 1
            if depth > _DEEPEST:
                raise TargetError(f"{name}: expected parentheses at most {_DEEPEST} deep, found deeper ones")
        elif character == ")":
            depth -= 1
            if depth < 0:
                raise TargetError(f"{name}: expected matching parentheses, found a ) too many")
        elif depth == 0 and not character.isspace():
            raise TargetError(f"{name}: expected a command, found {character!r}")
        at += 1
    if depth:
        raise TargetError(f"{name}: expected matching parentheses, found {depth} that are open")
