"""Which file systems report what others write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from larkdrop.folder.mounts import file_system, reports_changes


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "vfat", "unknown"])
def test_local_ones_do(kind: str) -> None:
    """Inotify is enough there."""
    assert reports_changes(kind)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs", "fuse.sshfs", "fuse", "fuseblk"])
def test_remote_ones_do_not(kind: str) -> None:
    """They have to be polled."""
    assert not reports_changes(kind)


@pytest.mark.needs("root", "mount")
def test_the_type_of_a_real_mount(tmp_path: Path) -> None:
    """The innermost mount decides, also behind a name with a space."""
    place = tmp_path / "with space"
    place.mkdir()
    before = file_system(str(place))
    subprocess.run(["mount", "-t", "ramfs", "ramfs", place], check=True)
    try:
        (place / "inner").mkdir()
        assert file_system(str(place / "inner")) == "ramfs"
        assert file_system(str(tmp_path)) == before != "ramfs"
    finally:
        subprocess.run(["umount", place], check=True)
