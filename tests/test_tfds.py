"""Data sets of tensorflow-datasets: found, downloaded and read into memory; a run without a network fails in time."""

import collections
import dataclasses
import gzip
import http.server
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.data_files import ARCHIVES, IDX, as_bag, cifar, cifar_binary, mnist, refused, tar, write_idx
from tfcnn.data import datasets, official
from tfcnn.data import tfds as reader

pytestmark = pytest.mark.usefixtures("isolated_data")


# The network


@pytest.fixture
def silent_server():
    """Accepts connections, and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/file"


@pytest.fixture
def talking_server():
    """Answers HEAD requests with the status in their path."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def answers(monkeypatch):
    """The function itself, which is replaced in the other tests."""
    monkeypatch.undo()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return reader.answers


def test_whether_an_address_answers(answers, talking_server):
    assert answers(f"{talking_server}/200", 300)
    assert answers(f"{talking_server}/405", 300)
    assert not answers(f"{talking_server}/404", 300)
    assert not answers(f"{talking_server}/503", 300)


def test_a_silent_server_is_not_waited_for(answers, silent_server):
    assert not answers(silent_server, 0.2)


def test_a_refused_connection_and_a_malformed_address_do_not_answer(answers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}/", 300)
    assert not answers("no address", 300)


def test_a_silent_name_server_is_not_waited_for(answers, monkeypatch):
    test_is_over, waited_to_the_end = threading.Event(), threading.Event()

    def never(*arguments, **options):
        if not test_is_over.wait(600):
            waited_to_the_end.set()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        assert not answers("https://somewhere.invalid/file", 0.2)
        assert not waited_to_the_end.is_set()
    finally:
        test_is_over.set()


@pytest.mark.parametrize("name, words", [
    ("cifar10", ["cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"]),
    ("cifar100", ["cifar-100-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"]),
    ("mnist", [*(f"{name}.gz" for name in IDX), "https://storage.googleapis.com/cvdf-datasets/mnist/"]),
    ("fashion_mnist", [*(f"{name}.gz" for name in IDX), "apt-get install dataset-fashion-mnist"]),
])
def test_a_data_set_that_is_not_found_is_unavailable(name, words, monkeypatch):
    requested = []
    monkeypatch.setattr(reader, "answers", lambda url: bool(requested.append(url)))
    with pytest.raises(datasets.Unavailable) as caught:
        datasets.load(name)
    message = str(caught.value)
    assert "\n" not in message
    for word in (f"--dataset={name}", "--data_dir", "--dataset=sample", *words):
        assert word in message
    assert len(requested) == 1 and requested[0].startswith(official.KNOWN[name].url)


# Prepared data sets


@pytest.fixture(scope="session")
def tfds():
    import tensorflow_datasets
    return tensorflow_datasets


@pytest.fixture(scope="session")
def tiny(tfds, tmp_path_factory):
    """Prepares a small data set of tensorflow-datasets: (name, features, examples by split) -> its data_dir."""
    def prepare(name: str, features: dict, examples: dict[str, list[dict]]) -> Path:
        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {split: self._generate_examples(split) for split in examples}

            def _generate_examples(self, split):
                yield from enumerate(examples[split])

        Tiny.name = name
        data_dir = tmp_path_factory.mktemp(name)
        Tiny(data_dir=data_dir).download_and_prepare()
        return data_dir
    return prepare


def tiny_examples(count: int, shape=(6, 5, 3), labels=(0, 1, 2), seed=0) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [{"image": generator.integers(0, 256, shape, np.uint8), "label": labels[index % len(labels)],
             "note": "not read"} for index in range(count)]


def tiny_features(tfds, shape=(6, 5, 3), dtype=np.uint8, **others) -> dict:
    return {"image": tfds.features.Image(shape=shape, dtype=dtype), "note": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]), **others}


def bag(examples: list[dict]) -> collections.Counter:
    return collections.Counter((example["label"], example["image"].tobytes()) for example in examples)


def test_prepared_data_set(tfds, tiny, monkeypatch):
    examples = {"train": tiny_examples(30), "test": tiny_examples(9, seed=1), "validation": tiny_examples(6, seed=2)}
    data_dir = tiny("tiny_plain", tiny_features(tfds), examples)
    dataset = datasets.load("tiny_plain", str(data_dir), validation=0, image_size=(99, 99))
    assert dataset.train.images.shape == (30, 6, 5, 3) and dataset.train.labels.dtype == np.int32
    assert as_bag(dataset.train) == bag(examples["train"]) and as_bag(dataset.test) == bag(examples["test"])
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.source == "tensorflow-datasets, tiny_plain/1.0.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert as_bag(datasets.load("tiny_plain:1.0.0", validation=0).train) == bag(examples["train"])
    assert len(datasets.load("tiny_plain").validation.labels) == 3


def test_prepared_data_set_without_a_test_split(tfds, tiny):
    examples = {"train": tiny_examples(9), "validation": tiny_examples(6, seed=2)}
    data_dir = tiny("tiny_validation", tiny_features(tfds), examples)
    assert as_bag(datasets.load("tiny_validation", str(data_dir), validation=0).test) == bag(examples["validation"])
    examples["test"] = tiny_examples(3, labels=(-1,))
    data_dir = tiny("tiny_unlabelled", tiny_features(tfds), examples)
    assert as_bag(datasets.load("tiny_unlabelled", str(data_dir), validation=0).test) == bag(examples["validation"])
    data_dir = tiny("tiny_train", tiny_features(tfds), {"train": tiny_examples(9)})
    assert "train and test" in refused("tiny_train", str(data_dir))


@pytest.mark.parametrize("channels", [1, 3])
def test_prepared_images_of_different_sizes(channels, tfds, tiny):
    examples = []
    for index, (height, width) in enumerate([(40, 120), (120, 40), (10, 10), (16, 16)]):
        image = np.full([height, width, channels], 7, np.uint8)
        image[:, max(0, width // 2 - 20):width // 2 + 20] = 50 * index
        examples.append({"image": image, "label": index % 2, "note": ""})
    name = f"tiny_sizes{channels}"
    data_dir = tiny(name, tiny_features(tfds, (None, None, channels)), {"train": examples, "test": examples[:2]})
    dataset = datasets.load(name, str(data_dir), validation=0, image_size=(8, 8))
    assert dataset.train.images.shape == (4, 8, 8, channels)
    inner = dataset.train.images[:, 1:-1, 1:-1]
    assert sorted((image.min(), image.max()) for image in inner) == [(value, value) for value in (0, 50, 100, 150)]
    assert (inner[:, 0, 0, 0] // 50 % 2).tolist() == dataset.train.labels.tolist()
    assert "--image_size" in refused(name, str(data_dir))


@pytest.mark.parametrize("case", ["no label", "no image", "wide image", "unlabelled test", "one class"])
def test_prepared_data_set_that_is_no_image_classification(case, tfds, tiny):
    features, train, test = tiny_features(tfds), tiny_examples(9), tiny_examples(3)
    if case == "no label":
        features["label"] = tfds.features.Text()
        train = test = [example | {"label": "ant"} for example in test]
    elif case == "no image":
        features["image"] = tfds.features.Text()
        train = test = [example | {"image": "ant"} for example in test]
    elif case == "wide image":
        features = tiny_features(tfds, dtype=np.uint16)
        train = test = [example | {"image": example["image"].astype(np.uint16)} for example in test]
    elif case == "unlabelled test":
        test = tiny_examples(3, labels=(-1,))
    elif case == "one class":
        train = tiny_examples(9, labels=(1,))
    name = "tiny_" + case.replace(" ", "_")
    data_dir = tiny(name, features, {"train": train, "test": test})
    reason = {"no label": "called 'image' and 'label'", "no image": "called 'image' and 'label'",
              "wide image": "must be bytes in 1 or 3 channels", "unlabelled test": "labels from -1",
              "one class": "of one class"}[case]
    message = refused(name, str(data_dir), validation=0)
    assert f"--dataset={name}" in message and reason in message


def test_damaged_prepared_data_are_named(tfds, tiny):
    data_dir = tiny("tiny_damaged", tiny_features(tfds), {"train": tiny_examples(30), "test": tiny_examples(9)})
    folder = data_dir / "tiny_damaged" / "1.0.0"
    record, = folder.glob("*-train.tfrecord-*")
    record.write_bytes(record.read_bytes()[:-50])
    assert str(folder) in refused("tiny_damaged", str(data_dir))
    record.unlink()
    assert str(folder) in refused("tiny_damaged", str(data_dir))


# Downloading


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_tensorflow_datasets_agrees_with_the_official_files(name, tfds, tmp_path, monkeypatch):
    """Both read the same files; the second also goes through a whole download, without the network."""
    published, data_dir = tmp_path / "published", tmp_path / "prepared"
    if name.startswith("cifar"):
        published.mkdir()
        content = gzip.compress(tar(cifar_binary(name, *cifar(name))))
        (published / ARCHIVES[name, "binary"]).write_bytes(content)
    else:
        write_idx(published, *mnist())
        monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TRAIN_EXAMPLES", 60)
        monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TEST_EXAMPLES", 20)
    ours = datasets.load(name, str(published), validation=0)

    from tensorflow_datasets.core.download import checksums
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def from_folder(self, *, download_config):
        assert not download_config.try_download_gcs
        for url, info in self.url_infos.items():
            monkeypatch.setitem(self.url_infos, url, checksums.compute_url_info(published / info.filename))
        prepare(self, download_config=dataclasses.replace(download_config, manual_dir=published))

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", from_folder)
    monkeypatch.setattr(reader, "answers", lambda url: True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    downloaded = datasets.load(name, validation=0)
    monkeypatch.setattr(reader, "answers", lambda url: False)
    prepared = datasets.load(name, validation=0)
    monkeypatch.delenv("TFDS_DATA_DIR")
    elsewhere = datasets.load(name, str(data_dir), validation=0)
    for theirs in (downloaded, prepared, elsewhere):
        assert theirs.class_names == ours.class_names
        assert as_bag(theirs.train) == as_bag(ours.train) and as_bag(theirs.test) == as_bag(ours.test)
        assert theirs.source.startswith(f"tensorflow-datasets, {name}/")


def test_download_that_fails_is_unavailable(tfds, monkeypatch):
    def fail(self, **options):
        raise ConnectionResetError("first line\nsecond line")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    monkeypatch.setattr(reader, "answers", lambda url: True)
    for name in ("cifar10", "beans"):
        with pytest.raises(datasets.Unavailable, match="first line second line"):
            datasets.load(name, image_size=(8, 8))


def test_other_data_sets_that_are_not_prepared(tfds, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    with pytest.raises(datasets.Unavailable, match="tfds build emnist/letters") as caught:
        datasets.load("emnist/letters")
    for words in ("--data_dir", "catalog/emnist;", "does not answer"):
        assert words in str(caught.value)
    monkeypatch.setattr(reader, "answers", lambda url: True)
    with pytest.raises(datasets.Unavailable, match="no address"):
        datasets.load("imagenet2012", image_size=(8, 8))
    assert "is no image classification" in refused("imdb_reviews")
    assert "--image_size" in refused("cats_vs_dogs")
    assert not any(tmp_path.iterdir())
    message = refused("emnist/letters", str(tmp_path))
    assert f"--data_dir={tmp_path} holds nothing" in message and "tfds build" not in message


@pytest.mark.parametrize("name, words", [
    ("cifar", ["did you mean", "cifar10"]), ("no_such_thing", []), ("", []), ("huggingface:mnist", []),
    ("../mnist", []),
    ("emnist/none", ["BuilderConfig none not found"]), ("mnist:9.9.9", ["9.9.9"]), ("Sample", ["sample"]),
])
def test_unknown_data_set(name, words, tfds, tmp_path):
    message = refused(name, str(tmp_path))
    for word in (f"--dataset={name} is unknown", "fashion_mnist", "folder", "sample", "tensorflow-datasets", *words):
        assert word in message
