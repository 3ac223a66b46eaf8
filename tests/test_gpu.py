"""What a GPU needs of the suite, checked without one: how GPUs are counted, and no comparison in the host's memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfcnn import nvidia
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
    assert devices.gpus() == [] and devices.cuda() == {}


def test_record_names_the_arithmetic(divided_card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.arithmetic(RECIPE) == "tensor_float_32"
    assert devices.arithmetic(RECIPE.replace(tensor_float_32=False)) == "float32"
    assert devices.arithmetic(RECIPE.replace(precision="bfloat16")) == "bfloat16"
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": (7, 5)})
    assert devices.arithmetic(RECIPE) == "float32"


def test_no_gpu_has_no_tensor_float_32() -> None:
    assert devices.arithmetic(RECIPE) == "float32"


def test_recipe_switches_tensor_float_32() -> None:
    try:
        devices.set_up(RECIPE.replace(tensor_float_32=False))
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        devices.set_up(RECIPE)
    assert tf.config.experimental.tensor_float_32_execution_enabled()


def test_record_names_driver_and_libraries(divided_card: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def runtime_version(pointer) -> int:
        pointer._obj.value = 12050
        return 0

    loaded = {"libcudart.so.12": SimpleNamespace(cudaRuntimeGetVersion=runtime_version),
              "libcudnn.so.9": SimpleNamespace(cudnnGetVersion=Version(90300))}

    def library(name: str, mode: int) -> SimpleNamespace:
        if name not in loaded:
            raise OSError
        return loaded[name]

    monkeypatch.setattr(nvidia.ctypes, "CDLL", library)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'a card, 580.95'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.cuda() == {"driver": "580.95", "cuda": "12.5", "cudnn": "9.3.0"}
    del loaded["libcudnn.so.9"]
    assert devices.cuda() == {"driver": "580.95", "cuda": "12.5"}


def test_a_library_that_is_not_loaded_is_not_named() -> None:
    assert nvidia.libraries() == {}


class Version:
    """A function of a C library."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self) -> int:
        return self._number


@pytest.mark.parametrize("labels", [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 10])])
def test_labels_are_not_compared_as_int32(labels: tf.TensorSpec) -> None:
    # A GPU's kernels for int32 comparisons work in the host's memory, see TensorFlow's cwise_op_equal_to_1.cc.
    graph = tf.function(steps._correct).get_concrete_function(tf.TensorSpec([None, 10]), labels).graph
    compared = [operation.inputs[0].dtype for operation in graph.get_operations() if operation.type == "Equal"]
    assert compared == [tf.int64]
