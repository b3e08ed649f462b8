"""A host at the far end of the lab of `wormhole bench shell`, and mounts at this one, for the scripts beside this file."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

WORMHOLE = os.environ.get("WORMHOLE", "wormhole")
HOST = "10.77.0.1:7000"
TIMEOUT_SECONDS = 60


def wait_for_line(stream):
    """The line with which a host says that it is ready."""
    text = ""
    while True:
        line = stream.readline()
        if not line:
            sys.exit("the host ended")
        text += line
        try:
            return json.loads(text)
        except ValueError:
            continue


@contextlib.contextmanager
def mounts(count):
    """Folders that are mounts of one new share; all are gone afterwards."""
    desk = tempfile.mkdtemp(prefix="wormhole-lab.")
    os.environ.update(XDG_RUNTIME_DIR=desk, XDG_CACHE_HOME=desk, XDG_STATE_HOME=desk)
    share, folders = f"{desk}/share", [f"{desk}/mnt{number}" for number in range(count)]
    for folder in [share, *folders]:
        os.mkdir(folder)
    command = ["ip", "netns", "exec", "host", WORMHOLE, "host", "--json", "--rw", "--listen", HOST, share]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    mounted = []
    try:
        ready = wait_for_line(host.stdout)
        with open(f"{desk}/ticket", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(ready["ticket"])
        for number, folder in enumerate(folders):
            cache = f"{desk}/cache{number}"
            mount_it = [WORMHOLE, "mount", "--daemon", "--ticket-file", file.name, "--cache-dir", cache, folder]
            subprocess.run(mount_it, check=True, timeout=TIMEOUT_SECONDS)
            mounted.append(folder)
        yield folders
    finally:
        for folder in mounted:
            subprocess.run([WORMHOLE, "unmount", folder], timeout=TIMEOUT_SECONDS)
        host.terminate()
        host.wait(TIMEOUT_SECONDS)
        shutil.rmtree(desk, ignore_errors=True)


def describe(what, samples):
    """Prints what samples, in milliseconds, come to."""
    samples = sorted(samples)
    p99 = samples[max(0, -(-len(samples) * 99 // 100) - 1)]
    median, mean = statistics.median(samples), statistics.fmean(samples)
    print(f"{what}: median {median:.3f} ms, mean {mean:.3f} ms, p99 {p99:.3f} ms, max {samples[-1]:.3f} ms")
