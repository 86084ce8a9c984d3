"""Objects of kexec's code, built from Debian's kernel source in many configurations: each is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel_source import kernel_tree

pytestmark = [pytest.mark.campaign, pytest.mark.toolchain, pytest.mark.slow]

UNSUPPORTED = {  # what is not decided yet, and for which property
}
REFUTED = {"clang-kcfi": {"handover-to-routine", "kexec-goes-on"}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_tree(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")
