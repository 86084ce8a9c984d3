"""Where a booted kernel is: its image in RAM, and at which virtual addresses it runs (KASLR)."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.globals import find_globals
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.live.guest import RAM_BASE, RAM_BYTES, Guest
from kexec_verify.specs.address_map import linear_map_end
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel
from kexec_verify.target.header import HEADER_SIZE, is_image

_STEP = 1 << 16
_MASK = (1 << 64) - 1


@dataclass
class Linked:
    """What is known of a kernel before it runs: at the addresses that it is linked for.

    :param start: address of the image's first byte.
    """

    kernel: Kernel
    routine: Function
    variant: AbiVariant
    layout: KimageLayout
    page_size: int
    start: int
    voffset: int

    @property
    def size(self) -> int:
        """Bytes from the image's first to its last in the file."""
        return self.kernel.segments[-1].end - self.start


def linked(kernel: Kernel) -> Linked:
    """Locate in ``kernel`` what a live run needs.

    :raises VerifyError: if it has no kexec code that the tool knows.
    """
    routine = find_routine(kernel)
    code = Code(routine.name, routine.address, routine.code)
    variant = recognise(code, kernel.page_size, stated_layout(kernel))
    if variant.layout is None:
        raise InternalError("a routine whose kimage has no layout")
    known = find_globals(kernel)
    text = kernel.symbol("_text")
    start = text.address if text is not None else kernel.segments[0].address
    return Linked(kernel, routine, variant, variant.layout, variant.page_size, start, known["kimage_voffset"])


def image_base(guest: Guest) -> int:
    """Return the physical address that QEMU has loaded the image to; before its first instruction.

    :raises InternalError: if no image's header is in RAM.
    """
    for base in range(RAM_BASE, RAM_BASE + RAM_BYTES, _STEP):
        if is_image(guest.read(base, HEADER_SIZE)):
            return base
    raise InternalError("QEMU has loaded no arm64 Image")


@dataclass
class Placement:
    """A booted kernel: what is known of it, at the addresses at which it runs.

    :param base: physical address of the image's first byte.
    :ivar slide: bytes between where it is linked for and where it runs.
    :ivar kernel: its linked bytes and its symbols, at the addresses at which it runs.
    :ivar context: the functions, globals and objects that the proofs speak of, at these addresses.
    """

    guest: Guest
    linked: Linked
    base: int

    def __post_init__(self) -> None:
        voffset = self.guest.word(self.linked.voffset - self.linked.start + self.base)
        self.slide = (self.base + voffset - self.linked.start) & _MASK
        self.kernel = self.linked.kernel.moved(self.slide)
        self.context = KexecContext(self.kernel, self.linked.layout, self.linked.page_size)
        self.routine = find_routine(self.kernel)
        self.memstart = self.guest.word(self.image_to_phys(self.context.globals["memstart_addr"]))
        offset = self.context.page_offset
        self.linear = (offset, linear_map_end(offset, self.linked.page_size))

    def image_to_phys(self, address: int) -> int:
        """Return where in RAM something of the image is, of which ``address`` is where it runs."""
        return (address - self.slide - self.linked.start + self.base) & _MASK

    def address(self, name: str) -> int:
        """Return where the symbol called ``name``, or its one clone, runs.

        :raises UnsupportedError: if there is none.
        """
        return self.context.code(name).address

    def linked_address(self, address: int) -> int:
        """Return the address that something of the image is linked for."""
        return (address - self.slide) & _MASK

    def in_linear_map(self, address: int) -> bool:
        """Return whether ``address`` is one of the linear map."""
        return self.linear[0] <= address < self.linear[1]

    def linear_to_phys(self, address: int) -> int:
        """Return the physical address of one of the linear map."""
        return (address - self.linear[0] + self.memstart) & _MASK

    def phys_to_linear(self, physical: int) -> int:
        """Return where the linear map shows a physical address."""
        return (physical - self.memstart & _MASK) | self.linear[0]

    def in_image(self, physical: int) -> bool:
        """Return whether a physical address is one of the image as loaded from the file."""
        return self.base <= physical < self.base + self.linked.size

    def where(self, address: int) -> str:
        """Return an address that control is at as ``symbol+offset/size``."""
        return self.kernel.where(address)
