"""One decoder of image files: the same pixels in memory, in the stream, and of a single file.

`decode` gives a picture as a viewer shows it: turned and mirrored as its Exif orientation says, and blended onto white
where it is transparent. Of animations, the still picture that every viewer shows. 16-bit values keep their upper half.
Colour profiles are not applied. docs/data.md has the whole rule.

`image_windows` decodes windows for the stream, to the same pixels.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin

from tfcnn.data import image_headers
from tfcnn.data.errors import one_line
from tfcnn.data.image_headers import Damaged, Header, Unsupported
from tfcnn.recipe import UsageError

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey: ITU-R BT.601
_SMALL = 100 * 100  # pixels


# One picture


def decode(file: str | os.PathLike[str] | bytes, channels: int | None = None, name: str | None = None,
           box: Sequence[int] | None = None) -> np.ndarray:
    """Decodes a JPEG or PNG file.

    Args:
      file: its path, or its content.
      channels: 1 for grey, 3 for colour; by default as many as the picture has. Colours become grey by ITU-R 601 luma.
      name: what messages call the file; by default its path.
      box: top, left, height and width in pixels of the part to return; by default all.

    Returns:
      [height, width, channels], uint8.

    Raises:
      UsageError: there is no such file, or it is damaged, or of a kind that is not read, or does not fit into memory.
      OSError: the system refuses to open or read it.
    """
    return _decode(file, channels, name, box)


def to_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Grey images repeated in three channels, or colour images as grey ones.

    Args:
      images: [..., 1 or 3], uint8.
      channels: 1 or 3.
    """
    if images.shape[-1] < channels:
        return np.repeat(images, channels, axis=-1)
    return luma(images)[..., None] if images.shape[-1] > channels else images


def luma(images: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma of colour images, uint8 [..., 3] -> uint8 [...].

    Product by product, as `image_windows` computes it: the bits of a matrix product depend on its shape.
    """
    red, green, blue = np.array(LUMA, np.float32)
    return np.rint(images[..., 0] * red + images[..., 1] * green + images[..., 2] * blue).astype(np.uint8)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image in a given (height, width): resized to cover it, then cropped around the centre.

    Args:
      pixels: [height, width, channels], uint8.

    Returns:
      The same with the new height and width; unchanged if the image has the size.
    """
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    fitted = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(*size, -1)


def _decode(file: str | os.PathLike[str] | bytes, channels: int | None = None, name: str | None = None,
            box: Sequence[int] | None = None, check: Callable[[Header], None] = lambda header: None) -> np.ndarray:
    """As `decode`: the one place that turns what can go wrong into a line.

    Args:
      check: called with the header before the pixels are decoded; may raise `_Different`.
    """
    name = name or ("the image" if isinstance(file, bytes) else os.fsdecode(file))
    if not isinstance(file, bytes):
        try:
            # Read at once: Pillow reads in many small steps, each of which releases the interpreter's lock.
            with open(file, "rb", buffering=0) as opened:
                file = opened.readall()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise damaged(name, one_line(error)) from error
        except OSError as error:
            error.filename = name  # which a read does not tell
            raise
    try:
        header = image_headers.read(io.BytesIO(file), pixels=True)
        check(header)
        pixels = _pixels(header, box)
        return pixels if channels is None else to_channels(pixels, channels)
    except _Different:
        raise
    except Unsupported as error:
        raise UsageError(f"{name} {error}, or remove it") from error
    except MemoryError as error:
        raise UsageError(f"{name} does not fit into memory: make it smaller, or remove it") from error
    except Exception as error:  # damaged bytes make a decoder fail in any way: also with SyntaxError, struct.error, ...
        raise damaged(name, one_line(error)) from error


def damaged(name: str, reason: str) -> UsageError:
    """The error to raise where a file is not as it was written."""
    return UsageError(f"{name} cannot be read as an image ({reason}): get it again, or remove it")


def _read_header(path: str) -> Header:
    """The header of a file, without reading its pixels."""
    try:
        with open(path, "rb") as file:
            return image_headers.read(file, pixels=False)
    except (Damaged, Unsupported):
        _decode(path)  # raises the line that names the file
        raise


def _pixels(header: Header, box: Sequence[int] | None = None) -> np.ndarray:
    """The pixels as shown: uint8, [height, width, 1 or 3]."""
    try:
        values = _stored_values(header)
    except MemoryError:
        raise
    except Exception as error:
        if header.unusual:
            raise Unsupported(f"is {header.unusual}, which cannot be decoded ({one_line(error)}): convert it to an "
                              "ordinary JPEG or PNG") from error
        raise
    values = _turned(values, header.orientation)
    if box is not None:
        top, left, height, width = box
        values = values[top:top + height, left:left + width]
    return _on_white(values, header)


def _stored_values(header: Header) -> np.ndarray:
    """The values as stored, [height, width, values a pixel]; 16 bits only where `_on_white` compares them."""
    file = io.BytesIO(header.content)
    # Not `Image.open`, which warns of, then refuses, images from 90 million pixels on: the headers' limit is higher.
    if header.kind == "JPEG":
        with JpegImagePlugin.JpegImageFile(file) as image:
            # Four components are ink. As viewers do, Pillow takes them to be inverted, with or without Adobe's mark.
            values = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    else:
        values = _png_values(file, header)
    return values.reshape(*header.stored, -1)


def _png_values(file: io.BytesIO, header: Header) -> np.ndarray:
    with PngImagePlugin.PngImageFile(file) as image:
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode == "RGBA" and header.grey:  # Pillow's mode for 16 bits of grey and of alpha
            return np.asarray(image)[..., ::3]
        values = np.asarray(image)
    if image.mode == "RGB" and header.bits == 16 and header.transparency:
        with PngImagePlugin.PngImageFile(io.BytesIO(header.content)) as lower:
            # The same bytes taken as little-endian numbers: Pillow keeps what is then the upper half.
            lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
            return values.astype(np.uint16) << 8 | np.asarray(lower)
    return values


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """The stored image as shown (Exif 2.32, table 6): a view."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def _on_white(values: np.ndarray, header: Header) -> np.ndarray:
    """Colours for the indices of a palette; 8 bits; transparency blended onto white."""
    alpha: np.ndarray | None = None
    key = header.transparency
    if header.palette is not None:
        indices = values[..., 0]
        values = _table(header.palette, 256 * 3, 0).reshape(256, 3)[indices]
        alpha = None if key is None else _table(key, 256, 255)[indices]
    elif key is not None:
        scale = 255 // (2 ** header.bits - 1) if header.bits < 8 else 1  # Pillow's, of values of 1, 2 and 4 bits
        transparent = np.frombuffer(key[:2 * values.shape[-1]], ">u2").astype(int) % 2 ** header.bits * scale
        alpha = np.where((values == transparent).all(-1), np.uint8(0), np.uint8(255))
    elif values.shape[-1] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    if values.dtype != np.uint8:
        values = (values >> 8).astype(np.uint8)
    if alpha is None or alpha.min(initial=255) == 255:
        return np.ascontiguousarray(values)
    weights = alpha[..., None].astype(np.uint16)
    return ((values * weights + 255 * (255 - weights) + 127) // 255).astype(np.uint8)


def _table(content: bytes, length: int, rest: int) -> np.ndarray:
    """Bytes as a table of a given length, filled up with `rest`."""
    table = np.full(length, rest, np.uint8)
    content = content[:length]
    table[:len(content)] = np.frombuffer(content, np.uint8)
    return table


# In memory


def read(parts: Sequence[Sequence[str]], image_size: tuple[int, int] | None) -> list[np.ndarray]:
    """Decodes all images of the parts of a data set.

    Args:
      parts: the paths of the files of each part.
      image_size: height and width in pixels, for images of different sizes. Images that all have the same size are left
        as they are.

    Returns:
      For each part, uint8 [images, height, width, channels]. There is one channel if all images are grey, else three.

    Raises:
      UsageError: an image cannot be decoded, the images have different sizes and `image_size` is None, or they do not
        fit into memory.
      OSError: the system refuses to open or read a file.
    """
    files = [file for part in parts for file in part]
    first = _read_header(files[0])
    size = first.size
    try:
        return _decode_all(parts, size, first.grey, uniform=True)
    except _Different:
        headers = [_read_header(file) for file in files]
    if any(header.size != size for header in headers):
        if image_size is None:
            odd = next(file for file, header in zip(files, headers) if header.size != size)
            raise UsageError(f"{odd} does not have the size of {files[0]}: choose one size for all with --image_size")
        size = image_size
    return _decode_all(parts, size, all(header.grey for header in headers), uniform=False)


def allocate(images: int, height: int, width: int, channels: int) -> np.ndarray:
    """An array for images, uint8 [images, height, width, channels].

    Raises:
      UsageError: there is not enough memory.
    """
    try:
        return np.empty([images, height, width, channels], np.uint8)
    except (MemoryError, ValueError) as error:
        raise UsageError(f"{images} images of {height}x{width} pixels do not fit into memory: choose a smaller "
                         "--image_size, or fewer images") from error


class _Different(Exception):
    """An image differs from the first one in size, or in whether it is grey."""


def _decode_all(parts: Sequence[Sequence[str]], size: tuple[int, int], grey: bool, uniform: bool) -> list[np.ndarray]:
    """Decodes each image straight into the array of its part.

    Raises:
      _Different: `uniform` is set, and an image does not have this size, or differs in whether it is grey.
    """
    arrays = [allocate(len(part), *size, 1 if grey else 3) for part in parts]
    rows = (row for array in arrays for row in array)
    files = [file for part in parts for file in part]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Decoding a small image holds the interpreter's lock nearly all the time: threads would wait for each other.
        run = map if math.prod(size) < _SMALL else pool.map
        for _ in run(functools.partial(_decode_into, uniform=uniform), rows, files):
            pass
    return arrays


def _decode_into(out: np.ndarray, path: str, uniform: bool) -> None:
    """Decodes an image into `out`, `[height, width, channels]`."""
    height, width, channels = out.shape

    def check(header: Header) -> None:
        if uniform and (*header.size, header.grey) != (height, width, channels == 1):
            raise _Different

    out[:] = fit(_decode(path, check=check), (height, width))  # one channel is repeated where there are three
