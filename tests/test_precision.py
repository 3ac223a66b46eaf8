"""In which dtype networks and layers compute, for processors with and without instructions for narrow dtypes."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked, run_module
from tfcnn import describe, processor
from tfcnn.networks import layers
from tfcnn.networks.layers.precision import computed_in
from tfcnn.runs import RunFolder
from tfcnn.training import devices
from tests.test_training import COLOURS

AVX2, AVX512, WITH_BFLOAT16 = ["avx2"], ["avx2", "avx512bw"], ["avx2", "avx512bw", "avx512_bf16"]


def test_instructions_include_those_of_every_x86_64_processor() -> None:
    known = processor.instructions()
    if platform.machine() == "x86_64" and sys.platform == "linux":
        assert {"fpu", "sse2"} <= known  # every x86-64 processor has these
        assert "flags" not in known and ":" not in known
    else:
        assert not known


@pytest.mark.parametrize("instructions, slow", [
    (["avx2"], ["bfloat16", "float16"]), (["avx512bw"], ["float16"]), (["avx512bw", "avx512_fp16"], []),
    ([], [])], ids=str)
def test_dtypes_without_native_instructions_are_convolved_in_float32(instructions: list[str], slow: list[str],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    multiplied = []
    convolve = tf.nn.conv2d
    monkeypatch.setattr(tf.nn, "conv2d", lambda inputs, *rest, **options: (
        multiplied.append(inputs.dtype) or convolve(inputs, *rest, **options)))
    for name in ("float32", "bfloat16", "float16"):
        layer = layers.SparseConnectionConv2D([[0], [1]], 3, dtype=name if name == "float32" else f"mixed_{name}")
        layer.build((None, 6, 6, 2))
        layer(tf.zeros((1, 6, 6, 2), name))
    assert multiplied == [tf.float32 if name in slow else name for name in ("float32", "bfloat16", "float16")]


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_low_precision_convolution_rounds_each_sum_once(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx2"}))
    images = tf.cast(tf.random.stateless_normal((2, 6, 6, 5), [0, 1]), narrow)
    layer = layers.Conv2D(3, 5, use_bias=False, dtype=f"mixed_{narrow}")
    outputs = layer(images)
    assert outputs.dtype == narrow
    kernel = tf.cast(layer.kernel.value, narrow)
    exact = tf.nn.conv2d(tf.cast(images, tf.float64), tf.cast(kernel, tf.float64), 1, "VALID")
    rounding = {"bfloat16": 2.0 ** -8, "float16": 2.0 ** -10}[narrow]
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), exact, rtol=rounding, atol=1e-3)


@pytest.mark.parametrize("instructions, kept", [
    (AVX2, []), (AVX512, []), (WITH_BFLOAT16, ["bfloat16"]), ([*WITH_BFLOAT16, "avx512_fp16"], ["bfloat16"]),
    ([], ["bfloat16", "float16"])], ids=str)
def test_networks_train_in_float32_where_the_processor_lacks_instructions(
        instructions: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    for name in ("float32", "bfloat16", "float16"):
        assert computed_in(name) == (name if name in kept else "float32")
        kept_recipe = COLOURS.replace(precision=name, keep_precision=True)
        assert devices.computed_precision(kept_recipe) == devices.arithmetic(kept_recipe) == name


def test_a_gpu_computes_in_the_given_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(AVX2))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert computed_in("float16") == "float16"


def _run_on(instructions: list[str], *arguments: str) -> None:
    """Runs the command of LeNet-5 as on a processor with these instructions."""
    processor.instructions = lambda: frozenset(instructions)  # type: ignore[assignment]  # in a process of its own
    run_module("tfcnn.experiments.lenet5", *arguments)


def test_a_run_says_in_which_precision_it_computes(tmp_path: Path) -> None:
    flags = ("--dataset=sample", "--train_images=100", "--epochs=1", "--batch_size=50")
    outputs = {}
    for name, instructions, precision in (("float32", AVX2, "float32"), ("slow", AVX2, "bfloat16"),
                                          ("native", WITH_BFLOAT16, "bfloat16")):
        done = Forked(_run_on, instructions, *flags, f"--precision={precision}", f"--workdir={name}", cwd=tmp_path,
                      env=environment(tmp_path)).completed()
        assert done.returncode == 0, done.stderr
        outputs[name] = done.stdout
    note = "precision:   float32, since this machine is slower in bfloat16; --keep_precision"
    assert note in outputs.pop("slow") and not any("precision:" in output for output in outputs.values())
    results = {name: RunFolder(tmp_path / name).read_result() for name in ("float32", "slow", "native")}
    assert [(result["precision"], result["arithmetic"]) for result in results.values()] == [
        ("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")]
    losses = {name: result["test"]["loss"] for name, result in results.items()}
    assert losses["slow"] == losses["float32"] != losses["native"]


def test_describe_says_in_which_precision_a_run_computes(capsys: pytest.CaptureFixture,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    for instructions, text in ((AVX512, "precision: float32, since this machine is slower in bfloat16\n"),
                               (WITH_BFLOAT16, "precision: bfloat16\n")):
        monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
        assert describe.main(["alexnet", "--precision=bfloat16"]) == 0
        assert capsys.readouterr().err == text
    assert describe.main(["alexnet"]) == 0 and not capsys.readouterr().err
