"""What processes of the bench use, read from proc(5), and how large one of them grows while something runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from demo.gateway import Gateway

SAMPLE_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory of the daemon while `passed_bytes` passed, KiB."""

    before_kib: int
    peak_kib: int
    passed_bytes: int
    seconds: float

    @property
    def grown_mb(self) -> float:
        return (self.peak_kib - self.before_kib) * 1024 / 1e6


class PeakMemory:
    """Samples a daemon's memory from a thread while it is entered. `kib`: the most that was seen."""

    def __init__(self, gateway: Gateway) -> None:
        self.kib = 0
        self._gateway = gateway
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.kib = max(self.kib, self._gateway.memory_kib())
            if self._is_over.wait(SAMPLE_INTERVAL_S):
                return


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, seconds (utime and stime of proc(5), in hundredths)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
