"""Files and folders: paths as the user names them, files written whole, and what to do where the system refuses."""

from __future__ import annotations

import ast
import errno
import os
import re
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from tfcnn.recipe import UsageError

# What NumPy and `zipfile` raise for an .npz file that is damaged, wherever the damage is.
DAMAGED_ARRAYS = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)

# What the system refuses for -> what to do. Of these reasons a user can remove each; others are bugs.
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "let this process write larger files (see `ulimit -f`), or choose another file system",
    errno.EROFS: "make the file system writable, or choose another folder",
    errno.EACCES: "change its permissions, or choose another folder",
    errno.EPERM: "change its permissions, or choose another folder",
    errno.EOPNOTSUPP: "the file system lacks what is needed: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: remove one of them",
    errno.EISDIR: "it is a folder: move it elsewhere, or choose another name",
    errno.ENOTDIR: "choose another folder",
    errno.EEXIST: "move what is there elsewhere, or choose another name",
    errno.ENOTEMPTY: "move what is there elsewhere, or choose another name",
    errno.EMFILE: "let this process open more files (see `ulimit -n`)",
    errno.ENFILE: "let the machine open more files, or end other programs",
    errno.ENOLCK: "the file system has no locks: choose another folder",
    errno.EIO: "check the disk, or choose another folder",
    errno.ESTALE: "the network folder has changed: mount it again",
    errno.ENODEV: "check the disk, or choose another folder",
    errno.ENXIO: "check the disk, or choose another folder",
    errno.ENOENT: "choose another folder",
}


def expanded(text: str | os.PathLike[str]) -> Path:
    """A path as the user names it, with `~` or `~user` at its beginning replaced by a home folder.

    Raises:
      UsageError: that home folder is unknown.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UsageError(f"{path}: the home folder {path.split(os.sep)[0]} is unknown: name the whole path, or "
                         f"./{path} if that is the name of a folder")
    return Path(path)


def temporary(path: Path) -> Path:
    """The path under which a file is written before it takes its place.

    The name is always the same, so that a later write replaces what a killed process left behind.
    """
    return path.with_name(f"{path.name}.tmp")


def write(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: under a temporary name first, synchronized to disk, then renamed.

    Args:
      path: the file to write or replace.
      content: text, written as UTF-8, or bytes.

    Raises:
      UsageError: the file cannot be written.
    """
    unfinished = temporary(path)
    try:
        with open(unfinished, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise usage_error(f"cannot write {path}", error, path) from error


def usage_error(what: str, error: Exception, path: Path | None = None, before_remedy: str = "",
                after_remedy: str = "") -> UsageError:
    """The error to raise where the system refuses to read or write: what could not be done, why, and what to do.

    Args:
      what: what could not be done, such as "cannot write FILE".
      error: an OSError, or TensorFlow's error about a file.
      path: the file or folder in question; by default the one that the error names.
      before_remedy: what comes right before the remedy.
      after_remedy: what comes right after it.
    """
    named = getattr(error, "filename", None)
    if path is None and isinstance(named, str | os.PathLike):
        path = Path(named)
    return UsageError(f"{what}: {_reason(error)}; {before_remedy}{_remedy(error, path)}{after_remedy}")


def refusal(error: OSError) -> UsageError | None:
    """The error to show for an OSError that no one has caught; None if it is a bug and not what the system refuses."""
    if _number(error) not in _REMEDIES:
        return None
    return usage_error(f"cannot use {error.filename}" if error.filename else "cannot go on", error)


def _number(error: Exception) -> int | None:
    """The number that the system gave the error; TensorFlow and HDF5 only have it in their texts."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if match := re.search(r"\berrno = (\d+)", text):
        return int(match[1])
    return next((number for number in _REMEDIES if os.strerror(number) in text), None)


def _reason(error: Exception) -> str:
    """Why the system refused, in one line."""
    text = (isinstance(error, OSError) and error.strerror) or getattr(error, "message", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__


def _remedy(error: Exception, path: Path | None) -> str:
    """What the user can do."""
    number = _number(error)
    if "usable temporary directory" in str(error):
        return "let TMPDIR name a folder that can be written"
    if path is not None and number in (errno.EACCES, errno.EPERM):
        existing = [folder for folder in reversed(path.absolute().parents) if os.path.isdir(folder)]
        closed = next((folder for folder in existing if not os.access(folder, os.X_OK)), None)
        itself = os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK)
        closed = closed or (path if itself else existing[-1])
        return f"change the permissions of {closed}, or choose another folder"
    if path is not None and number in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EEXIST):
        folders = [*reversed(path.absolute().parents), *([path] if number == errno.EEXIST else [])]
        missing = next((folder for folder in folders if not os.path.isdir(folder)), None)
        if missing and os.path.lexists(missing):
            kind = "a link to nowhere" if missing.is_symlink() else "a file"
            return f"{missing} is {kind}: put a folder in its place, or choose another one"
        if missing:
            return f"the folder {missing} is missing, or was removed or renamed: bring it back"
    return _REMEDIES.get(number or 0, "remove the reason")


def code_without_words(path: Path) -> str:
    """The code of a Python file as text that its comments and docstrings do not change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(
                body[0].value, ast.Constant):
            body[0].value.value = ""
    return ast.dump(tree)
