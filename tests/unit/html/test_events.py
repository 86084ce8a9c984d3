"""A breakpoint is called what the kernel's table says that it is."""

from __future__ import annotations

from kexec_verify.html.events import words


def test_a_warning_is_not_called_a_bug():
    assert words("SoftwareBreakpoint", "WARN").startswith("WARN")
    assert words("SoftwareBreakpoint", "BUG").startswith("BUG")
    assert "BUG or a WARN" in words("SoftwareBreakpoint")
