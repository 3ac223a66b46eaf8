"""What a GPU needs of the suite, checked without one: how GPUs are counted, and no comparison in the host's memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import UsageError
from tfcnn.training import devices, steps


@pytest.fixture
def divided_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow seems to have one GPU, divided into two logical ones."""
    def list_of(count: int):
        return lambda kind=None: [SimpleNamespace(name=f"{kind}:{number}") for number in range(count)]

    monkeypatch.setattr(tf.config, "list_physical_devices", list_of(1))
    monkeypatch.setattr(tf.config, "list_logical_devices", list_of(2))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {
        "device_name": "a card", "compute_capability": (9, 0)})
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names: names)


def test_logical_gpus_are_devices(divided_card: None) -> None:
    assert devices.strategy(RECIPE) == devices.strategy(RECIPE, devices=2) == ["GPU:0", "GPU:1"]
    assert devices.strategy(RECIPE, devices=1) == ["GPU:0"]
    with pytest.raises(UsageError, match="--devices=4 is more than the 2 GPUs of this machine"):
        devices.strategy(RECIPE, devices=4)


def test_record_names_the_card(divided_card: None) -> None:
    assert devices.gpus() == [{"device_name": "a card", "compute_capability": "(9, 0)"}]


def test_no_gpu_is_no_card() -> None:
    assert devices.gpus() == []


@pytest.mark.parametrize("labels", [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 10])])
def test_labels_are_not_compared_as_int32(labels: tf.TensorSpec) -> None:
    # A GPU's kernels for int32 comparisons work in the host's memory, see TensorFlow's cwise_op_equal_to_1.cc.
    graph = tf.function(steps._correct).get_concrete_function(tf.TensorSpec([None, 10]), labels).graph
    compared = [operation.inputs[0].dtype for operation in graph.get_operations() if operation.type == "Equal"]
    assert compared == [tf.int64]
