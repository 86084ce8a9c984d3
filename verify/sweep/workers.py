"""Processes that take one kernel after the other; one that dies takes only its own kernel with it.

A process is started afresh (spawn), and again once it has grown over a limit: terms are interned for as
long as it lives, so that equal queries of two kernels are answered once.
"""

from __future__ import annotations

import resource
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context

from kexec_verify.errors import InternalError, VerifyError

MEMORY_LIMIT = 1536  # MiB; a process that has grown over it takes no further kernel
_PATIENCE = 20.0  # seconds that a process has to write down what it knows


@dataclass(frozen=True)
class Failed:
    """A job that came to nothing: why, and the exit status that this is worth."""

    reason: str
    exit_status: int


class _Worker[Job, Result]:
    """One process, and the pipe that its jobs and answers go through."""

    def __init__(self, work: Callable[[Job], Result], prepare: Callable[[], None]):
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work, prepare))
        self.process.start()
        other.close()  # so that its end is seen when the process ends

    def stop(self) -> None:
        """Have the process end, by force if it takes its time."""
        self.pipe.close()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(pipe: connection.Connection, work: Callable, prepare: Callable[[], None]) -> None:
    """Take jobs until the pipe is closed."""
    # Ctrl-C goes to the whole group: the command that started this process says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare()
    try:
        while True:
            job = pipe.recv()
            try:
                answer = work(job)
            except VerifyError as error:
                answer = Failed(str(error), error.exit_code)
            except Exception as error:
                answer = Failed(f"{type(error).__name__}: {error}", InternalError.exit_code)
            pipe.send((answer, peak()))
    except (EOFError, OSError):
        return
    except BaseException:  # a signal: what is known has been written
        return


def peak() -> int:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def outcomes[Job, Result](
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    count: int,
    *,
    prepare: Callable[[], None],
    admit: Callable[[Job], None],
    release: Callable[[Job], None],
    limit: int = MEMORY_LIMIT,
) -> Generator[tuple[Job, Result | Failed]]:
    """Run every job in ``count`` processes; yield each result as it is ready.

    :param work: of a module's top level, for another process must find it; so is ``prepare``, which a
        process calls first.
    :param admit: called before a job is given to a process; an error that it raises is the job's result.
    :param release: called once a job is over, with any result, also when the sweep is stopped.
    :param limit: of memory, in MiB.
    """
    waiting = deque(jobs)
    idle: list[_Worker[Job, Result]] = []
    busy: dict[_Worker[Job, Result], Job] = {}
    try:
        while waiting or busy:
            if waiting and len(busy) < count:
                job = waiting.popleft()
                try:
                    admit(job)
                except VerifyError as error:
                    yield job, Failed(str(error), error.exit_code)
                    continue
                worker = idle.pop() if idle else _Worker(work, prepare)
                busy[worker] = job
                with suppress(OSError):  # reading the answer of a process that has ended raises an error
                    worker.pipe.send(job)
                continue
            done = connection.wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in done]:
                job, (answer, reusable) = busy.pop(worker), _receive(worker, limit)
                if reusable:
                    idle.append(worker)
                else:
                    worker.stop()
                release(job)
                yield job, answer
    finally:
        for worker in busy:
            worker.process.terminate()
        for worker in (*busy, *idle):
            worker.stop()
        for job in busy.values():
            release(job)


def _receive[Job, Result](worker: _Worker[Job, Result], limit: int) -> tuple[Result | Failed, bool]:
    """Return the result of a process's job, and whether the process can take another."""
    try:
        answer, memory = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(_PATIENCE)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return Failed(f"expected the process to answer, found that it ended: {how}", 70), False
    return answer, memory <= limit
