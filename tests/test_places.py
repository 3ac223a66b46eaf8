"""Where a run goes: the folder that the user names or a new one, and commands that work where they are printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, environment, start
from tests.data_files import write_folder
from tests.forked import Forked, run_module
from tests.users import run_module_homeless, run_module_unprivileged, without_privileges
from tfcnn import cli, commands, experiments, files, flags, runs
from tfcnn.recipe import UsageError
from tfcnn.runs import __main__ as runs_command
from tfcnn.runs import folder as run_folder

EXPERIMENT = "tfcnn.experiments.lenet5"
FLAGS = ("--dataset=folder", "--data_dir=data", "--epochs=1", "--batch_size=4", "--validation=0")


def _until_first_step(*arguments: str) -> None:
    """Runs an experiment that ends, with status 2, when it has its folder and would begin to train."""
    from tfcnn.training import trainer

    def stop(*values: Any) -> None:
        raise UsageError("stopped")

    trainer.Loop = stop
    run_module(*arguments)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with tiny data in `data`."""
    write_folder(tmp_path / "data", size=(28, 28), mode="L")
    return tmp_path


# Folders that the user names


def test_a_home_folder_is_meant_by_a_tilde(place: Path) -> None:
    done = Forked(_until_first_step, EXPERIMENT, *FLAGS, "--workdir=~/runs/x", cwd=place,
                  env=environment(place) | {"HOME": str(place / "home")}).completed()
    assert done.stderr == "error: stopped\n"
    assert (place / "home" / "runs" / "x" / runs.RECIPE).exists() and not (place / "~").exists()
    assert f"--workdir={place / 'home' / 'runs' / 'x'}\n" in done.stdout


def test_every_tool_expands_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.expanded("~/x") == tmp_path / "x" and files.expanded("./~/x") == Path("~/x")
    assert runs_command.main(["show", "~/x"]) == 2 and f"{tmp_path / 'x'} is not" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.measure("frameworks", {}, lambda values, workdir: (workdir / "seen").touch(),
                    ["frameworks", "--workdir=~/measured"])
    assert (tmp_path / "measured" / "seen").exists() and not (tmp_path / "~").exists()
    for path in ("~", "~/x"):
        monkeypatch.setattr(os.path, "expanduser", lambda text: text)  # a user whose home is unknown
        with pytest.raises(UsageError, match="the home folder ~ is unknown"):
            files.expanded(path)


# Name -> what makes it, and what the message says. Each is a --workdir that cannot be used.
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (Path.touch, "is a file"),
    "file/run": (lambda path: path.parent.touch(), "file is a file: put a folder in its place"),
    "link": (lambda path: path.symlink_to("gone"), "link is a link to nowhere"),
    "link/run": (lambda path: path.parent.symlink_to("gone"), "link is a link to nowhere"),
    "circle": (lambda path: path.symlink_to("circle"), "circle is a link to nowhere"),
    "x" * 300: (lambda path: None, "File name too long; choose a shorter name"),
    "/".join(["y" * 200] * 25): (lambda path: None, "File name too long; choose a shorter name"),
    "closed/run": (lambda path: path.parent.mkdir(0o000), "closed, or choose another folder"),
    "unsearchable/run": (lambda path: path.parent.mkdir(0o600), "unsearchable, or choose another folder"),
    "unwritable/run": (lambda path: path.parent.mkdir(0o500), "unwritable, or choose another folder"),
    "unwritable": (lambda path: path.mkdir(0o500), "unwritable, or choose another folder"),
}


@pytest.mark.parametrize("name", PLACES, ids=lambda name: name[:20])
def test_a_folder_that_cannot_be_used_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = PLACES[name]
    monkeypatch.chdir(tmp_path)
    make(Path(name))

    def use() -> None:
        recipe = experiments.recipes()["lenet5"]
        uses: list[Callable[[], Any]] = [
            lambda: runs.RunFolder(name).opened(recipe, []).__enter__(),
            lambda: cli._result_folder("lenet5", name, overwrite=True).__enter__()]
        for using in uses:
            with pytest.raises(UsageError) as caught:
                using()
            assert "\n" not in str(caught.value)
            print(caught.value)

    status, output = without_privileges(use)
    assert status == 0 and output.count("\n") == 2, output
    for line in output.splitlines():
        assert name in line and words in line.replace("exists already: choose", "is a file: choose")


def test_a_command_in_a_folder_that_may_not_be_searched_is_one_line_and_status_2(place: Path) -> None:
    (place / "closed").mkdir(0o000)
    for module, arguments in ((EXPERIMENT, (*FLAGS, "--workdir=closed/run")), ("tfcnn.runs", ("show", "closed/run"))):
        done = Forked(run_module_unprivileged, module, *arguments, cwd=place, env=environment(place)).completed()
        line, = done.stderr.splitlines()
        assert done.returncode == 2 and line.startswith("error: ") and "closed" in line
    place.chmod(0o500)
    done = Forked(run_module_unprivileged, EXPERIMENT, *FLAGS, cwd=place, env=environment(place)).completed()
    place.chmod(0o700)
    line, = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: cannot use runs/lenet5-folder-")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_and_a_home_can_train(place: Path) -> None:
    place.chmod(0o777)
    for flags_given, status, words in ((FLAGS, 0, ""), (("--dataset=cifar10",), 2, "no home folder is known"),
                                       ((*FLAGS, "--workdir=~/run"), 2, "the home folder ~ is unknown")):
        variables = {name: value for name, value in environment(place).items() if name != "TFDS_DATA_DIR"}
        done = Forked(run_module_homeless, EXPERIMENT, *flags_given, cwd=place, env=variables).completed()
        assert done.returncode == status and words in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.count("\n") == bool(status)


def _without_temporary_folder(*arguments: str) -> None:
    import tempfile
    tempfile._candidate_tempdir_list = lambda: ["/no/folder"]
    run_module(*arguments)


def test_no_temporary_folder_is_one_line_and_status_2(tmp_path: Path) -> None:
    for module, arguments in ((EXPERIMENT, ("--dataset=sample",)), ("tfcnn.describe", ("lenet",))):
        done = Forked(_without_temporary_folder, module, *arguments, cwd=tmp_path, env=environment(tmp_path)
                      ).completed()
        line, = done.stderr.splitlines()
        assert done.returncode == 2 and line.startswith("error: ") and "let TMPDIR name a folder" in line
        assert not list(tmp_path.iterdir())


# New folders


class _OneSecond(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5)


def _in_one_second(*arguments: str) -> None:
    run_folder.datetime = _OneSecond
    _until_first_step(*arguments)


def test_runs_that_start_in_the_same_second_have_a_folder_each(place: Path) -> None:
    processes = [Forked(_in_one_second, EXPERIMENT, *FLAGS, cwd=place, env=environment(place)) for _ in range(3)]
    ends = [process.completed() for process in processes]
    assert [end.stderr for end in ends] == 3 * ["error: stopped\n"]
    names = {f"lenet5-folder-20260102-030405{suffix}" for suffix in ("", "-2", "-3")}
    assert {path.name for path in (place / "runs").iterdir()} == names
    said = {next(line.split()[1] for line in end.stdout.splitlines() if line.startswith("run:")) for end in ends}
    assert said == {f"runs/{name}" for name in names}
    assert all((place / "runs" / name / runs.RECIPE).exists() for name in names)


def test_benchmarks_that_start_in_the_same_second_have_a_folder_each(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "datetime", _OneSecond)
    monkeypatch.chdir(tmp_path)
    found: list[Path] = []

    def action(values: Any, workdir: Path) -> None:
        found.append(workdir)
        if len(found) < 3:
            with pytest.raises(SystemExit):  # another one, while this one has written nothing yet
                cli.measure("scaling", {}, action, ["scaling"])
            (workdir / "result.json").touch()
        else:
            raise UsageError("stop")

    with pytest.raises(SystemExit):
        cli.measure("scaling", {}, action, ["scaling"])
    assert [path.name for path in found] == [f"scaling-20260102-030405{suffix}" for suffix in ("", "-2", "-3")]
    assert [path.exists() for path in found] == [True, True, False]  # a folder that stays empty is removed


def test_a_benchmark_that_writes_nothing_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def action(values: Any, workdir: Path) -> None:
        raise UsageError("stop")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    for arguments in ((), ("--workdir=new/deep",), ("--workdir=theirs",)):
        with pytest.raises(SystemExit):
            cli.measure("scaling", {}, action, ["scaling", *arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


# Printed commands


WORKDIRS = ("run", "my run", "it's", 'quo"te', "new\nline", "~run", " before", "$HOME", "-dash", "a&b;c", "ünïcode",
            "#")


@pytest.mark.parametrize("name", WORKDIRS)
def test_a_printed_command_names_the_folder_whatever_its_name(name: str, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell splits the command, the experiment's parser reads it, and what it then names is the folder."""
    monkeypatch.chdir(tmp_path)
    for workdir in (Path(name), tmp_path / name):
        workdir.mkdir(exist_ok=True)
        (workdir / runs.COMMAND).write_text("--epochs=7\n")
        run = commands.RunCommands("lenet5", workdir)
        for line, names_workdir in ((run.resume, True), (run.repeat, False)):
            words = _words(line)
            assert words[1:3] == ["-m", EXPERIMENT]
            recipe, values = flags.parse(experiments.recipes()["lenet5"], words[2:])
            assert recipe.epochs == 7
            named = values["workdir"].value
            assert (files.expanded(named).absolute() == workdir.absolute()) if names_workdir else not named
        *_, logdir = _words(run.tensorboard)
        assert files.expanded(logdir.removeprefix("--logdir=")).absolute() == workdir.absolute()
    rest = _words(commands.to_measure_rest("scaling", ["--devices=1,2", "--workdir", "a b", "--overwrite"], Path(name)))
    values = flags.parse_options("scaling", {}, [rest[2], *rest[4:]])
    assert files.expanded(values["workdir"].value) == Path(name) and values["overwrite"].value is False


def _words(line: str) -> list[str]:
    """The words of a command line, as a shell splits it."""
    done = subprocess.run(["sh", "-c", f'set -- {line}\nprintf "%s\\0" "$@"'], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The `bin` folders of two environments whose interpreters are links to the same file."""
    root = tmp_path_factory.mktemp("user's environments")
    for name in ("own", "other"):
        venv.create(root / name, symlinks=True)
    return root / "own" / "bin", root / "other" / "bin"


@pytest.mark.parametrize("folder, path, expected", [
    ("own/..", "", "bin/python"), ("own", "", "./python"), ("elsewhere", "", "{own}/python"),
    ("elsewhere", "own", "python"), ("elsewhere", "other:own", "{own}/python"), ("own/..", "other", "bin/python")])
def test_a_printed_command_runs_this_interpreter(
        folder: str, path: str, expected: str, interpreters: tuple[Path, Path], tmp_path: Path) -> None:
    own, other = interpreters
    names = {"own": own, "other": other, "own/..": own.parent, "elsewhere": tmp_path}
    packages = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    search = os.pathsep.join([*(str(names[name]) for name in path.split(":") if name), "/usr/bin", "/bin"])
    variables = {"PYTHONPATH": packages, "PATH": search}
    program = ("from pathlib import Path\nfrom tfcnn import commands\n"
               "print(commands.RunCommands('lenet5', Path('run')).resume)")

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=names[folder], env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    line = run(str(own / "python"), "-c", program).strip()
    python, _, rest = line.partition(" -m ")
    assert shlex.split(python) == [expected.format(own=own)]
    assert run("sh", "-c", f"{python} -c 'import sys; print(sys.prefix)'").strip() == str(own.parent)
    assert "usage: python -m" in run("sh", "-c", f"{python} -m {rest.split()[0]} --help")


def test_printed_lines_work_in_a_shell_where_they_are_printed(place: Path) -> None:
    """From another folder than the checkout's, in a folder with an awkward name."""
    done = start(place, *FLAGS, "--workdir=it's\nmine", experiment="lenet5").completed()
    assert done.returncode == 0, done.stderr
    resume = done.stdout.partition("resume:")[2].partition("\nEpoch")[0]
    again = subprocess.run(["sh", "-c", resume], cwd=place, env=environment(place), capture_output=True, text=True)
    assert again.returncode == 0 and "complete already" in again.stdout, again.stderr
    assert again.stdout.partition("repeat:")[2] == done.stdout.partition("repeat:")[2]
