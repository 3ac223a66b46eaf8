"""What users have set for Keras and matplotlib, in files and variables, changes no result and no picture of ours."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import tfcnn.networks.layers  # noqa: F401 - before keras; a saved network is loaded with the suite's own layers
import keras
import numpy as np
import pytest
from PIL import Image

from tests.conftest import command, environment
from tests.toy_run import complete_run, result_of
from tfcnn import drawing, experiments, runs
from tfcnn.runs import RunFolder, curves
from tfcnn.training import trainer
from tfcnn.training.trainer import train

# Loads Keras's configuration, which is one file, without TensorFlow; tfcnn is imported first, or after keras.
CONFIGURATION = Path(keras.__file__).parent / "src" / "backend" / "config.py"
LOAD = f"""
import json, runpy, sys, types
def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)
def load():
    for name in ("keras", "keras.src", "keras.src.backend"):
        module(name)
    module("keras.src.api_export", keras_export=lambda *_: lambda function: function)
    module("keras.src.backend.common", global_state=types.SimpleNamespace(set_global_attribute=lambda *_: None))
    values = runpy.run_path({str(CONFIGURATION)!r})
    sys.modules["keras"].config = types.SimpleNamespace(**values)
    return [values[name]() for name in ("backend", "image_data_format", "floatx", "epsilon", "is_nnx_enabled",
                                        "max_epochs", "max_steps_per_epoch")]
"""
TFCNN_FIRST = LOAD + "import tfcnn\nprint(load())"
KERAS_FIRST = LOAD + "load()\nimport tfcnn"
DEFAULTS = ["tensorflow", "channels_last", "float32", 1e-7, False, None, None]
KERAS_FILES = {
    **{f"{name}={value}": json.dumps({name: value}) for name, values in {
        "image_data_format": ("channels_first", "?"), "floatx": ("float16", "float64", "bfloat16"),
        "epsilon": (0.1, 1), "backend": ("torch", "?"), "nnx_enabled": (True,)}.items() for value in values},
    "a list": "[]", "cut short": '{"floatx', "other bytes": b"\xff\xfe{\x00", "a folder": None,
}
KERAS_VARIABLES = {"KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "many", "KERAS_MAX_STEPS_PER_EPOCH": "1",
                   "KERAS_NNX_ENABLED": "true"}

MATPLOTLIB_FILE = """text.usetex: True
backend: TkAgg
figure.figsize: 1, 1
figure.dpi: 10
savefig.dpi: 10
savefig.format: svg
savefig.bbox: tight
savefig.transparent: True
axes.prop_cycle: cycler('color', ['ffff00'])
axes.facecolor: black
lines.linewidth: 20
font.family: no such family
path.sketch: 3, 100, 2
axes.formatter.use_mathtext: True
no.such.key: 1
a line without a colon
lines.linewidth: thick
"""
NO_TEXT = b"\xff\xfe"  # in no UTF-8 file


def _keras_home(folder: Path, content: str | bytes | None) -> Path:
    """A folder of Keras's settings; None: the file is a folder, which cannot be read."""
    file = folder / "keras.json"
    folder.mkdir()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _python(program: str, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    given = {name: value for name, value in environment(folder).items() if not name.startswith("KERAS_")}
    return subprocess.run([sys.executable, "-c", program, *arguments], env=given | variables, cwd=folder,
                          capture_output=True, text=True)


@pytest.mark.parametrize("kind", KERAS_FILES)
def test_keras_has_its_defaults_whatever_its_file_says(kind: str, tmp_path: Path) -> None:
    home = _keras_home(tmp_path / ".keras", KERAS_FILES[kind])
    before = sorted(tmp_path.rglob("*"))
    for variables in ({"KERAS_HOME": str(home)}, {"HOME": str(tmp_path)}):
        done = _python(TFCNN_FIRST, tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        assert ast.literal_eval(done.stdout) == DEFAULTS
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", KERAS_VARIABLES)
def test_keras_has_its_defaults_whatever_its_variables_say(name: str, tmp_path: Path) -> None:
    done = _python(TFCNN_FIRST, tmp_path, HOME=str(tmp_path), **{name: KERAS_VARIABLES[name]})
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == DEFAULTS
    assert not list(tmp_path.iterdir())  # and Keras leaves no file in a home


@pytest.mark.parametrize("name, value", [
    ("image_data_format", "channels_first"), ("floatx", "float64"), ("epsilon", 0.1), ("backend", "torch")])
def test_keras_that_was_imported_with_other_settings_is_refused_in_one_line(name: str, value: object, tmp_path: Path
                                                                            ) -> None:
    done = _python(KERAS_FIRST, tmp_path, KERAS_HOME=str(_keras_home(tmp_path / "k", json.dumps({name: value}))))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: tfcnn needs Keras with {name}={getattr(keras.config, name)()}, but keras is already imported "
        f"with {value}: import tfcnn before keras")
    same = _python(KERAS_FIRST, tmp_path, KERAS_HOME=str(_keras_home(tmp_path / "same", "{}")))
    assert same.returncode == 0, same.stderr


def test_keras_is_asked_by_its_public_functions() -> None:
    assert [getattr(keras.config, name)() for name in tfcnn._KERAS_SETTINGS] == [*tfcnn._KERAS_SETTINGS.values()]
    assert [*tfcnn._KERAS_SETTINGS.values()] == DEFAULTS[:4]


def test_a_run_is_the_same_whatever_the_user_has_set(class_folders: Path, tmp_path: Path,
                                                     run_command: Callable) -> None:
    """Weights, metrics and the picture, with all that Keras and matplotlib read set to something else."""
    flags = ["--dataset=folder", f"--data_dir={class_folders}", "--epochs=2", "--batch_size=24", "--workdir"]
    done = run_command(*flags, "default", experiment="lenet5")
    assert done.returncode == 0, done.stderr
    home = tmp_path / "home"
    home.mkdir()
    settings = {"image_data_format": "channels_first", "floatx": "float64", "epsilon": 0.1, "backend": "torch"}
    _keras_home(home / ".keras", json.dumps(settings))
    (tmp_path / "matplotlibrc").write_bytes(MATPLOTLIB_FILE.encode() + NO_TEXT)
    variables = KERAS_VARIABLES | {"HOME": str(home), "MPLBACKEND": "no such backend",
                                   "MPLCONFIGDIR": "/dev/null/nowhere", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command(*flags, "other", experiment="lenet5"), env=environment(tmp_path) | variables,
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    one, other = tmp_path / "default", tmp_path / "other"
    assert (one / runs.METRICS).read_bytes() == (other / runs.METRICS).read_bytes()
    assert RunFolder(one).read_result()["test"] == RunFolder(other).read_result()["test"]
    np.testing.assert_array_equal(*(np.asarray(Image.open(path / runs.CURVES)) for path in (one, other)))
    networks = [keras.saving.load_model(path / runs.MODEL) for path in (one, other)]
    for weight, same in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(weight, same)


DRAW = ("import sys\nfrom tfcnn import runs\nfrom tfcnn.runs import curves\n"
        "print(curves.draw(runs.RunFolder(sys.argv[1])).name)")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The pixels of a run's curves as they are without settings."""
    folder = complete_run(tmp_path_factory.mktemp("drawn") / "run")
    return np.asarray(Image.open(curves.draw(folder)))


@pytest.mark.parametrize("kind", ["in the current folder", "in MATPLOTLIBRC", "in MPLCONFIGDIR", "not UTF-8 here"])
def test_curves_are_the_same_whatever_matplotlib_reads(kind: str, drawn: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "here").mkdir()
    file = tmp_path / ("settings" if "in MPL" in kind else "here") / "matplotlibrc"
    file.write_bytes(MATPLOTLIB_FILE.encode() + (NO_TEXT if kind == "not UTF-8 here" else b""))
    variables = {"in MPLCONFIGDIR": {"MPLCONFIGDIR": str(file.parent)}, "in the current folder": {}}
    folder = complete_run(tmp_path / "run")
    done = _python(DRAW, tmp_path / "here", str(folder.path),
                   **variables.get(kind, {"MATPLOTLIBRC": str(file), "MPLBACKEND": "TkAgg"}))
    assert done.returncode == 0 and not done.stderr, done.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(folder.path / runs.CURVES)), drawn)


@pytest.fixture
def hostile_matplotlib() -> Iterator[Mapping]:
    """Settings that a program has made in this process."""
    import matplotlib
    before = dict(matplotlib.rcParams)
    matplotlib.rcParams.update({"text.usetex": True, "lines.linewidth": 20, "axes.facecolor": "black"})
    yield matplotlib.rcParams
    matplotlib.rcParams.update(before)


def test_settings_of_the_process_do_not_reach_our_pictures_and_stay(drawn: np.ndarray, tmp_path: Path,
                                                                    hostile_matplotlib: Mapping) -> None:
    before = dict(hostile_matplotlib)
    np.testing.assert_array_equal(np.asarray(Image.open(curves.draw(complete_run(tmp_path / "run")))), drawn)
    assert dict(hostile_matplotlib) == before


def test_every_figure_is_drawn_by_drawing() -> None:
    for path in Path(tfcnn.__file__).parent.rglob("*.py"):
        imports = [line for line in path.read_text().splitlines() if "import" in line and "matplotlib" in line.split()]
        figures = [line for line in path.read_text().splitlines() if "from matplotlib.figure" in line
                   or "from matplotlib.backends" in line or "pyplot" in line and "import" in line]
        assert path.name == "drawing.py" or not imports + figures, path


def test_title_with_signs_of_formulas_and_other_scripts_is_drawn(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = complete_run(tmp_path / "run")
    curves.draw(folder, result_of() | {"dataset": result_of()["dataset"] | {"name": "a $x^$ 絵 \\frac $$"}})
    assert not capfd.readouterr().err


def test_picture_that_cannot_be_drawn_is_a_warning_and_is_drawn_at_the_next_start(
        class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
        drawing_of_curves: Callable[..., None]) -> None:
    monkeypatch.setattr(trainer, "_draw_curves", drawing_of_curves)
    recipe = experiments.recipes()["lenet5"].replace(dataset="folder", epochs=1, batch_size=24)
    picture = tmp_path / "run" / runs.CURVES
    first = train(recipe, tmp_path / "run", data_dir=str(class_folders), on_start=lambda *_: picture.mkdir())
    warning, = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {picture} could not be drawn: ") and (tmp_path / "run" / runs.RESULT).exists()
    picture.rmdir()
    again = train(recipe, tmp_path / "run", data_dir=str(class_folders))
    assert not capsys.readouterr().err and not again.trained
    assert again.record["test"] == first.record["test"]
    assert Image.open(picture).size[0] > 1000


def test_exception_that_is_not_of_drawing_is_let_through(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def fail(error: Exception) -> None:
        raise error
    for error in (ValueError("a\nb"), OSError("full"), MemoryError()):
        drawing.warn_if_not(lambda: fail(error), tmp_path / "x.png", (KeyError,))
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: {tmp_path / 'x.png'} could not be drawn: ")
    with pytest.raises(KeyError):
        drawing.warn_if_not(lambda: fail(KeyError("x")), tmp_path / "x.png", (KeyError,))
