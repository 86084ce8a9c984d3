"""The patch sites of real kernels, against what was counted, and seen in the memory of running kernels."""

from __future__ import annotations

from collections.abc import Callable

import capstone
import pytest
from kexec_verify.target import debian, open_target
from kexec_verify.target.patch_tables import MOV_X9_X30

pytestmark = pytest.mark.kernel

# Package, suite where it is not one of the host's, alternatives, callbacks among them, static keys' sites.
KERNELS = [
    ("linux-image-6.1.0-56-arm64", None, 30362, 14285, 7530),
    ("linux-image-6.12.117+deb12-arm64", None, 27549, 16650, 12201),
    ("linux-image-7.3.4+deb13-arm64", "trixie-backports", 33430, 12547, 13980),
]

# Words that running kernels held for others: function and offset, before, after, and what decides.
SEEN = {
    "linux-image-6.1.0-56-arm64": [
        ("icache_inval_pou+0x4", "nop; nop", "isb; ret", 11),
        (
            "icache_inval_pou+0xc",
            "mrs x3, ctr_el0; nop",
            "adrp x3, #0xffff800009ccb000; ldr x3, [x3, #0xe68]",
            41,
        ),
        (
            "dcache_clean_inval_poc+0x4",
            "mrs x3, ctr_el0; nop",
            "adrp x3, #0xffff800009ccb000; ldr x3, [x3, #0xe68]",
            41,
        ),
        ("post_ttbr_update_workaround+0xc", "nop; nop; nop", "ic iallu; dsb nsh; isb", 72),
        ("cpu_do_switch_mm+0x24", "nop", "b #0xffff80000803c54c", 13),
        ("is_hyp_nvhe+0x4", "b #is_hyp_nvhe+0x1c", "nop", None),
        ("machine_kexec_post_load+0x54", "b #machine_kexec_post_load+0x1c8", "nop", None),
        ("machine_kexec_post_load+0x200", "nop", "b #machine_kexec_post_load+0x2dc", None),
        ("machine_kexec_post_load+0x238", "nop", "b #machine_kexec_post_load+0x280", None),
    ],
    "linux-image-6.12.117+deb12-arm64": [
        ("icache_inval_pou+0x4", "nop; nop", "isb; ret", 11),
        (
            "dcache_clean_inval_poc+0x4",
            "mrs x3, ctr_el0; nop",
            "adrp x3, #0xffff80008268c000; ldr x3, [x3, #0xe38]",
            56,
        ),
        ("post_ttbr_update_workaround+0x8", "nop; nop; nop", "ic iallu; dsb nsh; isb", 89),
        ("cpu_do_switch_mm+0x28", "nop", "b #0xffff80008003b830", 13),
        ("machine_kexec_post_load+0x204", "nop", "b #machine_kexec_post_load+0x2c4", None),
    ],
    "linux-image-7.3.4+deb13-arm64": [
        ("__memcpy+0x4", "b #0xffff800081271000", "nop", 47),
        ("arm64_relocate_new_kernel+0xa0", "nop", "mov x20, x19", 105),
        (
            "arm64_relocate_new_kernel+0xb4",
            "nop; nop; nop",
            "mov x19, x20; mov x20, xzr; cbnz x19, #0xffff8000826f41b4",
            105,
        ),
        ("dcache_clean_inval_poc+0x20", "nop", "mov x3, x0", 105),
    ],
}  # fmt: skip
# What is written on every machine: a branch over a sequence that a capability replaces, and ftrace's word.
ALWAYS = {
    "linux-image-6.1.0-56-arm64": [("cpu_do_switch_mm+0x20", 0xD503201F)],
    "linux-image-6.12.117+deb12-arm64": [("cpus_are_stuck_in_kernel+0x4c", 0xD503201F)],
    "linux-image-7.3.4+deb13-arm64": [("trans_pgd_create_copy+0xa8", 0xD503201F)],
}


@pytest.mark.parametrize(("package", "suite", "count", "callbacks", "keys"), KERNELS, ids=lambda p: str(p))
def test_patch_sites(
    require_tool: Callable[[str, str], str],
    package: str,
    suite: str | None,
    count: int,
    callbacks: int,
    keys: int,
):
    require_tool("apt-get", "apt")
    series = ".".join(package.split("-")[2].split(".")[:2])
    if debian.newest(series, "arm64", suite) != package:
        pytest.skip(f"the suites hold another kernel than {package}, which was counted")
    kernel = open_target(debian.in_suite(f"debian:{package}", suite))
    patching = kernel.patching
    assert patching is not None
    found = patching.alternatives
    assert (len(found), sum(entry.callback for entry in found), len(patching.jumps)) == (
        count,
        callbacks,
        keys,
    )
    assert all(len(rows) and number < 130 for number, rows in patching.capabilities.items())
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)

    def address(text: str) -> int:
        name, _, offset = text.partition("+")
        symbol = kernel.symbol(name)
        assert symbol is not None, name
        return symbol.address + int(offset, 16)

    def shown(data: bytes, at: int) -> str:
        return "; ".join(f"{i.mnemonic} {i.op_str}".strip() for i in decoder.disasm(data, at))

    def resolved(text: str) -> str:
        goal = text.partition("#")[2]
        return text.replace(goal, f"{address(goal):#x}") if "+" in goal else text

    for place, before, after, capability in SEEN[package]:
        at = address(place)
        (site,) = patching.sites(kernel, at, at + 4)
        assert site.address == at and site.replacement is not None
        assert (shown(site.original, at), shown(site.replacement, at)) == (resolved(before), resolved(after))
        assert site.capability == capability and (site.key is None) == (capability is not None)
    for place, word in ALWAYS[package]:
        at = address(place)
        assert int.from_bytes(kernel.read(at, 4), "little") == word
        assert patching.sites(kernel, at, at + 4) == []
    # Every function entry that ftrace may patch has its word; machine_kexec is one of them.
    assert all(kernel.read(at, 4) == MOV_X9_X30.to_bytes(4, "little") for at in patching.traced)
    entry = address("machine_kexec+0x0")
    assert any(entry <= at < entry + 12 for at in patching.traced)
