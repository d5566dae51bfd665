"""`detnas` on a terminal that keeps everything it is sent."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[1]


def on_a_terminal(*command: object, **environment: str) -> tuple[int, str]:
    """Run `python …` on a pseudo-terminal of 30 x 120; its exit status, and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **environment},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # Linux's end of file, once the other side is closed
        pass
    os.close(ours)
    return process.wait(timeout=300), written.decode().replace("\r\n", "\n")


def lines_on_screen(written: str) -> list[str]:
    """What a terminal shows in the end, line by line: a carriage return overwrites, ESC [A goes up."""
    screen, row, column = [""], 0, 0
    position = 0
    while position < len(written):
        if written.startswith("\x1b[A", position):
            row, position = max(row - 1, 0), position + 3
            continue
        character = written[position]
        position += 1
        if character == "\n":
            row, column = row + 1, 0
            screen += [""] * (row + 1 - len(screen))
        elif character == "\r":
            column = 0
        else:
            line = screen[row].ljust(column)
            screen[row] = line[:column] + character + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in screen]
