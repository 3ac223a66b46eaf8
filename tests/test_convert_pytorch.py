"""Published PyTorch weights in the suite's networks: the same logits as PyTorch's; other files are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import numpy as np
import pytest

from tests.numpy_layers import random
from tfcnn import convert, trained

# Triton, which comes with PyTorch for GPUs, aborts a process that has imported TensorFlow; PyTorch works without it.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
torch = pytest.importorskip("torch", reason="converting weights needs PyTorch: pip install -e '.[pytorch]'")
from tests.pytorch_resnet import Network, shake  # noqa: E402 - it needs PyTorch
from tfcnn.trained.converting import conversion  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZATION = [f"--mean={','.join(map(str, MEAN))}", f"--std={','.join(map(str, STD))}"]
RESNET20 = ["--network=resnet", "--depth=20"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def torchvision() -> Any:
    try:
        # Where torchvision is built for GPUs and PyTorch is not, its own operators do not load, and it fails where it
        # adds to two of them. Its classifiers use none.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return torchvision


def _save(network: Any, path: Path, form: str) -> Path:
    """Saves a network's weights in one of the forms in which they are published."""
    state = network.state_dict()
    if "module" in form:
        state = {f"module.{name}": value for name, value in state.items()}
    content = {"state_dict": state, "epoch": 182, "best_prec1": 91.7} if "checkpoint" in form else state
    torch.save(content, path, _use_new_zipfile_serialization="legacy" not in form)
    return path


def _logits(network: Any, images: np.ndarray) -> np.ndarray:
    """PyTorch's logits of uint8 images."""
    normalized = (images / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    with torch.inference_mode():
        return network(torch.from_numpy(np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)))).numpy()


def _images(count: int) -> np.ndarray:
    """Noise of random strength in each channel of each image."""
    random_numbers = np.random.default_rng(0)
    noise, strength = random_numbers.random((count, 32, 32, 3)), random_numbers.random((count, 1, 1, 3))
    return (256 * noise * strength).astype(np.uint8)


@pytest.mark.parametrize("shortcut, logits, form", [
    ("both", "linear", "checkpoint module legacy"), ("after", "fc", "bare"), ("projection", "fc", "module")])
def test_a_resnet_for_cifar_has_pytorchs_logits(shortcut: str, logits: str, form: str, tmp_path: Path) -> None:
    network = shake(Network(shortcut=shortcut, logits=logits))
    file = _save(network, tmp_path / "resnet20-12fca82f.th", form)
    zeros = ["--zeros=after"] if shortcut == "after" else []
    names = ",".join(f"class {number}" for number in range(10))
    out = tmp_path / "deep" / "converted"
    assert convert.main([str(file), *RESNET20, f"--out={out}", *NORMALIZATION, f"--classes={names}", *zeros]) == 0

    assert {path.name for path in out.iterdir()} == {"recipe.json", "result.json", "normalization.npz", "weights.npz"}
    assert [path.name for path in out.parent.iterdir()] == ["converted"]
    net = trained.load(out)
    images = _images(6)
    expected = _logits(network, images)
    assert np.ptp(expected, axis=0).max() > 0.1  # the logits depend on the images
    np.testing.assert_allclose(net.logits(images), expected, atol=1e-4)
    assert net.class_names == tuple(names.split(",")) and net.recipe.validation == 0
    result = json.loads((out / "result.json").read_text())
    assert result["parameters"] == sum(values.numel() for values in network.parameters())
    assert result["test"]["accuracy"] is result["seed"] is result["epochs"] is None
    assert result["converted"]["file"] == file.name and "learning_rate" not in result["recipe"]
    if shortcut == "both":  # the order of the channels matters
        tensors = {name: values.numpy() for name, values in network.state_dict().items() if values.ndim}
        other = conversion.convert(tensors, "resnet", 20, zeros="after").model
        for weight, wrong in zip(net.model.weights, other.weights):
            weight.assign(wrong)
        assert np.abs(net.logits(images) - expected).max() > 0.01


def _same_logits(network: Any, name: str, choice: int | str, size: int) -> None:
    tensors = {key: values.numpy() for key, values in network.state_dict().items() if values.ndim}
    model = conversion.convert(tensors, name, choice, size).model
    images = random(2, size, size, 3)
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(model(images, training=False).numpy(), expected, atol=1e-4)


def test_torchvisions_resnet18_has_its_logits(torchvision: Any) -> None:
    _same_logits(shake(torchvision.models.resnet18(num_classes=7)), "resnet", 18, 64)


@pytest.mark.parametrize("normalized, size", [(False, 32), (True, 96)], ids=["vgg11, 32 pixels", "vgg11_bn, 96 pixels"])
def test_torchvisions_vgg_has_its_logits(normalized: bool, size: int, torchvision: Any,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 units in the hidden dense layers, here and there, instead of 4,096.

    The first one still sees 7x7x512 values there, the averages of fewer ones for images this small.
    """
    from tfcnn.networks import vgg

    monkeypatch.setitem(vgg._NETWORKS, "A", vgg._NETWORKS["A"]._replace(hidden=(64, 64)))
    full = torchvision.models.vgg11_bn if normalized else torchvision.models.vgg11
    with torch.device("meta"):
        network = full(num_classes=5, init_weights=False)
    for number, shape in ((0, (25088, 64)), (3, (64, 64)), (6, (64, 5))):
        network.classifier[number] = torch.nn.Linear(*shape)
    network.features = network.features.to_empty(device="cpu")
    _same_logits(shake(network), "vgg", "A", size)


def test_what_cannot_be_converted_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    resnet20 = _save(Network(), tmp_path / "resnet20", "bare")
    resnet32 = _save(Network(blocks=5), tmp_path / "resnet32", "legacy")
    (tmp_path / "cut").write_bytes(resnet20.read_bytes()[:50_000])
    (tmp_path / "cut-legacy").write_bytes(resnet32.read_bytes()[:50_000])
    (tmp_path / "text").write_text("no weights")
    torch.save(Network(), tmp_path / "whole")
    torch.save([1, 2], tmp_path / "list")
    torch.save(Network().state_dict() | {"conv1.weight": torch.zeros(16, 3, 5, 5)}, tmp_path / "wide")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    for words, message in [
        (["resnet20", "--network=resnet", "--depth=32"], "lacks layer1.3.conv1.weight"),
        (["resnet32", *RESNET20], "also has layer1.3.conv1.weight, layer1.3.bn1.weight"),
        (["wide", *RESNET20], "conv1.weight is 16x3x5x5 instead of 16x3x3x3"),
        (["resnet20", "--network=resnet", "--depth=50"], "stride in the 3x3 convolution"),
        (["resnet20", "--network=vgg", "--variant=A-LRN"], "no local response normalization"),
        (["resnet20", "--network=vgg", "--variant=two_3x3"], "no weights are published"),
        (["~nobody-of-this-name/weights", *RESNET20], "home folder"),
        (["cut", *RESNET20], "cannot be read"), (["cut-legacy", *RESNET20], "cannot be read"),
        (["text", *RESNET20], "damaged"), (["whole", *RESNET20], "state_dict()"), (["list", *RESNET20], "state_dict"),
        (["nowhere", *RESNET20], "No such file"),
        (["resnet20", *RESNET20, "--classes=a,b"], "2 class names for a network with 10"),
        (["resnet20", *RESNET20, "--out={there}"], "exists already"),
    ]:
        file, *others = words
        before = sorted(tmp_path.rglob("*"))
        out = [f"--out={tmp_path / 'out'}"]
        others = [word.format(there=tmp_path / "there") for word in others]
        assert convert.main([str(tmp_path / file), *out, *others]) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error, (words, error)
        assert sorted(tmp_path.rglob("*")) == before
