"""A run says the same wherever its questions are asked, also when a worker dies in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from distributed import Client, LocalCluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "binaries" / "kimage-mmu-4k-gcc.elf"
_TIMES = {"started", "seconds", "stages"}


def said(
    reports: Path, *options: str, during: Callable[[], None] = lambda: None
) -> tuple[Any, dict[str, bytes]]:
    """A run's results except times, and the texts of its queries."""
    command = [
        sys.executable,
        "-m",
        "kexec_verify",
        "run",
        str(SHIPPED),
        "--reports",
        str(reports),
        "--no-cache",
    ]
    environment = dict(os.environ)
    process = subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    thread = threading.Thread(target=during)
    thread.start()
    out, err = process.communicate(timeout=300)
    thread.join()
    assert process.returncode == 0, out + err
    place = reports / SHIPPED.name
    texts = {path.name: path.read_bytes() for path in (place / "obligations").iterdir()}
    return timeless(msgspec.json.decode((place / "run.json").read_bytes())), texts


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in _TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Any, dict[str, bytes]]:
    return said(tmp_path_factory.mktemp("alone"), "-j", "1")


@pytest.fixture
def cluster():
    """A scheduler and two workers, each a process of its own, on the loopback interface."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as made:
        yield made


def test_two_processes_say_the_same(alone, tmp_path):
    assert said(tmp_path, "-j", "2") == alone


def test_distributed_workers_say_the_same(alone, tmp_path, cluster):
    assert said(tmp_path, "--scheduler", cluster.scheduler_address) == alone


def test_killed_worker_loses_no_verdict_and_invents_none(alone, tmp_path, cluster):
    killed = []

    def kill() -> None:
        """End one of the workers once it has some of the questions."""
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            for _ in range(600):
                busy = {worker: tasks for worker, tasks in client.processing().items() if tasks}
                if busy:
                    worker = sorted(busy)[0]
                    pid = client.run(os.getpid, workers=[worker])[worker]
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return
                time.sleep(0.05)

    assert said(tmp_path, "--scheduler", cluster.scheduler_address, during=kill) == alone
    assert killed
