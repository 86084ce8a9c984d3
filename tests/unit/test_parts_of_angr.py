"""angr's parts: loaded without the rest, and no obstacle to who wants all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_OURS = "import kexec_verify.arm64.execute as execute, kexec_verify.logic as logic; "
_LIGHT = "import sys; assert not any(n.startswith('angr.analyses') for n in sys.modules); "
_ALL = "import angr, angr.errors; assert angr.Project and angr.claripy.BVV(1, 8).op == 'BVV'; "
_SAME = "assert isinstance(logic.const(1), angr.claripy.ast.BV); "


@pytest.mark.parametrize("program", [_OURS + _LIGHT, _OURS + _ALL + _SAME, _ALL + _OURS + _SAME])
def test_parts_load_alone_and_beside_all_of_angr(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
