"""Descriptions as text, Markdown and JSON, and the table of all variants."""

from __future__ import annotations

import json
import re

import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
from keras.layers import Dense, Flatten
import tensorflow as tf

from tests.conftest import ROOT
from tfcnn import networks
from tfcnn.describe import main
from tfcnn.description.analysis import Description, describe
from tfcnn.description.rendering import BEGIN, END, build_without_memory, render, variants_table
from tfcnn.networks import alexnet, layers
from tfcnn.recipe import UsageError


@pytest.fixture(scope="module")
def small() -> Description:
    return describe(keras.Model(
        images := keras.Input((12, 10, 4), name="images"),
        Dense(3, name="logits")(Flatten(name="flatten")(layers.BatchNormalization(name="norm")(layers.GroupedConv2D(
            6, (3, 2), strides=(2, 1), groups=2, name="conv")(images)))), name="small"))


def test_table(small: Description) -> None:
    lines = render(small).splitlines()
    assert lines[0].split("  ")[0] == "Layer" and set(lines[1]) == {"-", " "}
    cells = [re.split(r"\s{2,}", line) for line in lines[2:7]]
    assert cells == [
        ["images", "InputLayer", "12x10x4", "0", "0", "1x1", "1x1"],
        ["conv", "GroupedConv2D", "5x9x6", "3x2, 2 groups", "2x1", "valid", "78", "3,240", "3x2", "2x1"],
        ["norm", "BatchNormalization", "5x9x6", "12", "0", "3x2", "2x1"],
        ["flatten", "Flatten", "270", "0", "0", "11x10"],
        ["logits", "Dense", "3", "813", "810", "11x10"]]
    end = lines[0].index("Parameters") + len("Parameters")
    assert [line[:end].split()[-1] for line in lines[2:7]] == ["0", "78", "12", "0", "813"]
    assert lines[-1] == (
        "small: 903 trainable parameters and 12 others, moving statistics and what else training does not learn; "
        "4,050 multiply-accumulates; receptive field 3x2; depth 2.")


def test_markdown(small: Description) -> None:
    lines = render(small, "markdown").splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |"
    assert lines[3] == "| conv | GroupedConv2D | 5x9x6 | 3x2, 2 groups | 2x1 | valid | 78 | 3,240 | 3x2 | 2x1 |"
    assert len({line.count("|") for line in lines[:7]}) == 1 and lines[7] == "" and lines[8].startswith("small: 903 ")


def test_json(small: Description) -> None:
    found = json.loads(render(small, "json"))
    assert {name: value for name, value in found.items() if name != "rows"} == {
        "name": "small", "parameters": 915, "trainable": 903, "multiply_accumulates": 4050, "receptive_field": [3, 2],
        "depth": 2}
    assert found["rows"][1] == {
        "name": "conv", "kind": "GroupedConv2D", "output_shape": [5, 9, 6], "parameters": 78, "trainable": 78,
        "multiply_accumulates": 3240, "field": {"start": [0, 0], "size": [3, 2], "stride": [2, 1]},
        "window": {"size": [3, 2], "strides": [2, 1], "dilation": [1, 1], "padding": "valid", "groups": 2}}
    assert found["rows"][4]["window"] is None and found["rows"][4]["field"]["stride"] is None


def test_an_unknown_style_is_an_error(small: Description) -> None:
    for call in (lambda: render(small, "html"), lambda: variants_table("html")):
        with pytest.raises(UsageError, match="format='html' must be one of table, json, markdown"):
            call()


@pytest.fixture
def only_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "names", lambda: ["alexnet"])


def test_table_of_all_variants(only_alexnet: None, capsys: pytest.CaptureFixture) -> None:
    cifar = 32 * 32 * 64 * 25 * 3 + 16 * 16 * 64 * 25 * 64 + 4096 * 384 + 384 * 192 + 192 * 10
    four_layers = 32 * 32 * 32 * 25 * 3 + 16 * 16 * 32 * 25 * 32 + 8 * 8 * 64 * 25 * 32 + 1024 * 10
    assert variants_table().splitlines() == [
        "| Year | Paper, or other source | Network | Variant | Input | Parameters | Multiply-accumulates | "
        "Receptive field | Depth |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| 2012 | TensorFlow tutorial cifar10.py on whole images | alexnet | cifar | 32x32x3 | 1,756,426 | "
        f"{cifar:,} | 19x19 | 5 |",
        "| 2012 | cuda-convnet, layers-18pct.cfg: 2,432 + 25,632 + 51,264 + 10,250 | alexnet | cifar_four_layers | "
        f"32x32x3 | 89,578 | {four_layers:,} | 43x43 | 4 |",
        "| 2012 | Krizhevsky et al. 2012, section 3.5 and figure 2 | alexnet | paper | 227x227x3 | 60,965,224 | "
        "724,406,816 | 195x195 | 8 |",
        "| 2012 | Krizhevsky et al. 2012, figure 2, without its groups | alexnet | one_tower | 227x227x3 | "
        f"62,378,344 | {724_406_816 + 223_948_800 + 112_140_288 + 74_760_192:,} | 195x195 | 8 |"]
    assert main(["--all", "--format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["variant"] for entry in found] == ["cifar", "cifar_four_layers", "paper", "one_tower"]
    assert found[2] == {
        "year": 2012, "source": alexnet.VARIANTS["paper"].source, "network": "alexnet", "variant": "paper",
        "input_shape": [227, 227, 3], "parameters": 60_965_224, "trainable": 60_965_224,
        "multiply_accumulates": 724_406_816, "receptive_field": [195, 195], "depth": 8}


def test_the_page_on_networks_has_every_variant() -> None:
    text = (ROOT / "docs" / "networks.md").read_text()
    lines = text[text.index(BEGIN):text.index(END)].splitlines()[4:]  # without marker and head
    expected = {(str(variant.year), variant.source.partition(";")[0], name, key, f"{variant.parameters:,}")
                for name in networks.names() for key, variant in networks.find(name).VARIANTS.items()}
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line]
    assert {(*cell[1:5], cell[6]) for cell in cells} == expected and len(cells) == len(expected)


def test_weights_of_a_described_network_take_no_memory() -> None:
    kernel = build_without_memory("alexnet", {"variant": "paper"}).get_layer("fc6").kernel
    assert isinstance(kernel.value.graph, tf.Graph)  # what is in a graph has a value only while a session runs
    with pytest.raises(AttributeError):
        alexnet.build().get_layer("local3").kernel.value.graph
    assert tf.executing_eagerly()
