"""Reads hostile files in a process of its own, and tells what that took: see ``test_hostile.py``.

Requests come as lines of JSON on standard input, answers go as such to standard output. Each is
worked on by a child that may have no more memory than the files' size and 200 MB. In it Python
itself reports, by its audit events, whatever is done while files are read.
"""

import json
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from refimpl.errors import CheckpointError
from tests.checkpoints import hostile

ROOM = 200 * 2**20  # bytes
SECONDS = 100  # of computing, after which a child is ended
HARMLESS = {
    "tensors": ("mmap.__new__",),
    # To read a config, typing evaluates the annotations of its class, which no file can change.
    "model": ("mmap.__new__", "compile", "exec"),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Notes what is done while files are read."""

    def __init__(self, kind):
        self.harmless = HARMLESS[kind]
        self.events = []
        self.is_on = False
        sys.addaudithook(self.note)

    def note(self, event, args):
        reads = event == "open" and isinstance(args[2], int) and not args[2] & WRITING
        if self.is_on and not reads and event not in self.harmless:
            self.events.append(f"{event} {args}"[:200])

    def __call__(self, read):
        """Return a function that reads and is watched."""

        def watched(folder):
            self.is_on = True
            try:
                return read(folder)
            finally:
                self.is_on = False

        return watched


def memory(kind):
    """Bytes that the process has: VmSize of addresses, VmHWM the most that it ever used."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024


def break_at_random(folder, watch, request):
    (form,) = [form for form in hostile.FORMATS if form.name == request["format"]]
    return hostile.run(replace(form, read=watch(form.read)), range(*request["seeds"]), folder)


def attack(folder, watch, request):
    read = watch({"model": hostile.read_model, "tensors": hostile.read_folder}[request["kind"]])
    start = time.process_time()
    try:
        error = f"read: {[*read(folder)]}"
    except CheckpointError as caught:
        error = f"CheckpointError: {caught}"
    except BaseException as caught:  # RecursionError, MemoryError and SystemExit too
        error = f"{type(caught).__name__}: {caught}"
    return {"error": error[:20_000], "seconds": time.process_time() - start}


def answer(request):
    """Do what is asked for, within limits."""
    folder = Path(request["folder"])
    size = sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0
    limit = memory("VmSize") + ROOM + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    before, watch = memory("VmRSS"), Watch(request["kind"])
    found = (break_at_random if "format" in request else attack)(folder, watch, request)
    return found | {"did": watch.events, "memory": memory("VmHWM") - before - size}


def in_child(request):
    """Return a child's answer, or how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer(request), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(text) if text else {"error": f"ended with status {status}"}


def main():
    for form in hostile.FORMATS:  # so that all that reading needs is imported
        hostile.run(form, range(20), Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(in_child(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
