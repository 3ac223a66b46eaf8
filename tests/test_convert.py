"""Converted networks without PyTorch: a published network's logits by NumPy, the folder, and the command's errors.

What needs PyTorch is in test_convert_pytorch.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import numpy as np
import pytest

from tests.numpy_layers import batch_normalization, convolution
from tfcnn import trained
from tfcnn.recipe import UsageError
from tfcnn.runs import __main__ as runs_command
from tfcnn.trained import evaluation, weights
from tfcnn.trained.converting import conversion
from tfcnn.trained.converting.pytorch_file import Tensors

STAGES = ((16, 1), (32, 2), (64, 2))  # filters and stride of ResNet-20's
MEAN, STD = (0.5, 0.4, 0.6), (0.25, 0.2, 0.3)


def _tensors(classes: int) -> Tensors:
    """Random weights of a published ResNet-20 for CIFAR-10."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"conv1": (16, 3, 3, 3), "bn1": (16,), "linear": (classes, 64)}
    channels = 16
    for stage, (filters, _) in enumerate(STAGES, 1):
        for block in range(3):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1": (filters, channels, 3, 3), f"{name}.bn1": (filters,),
                       f"{name}.conv2": (filters, filters, 3, 3), f"{name}.bn2": (filters,)}
            channels = filters
    found = {"linear.bias": random.normal(size=classes)}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = random.normal(size=shape) * np.prod(shape[1:]) ** -0.5
        if len(shape) == 1:
            found |= {f"{name}.weight": random.uniform(0.5, 1.5, shape), f"{name}.bias": random.normal(size=shape) / 5,
                      f"{name}.running_mean": random.normal(size=shape) / 5,
                      f"{name}.running_var": random.uniform(0.5, 1.5, shape)}
    return {name: value.astype(np.float32) for name, value in found.items()}


def _published(tensors: Tensors, x: np.ndarray) -> np.ndarray:
    """The logits of the published network, whose shortcut pads channels on both sides."""
    def layer(x: np.ndarray, name: str, number: str, stride: int = 1) -> np.ndarray:
        kernel = tensors[f"{name}conv{number}.weight"].transpose(2, 3, 1, 0)
        x = convolution(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel, strides=stride)
        parts = (tensors[f"{name}bn{number}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return batch_normalization(x, *parts, epsilon=1e-5)

    x = np.maximum(layer(x, "", "1"), 0)
    for stage, (filters, first_stride) in enumerate(STAGES, 1):
        for block in range(3):
            name, stride = f"layer{stage}.{block}.", first_stride if block == 0 else 1
            residual = layer(np.maximum(layer(x, name, "1", stride), 0), name, "2")
            padding = (filters - x.shape[-1]) // 2
            x = np.maximum(residual + np.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(padding, padding)]), 0)
    return x.mean(axis=(1, 2)) @ tensors["linear.weight"].T + tensors["linear.bias"]


@pytest.fixture
def converted(tmp_path: Path) -> Any:
    """A converted network for 8x8 pixels and three classes, in a folder, and its published tensors."""
    tensors, file = _tensors(3), tmp_path / "published.th"
    file.write_bytes(b"the weights")
    made = conversion.convert(tensors, "resnet", 20, image_size=8)
    conversion.write(made, tmp_path / "out", file, conversion.normalization(MEAN, STD), (), "")
    return tmp_path / "out", tensors


def test_logits_are_those_of_the_published_network(converted: Any, class_folders: Path) -> None:
    folder, tensors = converted
    net = trained.load(folder)
    assert net.class_names == ("0", "1", "2")
    with pytest.raises(UsageError, match="give --dataset"):
        evaluation.evaluate([net])
    found = evaluation.evaluate([net], "folder", str(class_folders))
    images = found.images.at(range(30))
    assert images.shape == (30, 8, 8, 3)
    expected = _published(tensors, (images / 255 - MEAN) / STD)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    assert found.record["class_names"] == ["blue", "green", "red"]
    assert [row["name"] for row in found.record["classes"]] == ["blue", "green", "red"]
    assert found.record["calibration"]["temperature"] is None
    with pytest.raises(UsageError, match="other classes"):
        evaluation.evaluate([net], "sample")


def test_the_folder_claims_nothing_that_is_not_known(converted: Any, capsys: pytest.CaptureFixture) -> None:
    folder, tensors = converted
    assert {path.name for path in folder.iterdir()} == {"recipe.json", "result.json", "normalization.npz",
                                                        "weights.npz"}
    assert {path.name for path in folder.parent.iterdir()} == {"out", "published.th"}
    result = json.loads((folder / "result.json").read_text())
    assert result["recipe"] == json.loads((folder / "recipe.json").read_text())
    assert set(result["recipe"]) == {"experiment", "network", "options", "dataset", "validation", "image_size",
                                     "stream", "augment", "input_normalization"}
    assert result["test"] == {"accuracy": None, "loss": None, "images": None}
    assert all(result[name] is None for name in ("epochs", "train_seconds", "seed", "started", "finished"))
    assert result["converted"]["file"] == "published.th" and len(result["converted"]["sha256"]) == 64
    assert result["parameters"] == sum(
        value.size for name, value in tensors.items() if "running" not in name)
    for command in "show", "compare", "record":
        assert runs_command.main([command, str(folder)]) == 2
        assert "converted network, not a run" in capsys.readouterr().err


@pytest.mark.parametrize("size, width", [(8, 8), (224, 256)])
def test_large_networks_see_the_centre_for_which_they_are_published(size: int, width: int, tmp_path: Path) -> None:
    file = tmp_path / "published.th"
    file.write_bytes(b"the weights")
    made = conversion.convert(_tensors(3), "resnet", 20, image_size=size)
    conversion.write(made, tmp_path / "out", file, conversion.normalization(MEAN, STD), (), "")
    net = trained.load(tmp_path / "out")
    picture = np.zeros((1, width, 2 * width, 3), np.uint8)
    picture[:, :, width - size // 2:width + size // 2] = 200  # what the centre crop of the published test shows
    assert net.fit(picture).shape == (1, size, size, 3) and (net.fit(picture) == 200).all()
    assert net.recipe.stream == (size == 224)


def test_a_folder_is_written_whole_or_not_at_all(converted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                 ) -> None:
    made = conversion.convert(converted[1], "resnet", 20)
    normalize = conversion.normalization((), ())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="exists already"):
        conversion.write(made, tmp_path / "out", tmp_path / "published.th", normalize, (), "")
    with pytest.raises(UsageError, match="2 class names for a network with 3"):
        conversion.write(made, tmp_path / "new", tmp_path / "published.th", normalize, ("a", "b"), "")

    def full(*arguments: Any) -> None:
        raise UsageError("cannot write: No space left on device")

    monkeypatch.setattr(weights, "save", full)
    with pytest.raises(UsageError, match="No space"):
        conversion.write(made, tmp_path / "new", tmp_path / "published.th", normalize, (), "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words, message", [
    (["--network=resnet"], "needs --depth"), (["--network=resnet", "--depth=20", "--variant=A"], "needs --depth"),
    (["--network=vgg", "--depth=20"], "needs --variant"), (["--network=alexnet"], "invalid choice"),
    (["--mean=0,0,0"], "go together"), (["--mean=125,123,114", "--std=1,1,1"], "three numbers in [0, 1]"),
    (["--mean=0,0,0", "--std=1,0,1"], "--std must not be 0"), (["--classes=a,a"], "repeated"),
    ([], "pip install -e '.[pytorch]'")])
def test_a_bad_argument_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcnn import convert

    monkeypatch.setitem(sys.modules, "torch", None)
    own = [] if any(word.startswith("--network") for word in words) else ["--network=resnet", "--depth=20"]
    assert convert.main(["nowhere", "--out=x", *own, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_arguments_are_checked_without_tensorflow() -> None:
    program = ("import sys\nfrom tfcnn import convert\n"
               "status = convert.main(['nowhere', '--network=resnet', '--out=x'])\n"
               "heavy = {'tensorflow', 'keras', 'numpy', 'torch'} & set(sys.modules)\n"
               "sys.exit(f'imported {heavy}' if heavy else status)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
