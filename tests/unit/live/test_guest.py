"""What a guest has printed of its fault."""

from __future__ import annotations

import pytest
from kexec_verify.live.guest import Guest

OOPS = """[    1.0] Run /init as init process
[    2.5] Unable to handle kernel paging request at virtual address ffffffffc0000000
[    2.6] Internal error: Oops: 0000000096000006 [#1] SMP
[    2.7] pc : trans_pgd_create_copy+0x22c/0x7c0
[    2.8] lr : trans_pgd_create_copy+0x34/0x7c0
"""


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("[    1.0] Run /init as init process", ""),
        (
            OOPS,
            "Unable to handle kernel paging request at virtual address ffffffffc0000000, "
            "at trans_pgd_create_copy+0x22c/0x7c0",
        ),
        (
            "[    3.1] Kernel panic - not syncing: No working init found.",
            "Kernel panic - not syncing: No working init found.",
        ),
    ],
)
def test_first_fault_is_told_with_its_place(printed: str, found: str):
    guest = Guest.__new__(Guest)
    guest.console = bytearray(printed.replace("\n", "\r\n").encode())
    assert guest.oops() == found
