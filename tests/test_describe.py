"""The command `python -m tfcnn.describe`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment
from tfcnn import networks
from tfcnn.describe import main
from tfcnn.description.analysis import describe
from tfcnn.description.rendering import BEGIN, END, render, variants_table
from tfcnn.networks import alexnet


@pytest.fixture
def only_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "names", lambda: ["alexnet"])


def test_the_table_is_rendered_into_the_page_on_networks(
        only_alexnet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "tfcnn").mkdir()
    for name in ("setup.cfg", "tfcnn/__init__.py"):
        (tmp_path / name).touch()
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "networks.md"
    monkeypatch.chdir(tmp_path)
    assert main(["--readme"]) == 2 and "cannot read" in capsys.readouterr().err
    page.write_text("# tfcnn\n")
    assert main(["--readme"]) == 2 and BEGIN in capsys.readouterr().err
    page.write_text(f"# tfcnn\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--readme", "--check"]) == 1 and "old" in page.read_text()
    assert main(["--readme"]) == 0
    assert page.read_text() == f"# tfcnn\n{BEGIN}\n\n{variants_table()}\n{END}\nafter\n"
    assert main(["--readme", "--check"]) == 0


def test_help_needs_no_tensorflow() -> None:
    program = ("import runpy, sys; sys.argv = ['describe', '--help']\n"
               "try: runpy.run_module('tfcnn.describe', run_name='__main__')\n"
               "except SystemExit as end: status = end.code\n"
               "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'pydot'} & set(sys.modules)\n"
               "sys.exit(status or f'imported {heavy}' if heavy else status)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python -m tfcnn.describe NETWORK [--option=value ...]" in done.stdout
    for word in ("alexnet", "--format", "--all", "--readme", "multiply_accumulates(input_shape, output_shape)"):
        assert word in done.stdout


def test_values_of_options_may_come_before_the_network(capsys: pytest.CaptureFixture) -> None:
    assert main(["--format", "json", "alexnet", "--variant", "cifar"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "alexnet_cifar"


def test_help_of_a_network_lists_its_options(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="^0$"):
        main(["alexnet", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("variant", "classes", "image_size", "normalization", "activation", "dropout", "initializer",
                 "diagram"):
        assert f"--{name} " in text
    assert "--classes CLASSES number of logits; None: that of the variant" in text
    assert "--all" not in text


def test_options_are_passed_to_build(capsys: pytest.CaptureFixture) -> None:
    assert main(["alexnet", "--format=json", "--classes=7", "--dropout=0.25", "--image_size=24", "--activation=tanh",
                 "--normalization=none"]) == 0
    found = json.loads(capsys.readouterr().out)
    plain = describe(alexnet.build(classes=7, dropout=0.25, image_size=24, activation="tanh", normalization="none"))
    assert found == json.loads(render(plain, "json"))
    assert found["rows"][0]["output_shape"] == [24, 24, 3] and found["rows"][-1]["output_shape"] == [7]
    assert main(["--format=json", "alexnet"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "alexnet_cifar"


@pytest.mark.parametrize("words, message", [
    (["resnext"], "network='resnext' must be one of airbench, alexnet, "),
    ([], "name a network, one of airbench, alexnet, "),
    (["alexnet", "--depth=20"], "unrecognized arguments: --depth=20; see python -m tfcnn.describe alexnet --help"),
    (["--variant=paper"], "unrecognized arguments: --variant=paper; see python -m tfcnn.describe --help"),
    (["alexnet", "--all"], "unrecognized arguments: --all"),
    (["alexnet", "--variant=googlenet"], "variant='googlenet' must be one of cifar, paper, one_tower"),
    (["alexnet", "--classes=many"], "classes"), (["alexnet", "--classes=0"], "classes=0 must be at least 1"),
    (["alexnet", "--format=html"], "format"), (["alexnet", "vgg"], "unrecognized arguments: vgg"),
    (["--check"], "--check goes with --readme"), (["alexnet", "--image_size"], "image_size"),
    (["alexnet", "--diagram=a.gif"], "must be a file that ends in .png"),
    (["alexnet", "--diagram=nowhere/a.png"], "there is no folder nowhere")])
def test_a_usage_error_is_one_line_and_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ") and message in printed.err


def test_a_missing_program_for_a_diagram_is_an_error_before_anything_is_printed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tfcnn.describe", "alexnet", "--diagram=alexnet.png"], cwd=tmp_path,
                          env=environment(tmp_path) | {"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    line, = done.stderr.splitlines()
    assert line.startswith("error: a diagram needs ") and "dot (on Debian: apt-get install graphviz)" in line


def test_missing_pydot_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/dot")
    assert main(["alexnet", f"--diagram={tmp_path / 'alexnet.png'}"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: a diagram needs pydot (pip install -e '.[diagram]')\n" and not printed.out


@pytest.mark.skipif(not (shutil.which("dot") and importlib.util.find_spec("pydot")),
                    reason="needs pydot and Graphviz's dot")
def test_diagram(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "alexnet.png"
    assert main(["alexnet", f"--diagram={file}"]) == 0
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000
    assert "1,756,426" in capsys.readouterr().out
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert main(["alexnet", f"--diagram={tmp_path / 'other.png'}"]) == 2
