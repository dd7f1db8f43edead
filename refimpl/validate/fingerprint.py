"""What tells two checkpoints, or two files of data, apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

SMALL = 16 * 2**20  # bytes: files up to this size are read as a whole
PIECES, PIECE = 256, 4096  # of larger ones, so many pieces of so many bytes, evenly spread


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits.

    Raises ``ValueError`` for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"data: {path}: {error.strerror}") from None


def folder_hash(folder: Path) -> str:
    """Return a hash of the files of a checkpoint folder, their names and sizes.

    Small files count as a whole. Of the weights their size, their time of change and a sample of
    bytes count: reading gigabytes would take longer than many a run.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        total.update(
            _sample(path) if path.stat().st_size > SMALL else bytes.fromhex(file_hash(path))
        )
    return total.hexdigest()


def _sample(path: Path) -> bytes:
    status = path.stat()
    found = hashlib.sha256(str(status.st_mtime_ns).encode())
    with path.open("rb") as file:
        for i in range(PIECES):
            file.seek((status.st_size - PIECE) * i // (PIECES - 1))
            found.update(file.read(PIECE))
    return found.digest()
