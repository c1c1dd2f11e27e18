"""The accelerator as a process: what the Zynq back end is tested on where there is no board.

It owns a register page and a DMA memory as files, which the runtime maps as it maps a board's, executes streams with
the fast simulator, counts cycles by the timing simulator, and fails in the ways that it is asked to.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tilewright.errors import DeviceError
from tilewright.runtime.native import library_path
from tilewright.targets.config import Overlay
from tilewright.targets.registers import PAGE_BYTES, config_words
from tilewright.targets.sim.timing import figures

EXECUTABLE = "tilewright-device-model"
_ANSWER_SECONDS = 60.0


class DeviceModel:
    """A device model, as long as the context lasts.

    >>> from tilewright.targets.config import overlay
    >>> with DeviceModel(overlay("ultra96-w8"), memory_bytes=1 << 20) as model:
    ...     model.launches
    0
    """

    def __init__(
        self,
        overlay: Overlay,
        *,
        memory_bytes: int = 64 << 20,
        physical: int = 0x10000000,
        zero_time: bool = False,
        interrupt: bool = False,
        coherent: bool = True,
        launcher: Sequence[str | Path] = (),
    ) -> None:
        """Start it with empty memory.

        Args:
            overlay: what it is configured as.
            memory_bytes: of its DMA memory, whole pages.
            physical: address by which it knows the memory's first byte.
            zero_time: launches end at once and nothing is executed; outputs stay what they were.
            interrupt: it raises interrupts, as by a UIO file; else the host polls.
            coherent: it sees what the host wrote. Else the memory is a u-dma-buf of which it sees what the host's cache
                maintenance handed over, and what was not is 0xee.
            launcher: command in front of the executable, such as an emulator.

        Raises DeviceError where it does not start.
        """
        shared = Path("/dev/shm")
        place = shared if shared.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="tilewright-device-", dir=place))
        self._physical, self._coherent = physical, coherent
        self._process: subprocess.Popen[str] | None = None
        self._terminal = ""
        self._config = self.folder / "config"
        self._write_config(overlay)
        for name, size in (("registers", PAGE_BYTES), ("memory", memory_bytes)):
            with (self.folder / name).open("wb") as file:
                file.truncate(size)
        options = ["zero-time"] * zero_time + ["interrupt"] * interrupt
        if not coherent:
            attributes = {"phys_addr": physical, "size": memory_bytes, "dma_coherent": 0}
            for name, value in attributes.items():
                (self.folder / name).write_text(f"{value:#x}\n", encoding="ascii")
            for name in ("sync_for_device", "sync_for_cpu"):
                (self.folder / name).touch()
            options.append(f"sync={self.folder / 'sync_for_device'}")
        files = [self._config, self.folder / "registers", self.folder / "memory"]
        self._command = [*map(str, (*launcher, library_path(EXECUTABLE), *files)), hex(physical), *options]
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def uri(self, **keys: object) -> str:
        """The text that names it, `Session`'s back end; `keys` are such as `timeout_ms=500`."""
        place = f"registers={self.folder / 'registers'},memory={self.folder / 'memory'}"
        if self._coherent:
            place += f"@{self._physical:#x}"
        else:
            keys = {"sysfs": self.folder, **keys}
        if self._terminal:
            keys = {"interrupt": self._terminal, **keys}
        return "zynq:" + ",".join([place, *(f"{key}={value}" for key, value in keys.items())])

    @property
    def launches(self) -> int:
        """How many STARTs it has taken."""
        return int(self._ask("launches"))

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def fault(self, name: str, *numbers: int) -> None:
        """Let the next launch fail; `board/native/device_model/main.cc` tells how, at `Work`."""
        self._done(" ".join(["fault", name, *map(str, numbers)]))

    def revive(self) -> None:
        """Configure it again after a fault that lasts."""
        self._done("revive")

    def spurious_interrupt(self) -> None:
        """Raise an interrupt for nothing."""
        self._done("spurious")

    def load(self, overlay: Overlay) -> None:
        """Configure it as another overlay, as by loading another bitstream."""
        self._write_config(overlay)
        self._done("config")

    def kill(self) -> None:
        """End the process at once; registers and memory stay what they were."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def start(self) -> None:
        """Start the process, on the memory that there is. Raises DeviceError where it does not."""
        if self.alive:
            return
        self._reap()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        answer = self._answer()
        if not answer.startswith("ready"):
            raise DeviceError(f"the device model does not start: {answer}")
        self._terminal = answer.removeprefix("ready").strip()

    def close(self) -> None:
        """End the process and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> DeviceModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_config(self, overlay: Overlay) -> None:
        words, times = config_words(overlay), figures(overlay)
        self._config.write_bytes(struct.pack(f"<I{len(words)}I{len(times)}i", len(words), *words, *times))

    def _done(self, command: str) -> None:
        answer = self._ask(command)
        if answer != "ok":
            raise DeviceError(f"the device model: {answer}")

    def _ask(self, command: str) -> str:
        process = self._process
        if process is None or process.stdin is None or not self.alive:
            raise DeviceError("the device model does not run")
        try:
            process.stdin.write(command + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ends; what it says is read below
        return self._answer()

    def _answer(self) -> str:
        process = self._process
        assert process is not None and process.stdout is not None and process.stderr is not None
        if not select.select([process.stdout], [], [], _ANSWER_SECONDS)[0]:
            raise DeviceError(f"the device model gives no answer within {_ANSWER_SECONDS:g} s")
        line = process.stdout.readline()
        return line.strip() if line else process.stderr.read().strip() or f"ended with {process.wait()}"

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # what is left in its buffer has no reader
                    stream.close()
        process.wait()
