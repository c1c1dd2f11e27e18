"""Commands in odd surroundings: other locales, closed or full streams, a reader that leaves, Ctrl-C, narrow terminals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright as tw
from tests.cli.commands import TARGET, small_model

PROGRAM = (sys.executable, "-m", "tilewright")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def heed_interrupts() -> None:
    """As in a terminal: what a shell starts in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `$T ...` by the shell."""
    variables = os.environ | environment | {"T": " ".join(PROGRAM)}
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=variables,
        preexec_fn=heed_interrupts,
    )


def test_names_that_the_locale_has_not(tmp_path: Path) -> None:
    """A file's name with bytes that Python cannot decode becomes the network's name, and is stored."""
    small_model(tmp_path / "naïve.onnx")
    arguments = "--target ultra96-w8 --calibration random:1 -o é.twp"
    done = shell(f"cd {tmp_path} && $T compile naïve.onnx {arguments}", **ASCII)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "é.twp").is_file()
    missing = shell(f"cd {tmp_path} && $T run ü.twp --input random:1", **ASCII)
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False), missing.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = shell(f"$T targets {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_does_not_get_what_is_printed(tmp_path: Path) -> None:
    """With stdout closed, the first file that is opened would have its number."""
    small_model(tmp_path / "net.onnx")
    arguments = f"{tmp_path}/net.onnx --target ultra96-w8 --calibration random:1 -o {tmp_path}"
    assert shell(f"$T compile {arguments}/net.twp >&-").returncode == 0
    assert tw.Package.load(tmp_path / "net.twp").name == "net"


def test_a_full_disk_behind_stdout() -> None:
    done = shell("$T targets > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"


def test_a_reader_that_leaves() -> None:
    done = shell("$T targets --json | head -1")
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_ctrl_c(tmp_path: Path) -> None:
    """One line, exit code 130, and no file half written."""
    model = small_model(tmp_path / "net.onnx")
    output = tmp_path / "net.twp"
    # So many images that the signal comes while they are run.
    command = [*PROGRAM, "compile", str(model), *TARGET, "--calibration", "random:100000", "-o", str(output)]
    environment = os.environ | {"TILEWRIGHT_DEBUG": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed_interrupts
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("tilewright: stage import: ")
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=120)
    assert running.returncode == 130
    assert rest.splitlines()[-1] == "stopped"
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


SWALLOWED = {
    "turned into another error": """
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("initialization failed") from None
""",
    "dropped in a finaliser": """
class Handle:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
Handle()
time.sleep(60)
""",
}


@pytest.mark.parametrize("code", SWALLOWED.values(), ids=SWALLOWED)
def test_ctrl_c_while_a_library_is_loaded(code: str, tmp_path: Path) -> None:
    library = tmp_path / "libraries" / "onnxruntime"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(f"import signal, time\n{code}")
    model = small_model(tmp_path / "net.onnx")
    output = tmp_path / "net.twp"
    path = os.pathsep.join([str(library.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = shell(f"$T compile {model} {' '.join(TARGET)} --calibration random:1 -o {output}", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (130, "stopped\n")
    assert not output.exists()


def test_a_narrow_terminal_breaks_no_numbers() -> None:
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"}
    with subprocess.Popen([*PROGRAM, "targets"], stdout=child, env=environment) as running:
        os.close(child)
        shown = bytearray()
        try:
            while piece := os.read(parent, 4096):
                shown += piece
        except OSError:  # the other side is closed
            pass
    os.close(parent)
    assert running.returncode == 0
    head, first = shown.decode().splitlines()[:2]
    assert "MACs/cycle" in head and first.startswith("\x1b[") is False
    assert "pynq-z1-w4" in first and "32,796 31%" in first


def test_a_requirement_that_is_missing(tmp_path: Path) -> None:
    small_model(tmp_path / "net.onnx")
    arguments = ["compile", str(tmp_path / "net.onnx"), *TARGET, "--calibration", "random:1"]
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        f"sys.argv = ['tilewright', *{arguments!r}, '-o', {str(tmp_path / 'net.twp')!r}]\n"
        "from tilewright.cli import main; main()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TILEWRIGHT_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: the installation is not complete: import of onnxruntime halted; None in sys.modules; "
        "`python -m tilewright.doctor` tells what to do\n"
    )
    assert not (tmp_path / "net.twp").exists()
