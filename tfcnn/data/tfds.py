"""Data sets of tensorflow-datasets: found where they are prepared, downloaded if necessary, read into memory.

TensorFlow and tensorflow-datasets are imported only once they are needed: without a network, a run should know within
ten seconds that its data are unavailable.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn import files
from tfcnn.data import images
from tfcnn.data.data_dir import nothing_fits
from tfcnn.data.errors import Unavailable, one_line
from tfcnn.data.official import KNOWN
from tfcnn.data.split import Contents, Split
from tfcnn.recipe import UsageError

# Seconds. A run should know within ten whether its data are available, and importing TensorFlow takes some of them.
_NETWORK_DEADLINE = 5.0

_BATCH = 256  # encoded images of different sizes, decoded at a time


def read(name: str, data_dir: Path | None, image_size: tuple[int, int] | None) -> Contents:
    """Reads a data set into memory as tensorflow-datasets has prepared it, or prepares it first.

    Args:
      name: what tensorflow-datasets calls it.
      data_dir: the folder in which it has been prepared; by default that of tensorflow-datasets.
      image_size: height and width in pixels, needed if the images have different sizes.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: there is no such data set, it is not an image classification, it is damaged, or `data_dir` does not
        hold it.
    """
    found = builder(name, data_dir, any_size=image_size is not None)
    splits = found.info.splits
    tests = [part for part in ("test", "validation") if part in splits]
    if "train" not in splits or not tests:
        raise UsageError(f"--dataset={name} has the parts {', '.join(sorted(splits))}; it must have train and test, or "
                         "train and validation")
    test = _read_split(found, tests[0], image_size)
    if tests[1:] and (test.labels < 0).all():  # a test part without labels, as in ImageNet
        test = _read_split(found, tests[1], image_size)
    return Contents(f"tensorflow-datasets, {found.info.full_name}", tuple(found.info.features["label"].names),
                    _read_split(found, "train", image_size), test)


def builder(name: str, data_dir: Path | None, any_size: bool = True) -> Any:
    """The builder of an image-classification data set, which is downloaded and prepared if necessary.

    Args:
      name: what tensorflow-datasets calls it.
      data_dir: the folder in which it must have been prepared; by default tensorflow-datasets' own, in which it is
        prepared if necessary.
      any_size: whether the images may have different sizes.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: there is no such data set, it is not an image classification, or `data_dir` does not hold it.
    """
    folder = data_dir or _default_folder(name)
    if not data_dir and name in KNOWN and not next((folder / name).glob("*/dataset_info.json"), None):
        # Before the import, which takes seconds that a run without a network need not wait for.
        _require_network(name, KNOWN[name].urls()[0])

    found = _builder(name, folder)
    _check_features(name, found, any_size)
    # is_prepared() alone would warn, on standard error, of a folder that does not exist.
    if not found.data_path.exists() or not found.is_prepared():
        if data_dir:
            raise nothing_fits(name, data_dir, stream=True)
        _prepare(name, found)
    return found


def _default_folder(name: str) -> Path:
    """The folder of tensorflow-datasets."""
    try:
        return files.expanded(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    except UsageError as error:
        raise _unavailable(name, "no home folder is known (TFDS_DATA_DIR can name another)") from error


def answers(url: str, deadline: float = _NETWORK_DEADLINE) -> bool:
    """Whether the address can be reached from here, always decided within `deadline` seconds."""
    import requests  # what tensorflow-datasets downloads with: the same proxies and certificates

    answered = threading.Event()

    def request() -> None:
        try:
            response = requests.head(url, timeout=deadline, allow_redirects=True)
        except (OSError, ValueError):
            return
        if response.ok or response.status_code == requests.codes.not_allowed:
            answered.set()

    # A thread, because no timeout of a socket covers a name server that does not answer.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(deadline)
    return answered.is_set()


def _builder(name: str, folder: Path) -> Any:
    """The builder of the data set in a folder; uses no network."""
    import tensorflow_datasets

    wrong = ""
    # Other names of tensorflow-datasets, such as huggingface:mnist, would be looked up in the network.
    if re.fullmatch(r"\w+(/[\w.+-]+)?(:[\d.*]+)?", name):
        try:
            return tensorflow_datasets.builder(name, data_dir=folder)
        except tensorflow_datasets.core.DatasetNotFoundError:
            pass
        except (ValueError, AssertionError, RuntimeError) as error:
            wrong = f" ({one_line(error)})"
    names = {*KNOWN, "folder", *tensorflow_datasets.list_builders(with_community_datasets=False)}
    close = [] if wrong else difflib.get_close_matches(name, names)
    raise UsageError(
        f"--dataset={name} is unknown{wrong}, and {folder} has none of that name: "
        + (f"did you mean {' or '.join(close)}? " if close else "")
        + f"Allowed are {', '.join(sorted([*KNOWN, 'folder']))}, and the image classifications of tensorflow-datasets, "
          "https://www.tensorflow.org/datasets/catalog/overview")


def _check_features(name: str, found: Any, any_size: bool) -> None:
    """Raises UsageError unless the data set is an image classification that the suite can read."""
    from tensorflow_datasets import features as kinds

    features = dict(found.info.features.items()) if found.info.features else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, kinds.Image) or not isinstance(label, kinds.ClassLabel):
        raise UsageError(f"--dataset={name} is no image classification: it has {', '.join(sorted(features))}; it must "
                         "have an image and a class label called 'image' and 'label'")
    if np.dtype(image.np_dtype) != np.uint8 or image.shape[-1] not in (1, 3):
        raise UsageError(f"--dataset={name} has {np.dtype(image.np_dtype)} images of shape {image.shape}; images must "
                         "be bytes in 1 or 3 channels")
    if None in image.shape and not any_size:
        raise UsageError(f"--dataset={name} has images of different sizes: choose one size with --image_size")


def _prepare(name: str, found: Any) -> None:
    """Downloads and prepares the data, or raises Unavailable."""
    import tensorflow_datasets

    urls = KNOWN[name].urls() if name in KNOWN else sorted(found.url_infos or ())
    if not urls or found.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise _unavailable(name, "it has no address to download it from")
    _require_network(name, urls[0])
    try:
        found.download_and_prepare(
            download_config=tensorflow_datasets.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # a download can fail in any way, and the remedy is the same
        raise _unavailable(name, f"its download failed ({type(error).__name__}: {one_line(error)})") from error


def _require_network(name: str, url: str) -> None:
    if not answers(url):
        raise _unavailable(name, f"{url} does not answer")


def _unavailable(name: str, reason: str) -> Unavailable:
    if name in KNOWN:
        entry = KNOWN[name]
        published = entry.layouts[0].published()
        remedy = f"put {', '.join(published)} from {entry.url} into a folder and name it with --data_dir"
        remedy += f", or {entry.advice}" if entry.advice else ""
    else:
        remedy = (f"prepare it where there is a network, `tfds build {name}`, and name its folder with --data_dir; see "
                  f"https://www.tensorflow.org/datasets/catalog/{re.split('[/:]', name)[0]}")
    return Unavailable(f"--dataset={name} is not on this machine, and {reason}: {remedy}; --dataset=sample works "
                       "without either")


def _read_split(found: Any, part: str, image_size: tuple[int, int] | None) -> Split:
    import tensorflow as tf

    try:
        return _decode_split(found, part, image_size)
    except tf.errors.OpError as error:
        raise UsageError(f"{found.data_path} cannot be read ({one_line(error)}): delete this folder, and prepare it "
                         "again") from error


def _decode_split(found: Any, part: str, image_size: tuple[int, int] | None) -> Split:
    import tensorflow_datasets
    from tensorflow_datasets import decode

    shape = found.info.features["image"].shape
    wanted = {"image": True, "label": True}
    if None not in shape:
        data = tensorflow_datasets.as_numpy(found.as_dataset(split=part, batch_size=-1,
                                                             decoders=decode.PartialDecoding(wanted)))
        return Split(data["image"], data["label"].astype(np.int32))
    assert image_size
    count = found.info.splits[part].num_examples
    arrays, labels = images.allocate(count, *image_size, shape[-1]), np.empty(count, np.int32)

    def fill(index: int, encoded: bytes) -> None:
        pixels = images.decode(encoded, shape[-1], f"image {index} of {found.data_path}")
        arrays[index] = images.fit(pixels, image_size)

    # Decoded here, as in the stream.
    data = found.as_dataset(split=part, batch_size=_BATCH,
                            decoders=decode.PartialDecoding(wanted, {"image": decode.SkipDecoding()}))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start, batch in zip(range(0, count, _BATCH), tensorflow_datasets.as_numpy(data)):
            labels[start:start + _BATCH] = batch["label"]
            list(pool.map(fill, range(start, count), batch["image"]))
    return Split(arrays, labels)
