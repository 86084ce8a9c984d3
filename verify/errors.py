"""The exceptions that kexec-verify raises on purpose.

* VerifyError
    * UsageError: the command line requests something that does not exist.
    * TargetError: the bytes to verify cannot be had or are not an arm64 kernel.
        * NoKexecError: an arm64 kernel without the functions that kexec needs.
    * UnsupportedError: well-formed input that the verifier has no model for.
    * LimitError: a stated limit was reached before the query was decided.
    * InternalError: the verifier contradicts itself; never the user's fault.
"""


class VerifyError(Exception):
    """Base of every error that is reported as one line ``verify: error: …``.

    :param command: what to type next, if there is something better than the command's help.
    """

    exit_code = 2

    def __init__(self, message: str = "", command: str = ""):
        super().__init__(message)
        self.command = command


class UsageError(VerifyError):
    """The command line requests something that does not exist."""


class TargetError(VerifyError):
    """The bytes to verify cannot be had or are not an arm64 kernel.

    The message says what was expected and what was found.
    """


class NoKexecError(TargetError):
    """An arm64 kernel without the functions that kexec needs."""


class UnsupportedError(VerifyError):
    """Well-formed input that the verifier has no model for.

    :param what: the construct, by name.
    :param address: virtual address of the instruction, or None.
    """

    exit_code = 3

    def __init__(self, what: str, address: int | None = None):
        self.what = what
        self.address = address
        super().__init__(what if address is None else f"{what} at {address:#x}")


class LimitError(VerifyError):
    """A stated limit was reached before the query was decided."""

    exit_code = 3


class InternalError(VerifyError):
    """The verifier contradicts itself; never the user's fault."""

    exit_code = 70
