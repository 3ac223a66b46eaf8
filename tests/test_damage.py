"""A run on damaged data: one line that names the damaged file, exit status 2, and nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tfcnn import cli
from tfcnn.experiments.alexnet import RECIPE

ARGUMENTS = ("--dataset=folder", "--batch_size=24", "--epochs=1", "--warmup_epochs=0", "--validation=0")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _one_class(part: Path) -> None:
    for name in ("green", "blue"):
        for one in (part, part.parent / "test"):
            shutil.rmtree(one / name)


# Case -> the damaged file or folder, which the message must name, and what is done to it.
CASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "truncated image": ("train/red/00.png", _cut),
    "truncated test image": ("test/blue/03.png", _cut),
    "text for an image": ("train/green/01.png", lambda path: path.write_text("no image")),
    "empty file": ("train/green/02.png", lambda path: path.write_bytes(b"")),
    "other file": ("train/red/notes.txt", lambda path: path.write_text("notes")),
    "empty class": ("train/red", _empty),
    "no class folders": ("train", lambda path: [shutil.rmtree(one) for one in path.iterdir()]),
    "class without test images": ("test/red", shutil.rmtree),
    "no test folder": ("test", shutil.rmtree),
    "one class": ("train", _one_class),
    "file for a folder": ("train/list.csv", lambda path: path.write_text("a,b")),
    "folder for an image": ("train/red/more.png", Path.mkdir),
}


# A damaged test image that is streamed is only noticed when it is read: see the next test.
@pytest.mark.parametrize("case, stream", [(case, stream) for case in CASES for stream in (False, True)
                                          if not (stream and case == "truncated test image")], ids=str)
def test_damaged_folder_is_refused_before_the_run_starts(case: str, stream: bool, class_folders: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(class_folders, data)
    name, damage = CASES[case]
    damage(data / name)
    status, errors = _run(data, tmp_path / "run", capsys, f"--stream={stream}")
    assert status == 2 and len(errors) == 1 and errors[0].startswith("error: ")
    assert str(data / (name if case != "class without test images" else "")) in errors[0]
    assert not (tmp_path / "run").exists()


def test_damaged_streamed_image_is_named_when_it_is_read(class_folders: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    """The set-up checks a sample of the training images, and no test image."""
    for name, kind in (("train/red/07.png", "none"), ("test/blue/03.png", "channel")):
        data = tmp_path / name.replace("/", "-")
        shutil.copytree(class_folders, data)
        _cut(data / name)
        status, errors = _run(data, tmp_path / "run", capsys, "--stream", f"--input_normalization={kind}",
                              "--overwrite")
        assert status == 2 and len(errors) == 1 and errors[0].startswith(f"error: {data / name} cannot be read")
        assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("arguments, word", [
    (("--augment=rotat",), "did you mean rotate"), (("--augment=crop:-1",), "PADDING"),
    (("--augment=mixup,mirror",), "last"), (("--augment=mixup", "--stream"), "leave out --stream"),
    (("--test_crops=10",), "--stream"), (("--input_normalization=log",), "log"),
    (("--dataset=sample", "--stream"), "leave out --stream"), (("--dataset=fodler",), "did you mean folder"),
    (("--batch_size=1000",), "more than the 120"), (("--validation=0.999",), "leaves no training image"),
    (("--data_dir=/nowhere",), "/nowhere"), (("--data_dir=/nowhere", "--stream"), "/nowhere")], ids=str)
def test_settings_that_do_not_fit_the_data_are_refused(
        arguments: tuple[str, ...], word: str, class_folders: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    status, errors = _run(class_folders, tmp_path / "run", capsys, *arguments)
    assert status == 2 and len(errors) == 1 and errors[0].startswith("error: ") and word in errors[0], errors
    assert not (tmp_path / "run").exists()


def _run(data: Path, workdir: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as caught:
        cli.run(RECIPE, ["alexnet", *ARGUMENTS, f"--data_dir={data}", f"--workdir={workdir}", *arguments])
    return int(caught.value.code or 0), capsys.readouterr().err.splitlines()
