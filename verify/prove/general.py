"""Queries for any address: constants of a query that are addresses in the kernel's image become symbols.

A build in which only addresses have changed then sends the same queries. The general query has no
hypothesis about its symbols, so if it is unsat, the query is unsat for every address. If it is sat,
nothing follows for the addresses of this kernel: the query itself is asked then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kexec_verify.prove import solvers
from kexec_verify.prove.model_check import is_model
from kexec_verify.prove.solvers import SOLVERS, Answer, Replies

_CONSTANT = re.compile(r"\|[^|]*\||\(_ bv([0-9]+) 64\)")  # symbols are matched so that they are skipped
_LOGIC = "(set-logic QF_UFBV)\n"
_SYMBOL = "|address "


@dataclass(frozen=True)
class General:
    """A query for any address.

    :param text: SMT-LIB, with a 64-bit symbol for each constant that is an address in the image.
    :param addresses: the values of these symbols in the kernel that asks, in their order.
    """

    text: str
    addresses: tuple[int, ...] = ()

    @property
    def exact(self) -> str:
        """SMT-LIB text of the query for this kernel's addresses."""
        text = self.text.replace("".join(_declarations(len(self.addresses))), "", 1)
        for number, address in enumerate(self.addresses):
            text = text.replace(f"{_SYMBOL}{number}|", f"(_ bv{address} 64)")
        return text

    def values(self) -> dict[str, int]:
        """Return the addresses by their symbols."""
        return {f"{_SYMBOL}{number}|": address for number, address in enumerate(self.addresses)}


def generalise(text: str, image: range) -> General:
    """Return the general query of an SMT-LIB script.

    :param image: the virtual addresses of the kernel's image. Constants of 64 bits outside of it stay.
    """
    if not image or _SYMBOL in text or not text.startswith(_LOGIC):
        return General(text)
    numbers: dict[int, int] = {}

    def symbol(found: re.Match[str]) -> str:
        if found[1] is None or int(found[1]) not in image:
            return found[0]
        return f"{_SYMBOL}{numbers.setdefault(int(found[1]), len(numbers))}|"

    body = _CONSTANT.sub(symbol, text.removeprefix(_LOGIC))
    return General(f"{_LOGIC}{''.join(_declarations(len(numbers)))}{body}", tuple(numbers))


def _declarations(count: int) -> list[str]:
    return [f"(declare-fun {_SYMBOL}{number}| () (_ BitVec 64))\n" for number in range(count)]


def settle(query: General, limit: float, seed: int) -> tuple[bool, Replies]:
    """Return both solvers' answers, and whether they are to the general query.

    The general query decides only if both solvers say unsat, or if they contradict each other.
    """
    replies = solvers.settle(query.text, limit, seed)
    if not query.addresses or is_unsat(replies) or {Answer.SAT, Answer.UNSAT} <= {r.answer for r in replies}:
        return True, replies
    return False, solvers.settle(query.exact, limit, seed)


def filter_by(query: General, limit: float, seed: int) -> tuple[bool, Replies]:
    """Return bitwuzla's answer, and whether it can be used for other addresses.

    A query for this kernel's addresses is asked first. If it is sat, the answer has the values of a
    model, which show for other addresses whether the query is sat there. If it is unsat, the general
    query is asked as well.
    """
    if not query.addresses:
        return True, solvers.filter_by(query.text, limit, seed)
    reply = solvers.ask_bitwuzla(query.exact, limit, seed, model=True)
    if reply.answer is Answer.UNSAT:
        general = solvers.ask_bitwuzla(query.text, limit, seed)
        if general.answer is Answer.UNSAT:
            return True, (general,)
    if reply.model is None:
        return False, (reply,)
    return True, (replace(reply, model=(*query.addresses, *reply.model)),)


def is_unsat(replies: Replies) -> bool:
    """Return whether every solver that is asked says unsat."""
    return tuple(reply.solver for reply in replies) in (SOLVERS, SOLVERS[1:]) and all(
        reply.answer is Answer.UNSAT for reply in replies
    )


def is_answered(query: General, replies: Replies) -> bool:
    """Return whether stored answers to the general query answer ``query`` for its own addresses.

    They do if the general query is unsat, or if a model of it is one for these addresses too.
    """
    if not query.addresses or is_unsat(replies):
        return True
    model = replies[0].model if len(replies) == 1 and replies[0].answer is Answer.SAT else None
    return model is not None and is_model(query.text, model, query.values())
