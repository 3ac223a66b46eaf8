"""The PyTorch networks of the benchmarks equal ours: same weights, same logits, same training."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import tfcnn.networks.layers  # noqa: F401 - must be imported before TensorFlow
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.numpy_layers import random, shake
from tfcnn import networks
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import optimizers, schedules
from tfcnn.training.steps import Steps

# Triton, which comes with PyTorch for GPUs, aborts a process that has imported TensorFlow; PyTorch works without it.
sys.modules.setdefault("triton", None)
torch = pytest.importorskip("torch")
from tfcnn.benchmarks import pytorch_networks, pytorch_worker  # noqa: E402 - they need PyTorch

BATCH, STEPS = 8, 5
# Maps each PyTorch network to our experiment and changes to its recipe. The frameworks may differ where an activation
# is within a rounding error of 0 before a ReLU, or of another activation in its pooling window. That changes the
# gradients of all earlier layers by a few thousandths. Low learning rates keep deep networks from amplifying it.
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "lenet5": ("lenet5", {}), "alexnet": ("alexnet", {}), "vgg": ("vgg", {"learning_rate": 1e-5}),
    "network_in_network": ("network_in_network", {}),
    "inception": ("inception", {"learning_rate": 1e-5, "image_size": 16}),
    "resnet20": ("resnet", {"learning_rate": 1e-3}), "resnet18": ("resnet", {"depth": 18, "learning_rate": 1e-4}),
    "mlp": ("mlp", {"learning_rate": 5e-4}),
    "airbench": ("speedrun", {"learning_rate": 1e-4, "accumulate": 1, "lookahead": 0})}
# Maps PyTorch's names of the weights of normalization layers to ours. In other layers, "weight" is our "kernel".
NORMALIZATION = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _recipe(name: str, **changes: Any) -> Recipe:
    """Returns the experiment's recipe, changed to its peak learning rate from the first step on."""
    experiment, options = OURS[name]
    recipe = importlib.import_module(f"tfcnn.experiments.{experiment}").RECIPE
    constant = {"schedule": "constant", "warmup_epochs": 0.0, "batch_size": BATCH, "execution": "eager"}
    return recipe.replace(**constant | options | changes)


def _ours(recipe: Recipe) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = networks.find(recipe.network).build(classes=10, image_size=recipe.image_size, **recipe.network_options())
    shake(model)
    return model


def _as_pytorch(model: keras.Model, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns our weights in PyTorch's names and layout. Fails if a weight of either has no counterpart."""
    dense = next((layer for layer in model.layers if isinstance(layer, keras.layers.Dense)), None)
    flattened = [layer.input.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Flatten)]
    found = {}
    for key in network.state_dict():
        path, _, part = key.rpartition(".")
        if part in ("num_batches_tracked", "indices"):
            continue
        layer = model.get_layer(path.replace(".", "_"))
        name = NORMALIZATION[part] if path.endswith("normalization") else part.replace("weight", "kernel")
        variable, = [variable for variable in layer.weights if variable.name == name]
        values = variable.numpy()
        if layer is dense and name == "kernel" and flattened:  # PyTorch flattens channels first
            height, width, channels = flattened[0]
            values = values.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(values.shape)
        axes = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0), 1: (0,)}[values.ndim]
        found[key] = torch.from_numpy(np.ascontiguousarray(values.transpose(axes)))
    assert sum(values.numel() for values in found.values()) == sum(np.prod(weight.shape) for weight in model.weights)
    return found


def _copy(model: keras.Model, network: torch.nn.Module) -> None:
    without = network.load_state_dict(_as_pytorch(model, network), strict=False).missing_keys
    assert {key.rpartition(".")[-1] for key in without} <= {"num_batches_tracked", "indices"}


def _batch(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    return random(BATCH, *model.input_shape[1:]), np.arange(BATCH, dtype=np.int32)


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _train_ours(model: keras.Model, recipe: Recipe) -> tuple[np.ndarray, Steps]:
    optimizer = optimizers.optimizer(recipe, schedules.schedule(recipe, 1), model.trainable_variables)
    steps = Steps(recipe, tf.distribute.get_strategy(), model, optimizer)
    batches = tf.data.Dataset.from_tensors(_batch(model)).repeat()
    return steps.run(iter(batches), tf.constant(STEPS)).numpy()[:, 0], steps


def _train_pytorch(training: Any, model: keras.Model) -> list[float]:
    images, labels = _batch(model)
    batch = _channels_first(images), torch.from_numpy(labels.astype(np.int64))
    return [training.step(*batch).item() for _ in range(STEPS)]


def test_shifts_have_a_rate_and_a_penalty_of_their_own() -> None:
    """As in the released airbench94.py: 64 times the rate, and with it the same loss of a share in each step."""
    network = pytorch_networks.NETWORKS["airbench"]()
    groups = pytorch_worker.optimizer(_recipe("airbench").replace(learning_rate=1.5).to_dict(), network).param_groups
    kernels, _, shifts = groups
    assert (shifts["lr"], len(shifts["params"])) == (96.0, 6)
    assert shifts["lr"] * shifts["weight_decay"] == pytest.approx(kernels["lr"] * kernels["weight_decay"])
    assert kernels["weight_decay"] == 0.00133


def test_every_pytorch_network_is_tested() -> None:
    assert set(OURS) == set(pytorch_networks.NETWORKS)


@pytest.mark.parametrize("name", OURS)
def test_logits_and_training_match_our_network(name: str) -> None:
    recipe = _recipe(name)
    model, network = _ours(recipe), pytorch_networks.NETWORKS[name]()
    assert sum(values.numel() for values in network.parameters() if values.requires_grad) == sum(
        np.prod(variable.shape) for variable in model.trainable_variables)

    _copy(model, network)
    images = random(BATCH, *model.input_shape[1:], seed=1)
    channels, height, width = pytorch_networks.image_shape(name)
    assert networks.input_shape(recipe.network, recipe.network_options()) == (height, width, channels)
    ours = model(images, training=False).numpy()
    with torch.inference_mode():
        pytorchs = network.eval()(_channels_first(images)).numpy()
    np.testing.assert_allclose(pytorchs, ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())

    drops = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    dropouts = {key: module for key, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert {key: module.p for key, module in dropouts.items()} == pytest.approx(
        {key: layer.rate for key, layer in drops.items()})
    for layer in drops.values():
        layer.rate = 0.0
    for module in dropouts.values():
        module.p = 0.0
    losses, _ = _train_ours(model, recipe)
    training = pytorch_worker.Trainer(network, recipe.replace(image_size=0).to_dict())
    found = _train_pytorch(training, model)
    np.testing.assert_allclose(found, losses, rtol=1e-3)
    assert abs(losses[-1] - losses[0]) > 0.03 * losses[0]  # the steps have an effect


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd"}, {"optimizer": "momentum", "momentum": 0.7, "ema": 0.6}, {"optimizer": "nesterov"},
], ids=lambda changes: changes["optimizer"])
def test_optimizers_match_ours(changes: dict[str, Any]) -> None:
    recipe = _recipe("lenet5", l2=0.5, **changes)
    model, network = _ours(recipe), pytorch_networks.NETWORKS["lenet5"]()
    _copy(model, network)
    before = network.F6.weight.detach().clone()
    losses, steps = _train_ours(model, recipe)
    training = pytorch_worker.Trainer(network, recipe.to_dict())
    np.testing.assert_allclose(_train_pytorch(training, model), losses, rtol=1e-5)
    pairs = [(training.network, _as_pytorch(model, network))]
    if recipe.ema:
        steps.averages.assign()
        pairs.append((training.average.module, _as_pytorch(model, network)))
    for pytorchs, ours in pairs:
        assert (ours["F6.weight"] - before).abs().max() > 1e-3
        for key, values in pytorchs.named_parameters():
            np.testing.assert_allclose(values.detach(), ours[key], rtol=1e-4, atol=1e-5, err_msg=key)


def test_unsupported_recipe_fields_are_usage_errors() -> None:
    network = pytorch_networks.NETWORKS["lenet5"]()
    for changes in {"clip_norm": 1.0}, {"accumulate": 2}, {"optimizer": "adam"}:
        with pytest.raises(UsageError, match=str(*changes)):
            pytorch_worker.Trainer(network, _recipe("lenet5", **changes).to_dict())


def test_every_memory_format_and_precision_trains_without_tensorflow() -> None:
    program = (
        "import sys\n"
        "from tfcnn.benchmarks.pytorch_worker import trainer\n"
        "from tfcnn.experiments.lenet5 import RECIPE\n"
        "for mode in '', 'channels_last', 'bfloat16':\n"
        "    print(trainer('lenet5', RECIPE.to_dict(), compiled=False, channels_last=mode == 'channels_last',\n"
        "                  bfloat16=mode == 'bfloat16', batch_size=8, threads=1)(3))\n"
        "sys.exit(f'imported {heavy}' if (heavy := {'tensorflow', 'keras'} & set(sys.modules)) else 0)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    contiguous, channels_last, bfloat16 = map(float, done.stdout.split())
    assert 0 < contiguous < 4
    assert channels_last == pytest.approx(contiguous, rel=1e-4)
    assert bfloat16 == pytest.approx(contiguous, rel=0.02) and bfloat16 != contiguous
