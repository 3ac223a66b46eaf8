"""The folder that `--data_dir` names: whether it holds what a data set needs, and what to say if it does not."""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tfcnn import files
from tfcnn.data import official
from tfcnn.data.errors import permission_denied
from tfcnn.recipe import UsageError

FOLDER, SAMPLE = "folder", "sample"
_PARTS = ("train", "test")
_SHOWN = 8  # entries of a folder in a message
_SEARCHED = 300  # folders below that are searched for what is missing


def find_folder(name: str, data_dir: str | None, stream: bool = False) -> Path | None:
    """Finds the folder of a data set, before anything is read.

    Args:
      name: of the data set, as in `datasets.load`.
      data_dir: the folder as the user names it.
      stream: whether the images are streamed, which official files cannot be.

    Returns:
      The folder; None if none is named. The folder of a data set that only tensorflow-datasets may know can still be
      the wrong one, see `nothing_fits`.

    Raises:
      UsageError: it does not exist, may not be read, or holds nothing of the data set.
    """
    if not data_dir:
        return None
    folder = files.expanded(data_dir)
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError
        if not os.access(folder, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        known = name == FOLDER or name in official.KNOWN
        if known and name != SAMPLE and not _fits(name, folder, stream):
            os.listdir(folder)  # fails if the folder may not be read, and then nothing is known about it
            raise nothing_fits(name, folder, stream)
    except FileNotFoundError as error:
        raise _missing(name, data_dir, folder, stream) from error
    except NotADirectoryError as error:
        raise _not_a_folder(name, data_dir, folder, stream) from error
    except PermissionError as error:
        raise permission_denied(error) from error
    except OSError as error:
        raise files.usage_error(f"cannot read --data_dir={data_dir}", error, folder) from error
    return folder


def nothing_fits(name: str, folder: Path, stream: bool = False) -> UsageError:
    """The error to raise if a folder exists and holds nothing of a data set.

    It says what was looked for, what the folder has, and what may be meant. Arguments are those of `find_folder`.
    """
    hints = itertools.chain(_elsewhere(name, folder, stream), _other_data_sets(name, folder), _misspelt(name, folder))
    remedy = next(hints, f"Name the folder that has it, or leave out --data_dir {_without(name)}.")
    return UsageError(f"--data_dir={folder} holds nothing of --dataset={name}. {remedy} Looked for "
                      f"{_needed(name, stream)}; {_listing(folder)}")


def _missing(name: str, data_dir: str, folder: Path, stream: bool) -> UsageError:
    if folder.is_symlink():
        what = f"--data_dir={data_dir} is a link to {os.readlink(folder)}, which does not exist"
    else:
        what = f"--data_dir={data_dir} does not exist"
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    similar = difflib.get_close_matches(folder.name, set(_entries(parent)) - {folder.name})
    meant = f"did you mean {parent / similar[0]}? Name" if similar and parent == folder.absolute().parent else "name"
    if name == SAMPLE:
        return UsageError(f"{what}: leave it out, the sample comes with tfcnn")
    return UsageError(f"{what}: {meant} a folder that has {_needed(name, stream)}; {_listing(parent)}")


def _not_a_folder(name: str, data_dir: str, folder: Path, stream: bool) -> UsageError:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    what = f"--data_dir={data_dir} is not a folder" + ("" if there == folder else f", because {there} is a file")
    fitting = _fits(name, there.parent, stream)
    return UsageError(f"{what}: " + (f"did you mean the folder it is in, --data_dir={there.parent}?" if fitting else
                                     f"name a folder that has {_needed(name, stream)}"))


def _fits(name: str, folder: Path, stream: bool) -> bool:
    """Whether a folder holds anything of a data set, if only a part of it."""
    if name == FOLDER:
        return any((folder / part).is_dir() for part in _PARTS)
    if name in official.KNOWN and not stream:
        entry = official.KNOWN[name]
        if any(official.has_files(entry, place) for place in (folder / name, folder)):
            return True
    return next(_prepared(name, folder), None) is not None


def _prepared(name: str, folder: Path) -> Iterator[Path]:
    """What tensorflow-datasets has prepared of a data set, which may have configurations, in a folder."""
    base = re.split("[/:]", name)[0]
    if re.fullmatch(r"\w+", base):
        for pattern in ("*/dataset_info.json", "*/*/dataset_info.json"):
            yield from (folder / base).glob(pattern)


def _needed(name: str, stream: bool) -> str:
    """What a folder must have."""
    if name == FOLDER:
        return "images in train/<class>/ and test/<class>/"
    prepared = f"{re.split('[/:]', name)[0]}/ as tensorflow-datasets prepares it"
    if stream or name not in official.KNOWN:
        return prepared + (" (official files cannot be streamed)" if name in official.KNOWN else "")
    forms = [f"{layout.archive} or {layout.folder}/" if layout.archive else
             f"{', '.join(layout.train + layout.test)}, each also with .gz" for layout in official.KNOWN[name].layouts]
    return f"{', or '.join(forms)}, here or in {name}/; or {prepared}"


def _without(name: str) -> str:
    """What a run does without `--data_dir`."""
    if name == FOLDER:
        return "and choose another --dataset"
    return "to have it searched for on this machine and downloaded (TFDS_DATA_DIR says where to)"


def _elsewhere(name: str, folder: Path, stream: bool) -> Iterator[str]:
    """The folders above and below that fit."""
    absolute = folder.absolute()
    above = absolute.parents[:3]
    below = itertools.islice((path for pattern in ("*/", "*/*/") for path in absolute.glob(pattern)), _SEARCHED)
    for place in (*above, *below):
        if _quietly_fits(name, place, stream):
            yield f"Did you mean --data_dir={place}?"


def _misspelt(name: str, folder: Path) -> Iterator[str]:
    """The entries whose names nearly are what is looked for."""
    layouts = official.KNOWN[name].layouts if name in official.KNOWN else ()
    wanted = _PARTS if name == FOLDER else [
        found for layout in layouts for found in (*layout.published(), layout.archive, layout.folder, *layout.files())]
    for entry in _entries(folder):
        if entry not in wanted and (close := difflib.get_close_matches(entry.lower(), filter(None, wanted), 1, 0.75)):
            yield f"Is {_shown(entry)} what should be called {close[0]}? Then rename it."


def _other_data_sets(name: str, folder: Path) -> Iterator[str]:
    """The data sets that the folder does hold; MNIST and Fashion-MNIST have files of the same names."""
    prepared = {info.relative_to(folder).parts[0] for depth in ("*/*", "*/*/*")
                for info in folder.glob(f"{depth}/dataset_info.json")}
    found = {other for other in (FOLDER, *official.KNOWN) if other != SAMPLE and _quietly_fits(other, folder, False)}
    if others := sorted((found | prepared) - {name}):
        yield f"It has what {' or '.join(f'--dataset={other}' for other in others)} needs."


def _quietly_fits(name: str, folder: Path, stream: bool) -> bool:
    """Whether a folder seems to hold all of a data set; one that may not be searched does not."""
    try:
        return _fits(name, folder, stream) and (name != FOLDER or all((folder / part).is_dir() for part in _PARTS))
    except PermissionError:
        return False


def _listing(folder: Path) -> str:
    """The first entries of a folder."""
    entries = _entries(folder)
    if not entries:
        return f"{folder} is empty"
    shown = ", ".join(_shown(entry) + ("/" if os.path.isdir(folder / entry) else "") for entry in entries[:_SHOWN])
    return f"{folder} has {shown}" + (f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else "")


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except OSError:
        return []


def _shown(entry: str) -> str:
    """The name of a file in a message: in one line, and shortened."""
    entry = entry if entry.isprintable() else ascii(entry)
    return entry if len(entry) <= 40 else f"{entry[:40]}..."
