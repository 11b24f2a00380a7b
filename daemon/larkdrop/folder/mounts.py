"""Does a folder's file system report what others write? By its type."""

from __future__ import annotations

import os
import re
from pathlib import Path

from larkdrop.config.settings import Watch

# File systems whose content changes on other machines, or in programs that the kernel can't see.
REMOTE = frozenset({
    "nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "virtiofs",
    "vboxsf", "vmhgfs", "prl_fs", "davfs", "davfs2", "coda", "ncpfs", "drvfs", "beegfs", "orangefs",
})  # fmt: skip


def file_system(path: str) -> str:
    """The type of the file system that holds ``path`` (such as ``ext4``, ``fuse.sshfs``), or ``unknown``."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return "unknown"
    best, kind = "", "unknown"
    real = os.path.realpath(path)
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        escaped = before.split()[4]
        point = os.fsdecode(re.sub(rb"\\(\d{3})", lambda octal: bytes([int(octal[1], 8)]), escaped))
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0].decode("ascii", "replace")
    return kind


def reports_changes(kind: str) -> bool:
    """Whether inotify sees every change on a file system of this type."""
    return kind not in REMOTE and not kind.startswith("fuse")


def by_events(watch: Watch, kind: str) -> bool:
    """Whether a folder on a file system of this type is watched by inotify; else it is scanned again and again."""
    return watch.observer == "inotify" or (watch.observer == "auto" and reports_changes(kind))
