"""What the file system of a folder can do: is it shared with other machines, and do locks work on it?

SQLite's write-ahead log needs memory that all processes share, so it is for processes of one machine
(https://www.sqlite.org/wal.html). That a database opens with it on a network folder proves nothing: the damage is done
by the second machine. So a database on such a folder keeps a rollback journal, whose locks the file server knows.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path

# fmt: off
_NETWORK = frozenset({
    "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs",
    "vmhgfs", "fuse.ceph", "fuse.curlftpfs", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys",
    "fuse.grpcfuse", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
})
# fmt: on
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
_DRIVE_REMOTE = 4  # what Windows' GetDriveType says of a network drive
_MNT_LOCAL = 0x1000  # macOS: the file system is stored on this machine


def is_network(folder: Path) -> bool:
    """Whether other machines may have `folder`, or the nearest folder above it that exists, open as well."""
    name = kind(folder)
    return name in _NETWORK or name == "remote"


def kind(folder: Path) -> str:
    """The file system that holds `folder`: its name on Linux; elsewhere ``remote`` or ``local``; empty if unknown."""
    folder = folder.absolute()
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if sys.platform == "win32":
        return _windows(there)
    if sys.platform == "darwin":
        return _macos(there)
    return _linux(there.resolve())


def journal_mode(path: Path) -> str:
    """The journal that is safe for the database at `path`: ``wal``, or ``delete`` on a network folder."""
    return "delete" if is_network(path.parent) else "wal"


def locks_work(folder: Path) -> bool:
    """Whether files in `folder` can be locked, which NFS without its lock service and some mounted clouds refuse."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


def _linux(place: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Of the mounts above `place` the deepest counts; of two at one point the later, which covers the other."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return ""
    name, longest, target = b"", -1, os.fsencode(place)
    for line in lines:
        before, _, after = line.partition(b" - ")
        point = _unescaped(before.split(b" ")[4])
        inside = target == point or target.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= longest:
            name, longest = after.split(b" ")[0], len(point)
    return name.decode("ascii", "replace")


def _unescaped(point: bytes) -> bytes:
    for code in (b" ", b"\t", b"\n", b"\\"):
        point = point.replace(b"\\%03o" % code[0], code)
    return point


def _windows(place: Path) -> str:
    if sys.platform != "win32":
        return ""
    import ctypes

    root = place.resolve().anchor
    remote = root.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(root) == _DRIVE_REMOTE
    return "remote" if remote else "local"


def _macos(place: Path) -> str:
    """`struct statfs` with 64-bit inodes holds the mount's flags in its 65th to 68th byte (sys/mount.h)."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs
    found = ctypes.create_string_buffer(4096)
    if statfs(os.fsencode(place), found) != 0:
        return ""
    flags = int.from_bytes(found.raw[64:68], sys.byteorder)
    return "local" if flags & _MNT_LOCAL else "remote"
