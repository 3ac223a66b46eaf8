"""Pictures of every kind of JPEG and PNG, with the pixels that a viewer shows, and files that none shows.

PNG files are written here from the specification, and the pixels expected of them are computed from their samples.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16  # pixels

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
VALUES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}

# How a viewer turns the stored picture, by Exif's orientation: what the 0th row and the 0th column are.
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: np.fliplr,  # top, right
    3: lambda stored: np.rot90(stored, 2),  # bottom, right
    4: np.flipud,  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: np.rot90(stored, -1),  # right, top
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),  # right, bottom
    8: lambda stored: np.rot90(stored, 1),  # left, bottom
}


# PNG


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: np.ndarray, colours: int, bits: int, before: bytes = b"", after: bytes = b"",
        interlaced: bool = False) -> bytes:
    """A PNG file.

    Args:
      samples: [height, width, values a pixel], integers of `bits` bits.
      colours: the colour type.
      bits: bits of each sample.
      before: chunks between the header and the pixels.
      after: chunks after the pixels.
      interlaced: Adam7.
    """
    height, width = samples.shape[:2]
    passes = [samples]
    if interlaced:
        passes = [samples[top::down, left::right] for top, left, down, right in (
            (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))]
    pixels = zlib.compress(b"".join(b"\0" + _packed(row, bits) for part in passes if part.size for row in part))
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced)
    half = len(pixels) // 2  # two chunks, as in most files
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), before, chunk(b"IDAT", pixels[:half]),
                     chunk(b"IDAT", pixels[half:]), after, chunk(b"IEND", b"")])


def _packed(row: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    places = row.reshape(-1, 1) >> np.arange(bits)[::-1] & 1
    return np.packbits(places.astype(np.uint8)).tobytes()


def eight_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples as bytes: the upper half of 16 bits, and smaller depths spread evenly from 0 to 255."""
    return (samples >> 8 if bits == 16 else samples * 255 // (2 ** bits - 1)).astype(np.uint8)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.floor(pixels * share + 255 * (1 - share) + 0.5 + 1e-9).astype(np.uint8)


def every_type() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Every type of PNG: its name, a file, and the pixels that are shown."""
    for colours, depths in DEPTHS.items():
        for bits in depths:
            for interlaced in (False, True):
                yield (f"type {colours}, {bits} bits{', interlaced' * interlaced}",
                       *_of_type(colours, bits, interlaced, False))
            if colours in (GREY, RGB, PALETTE):
                yield f"type {colours}, {bits} bits, tRNS", *_of_type(colours, bits, False, True)


def _of_type(colours: int, bits: int, interlaced: bool, transparent: bool) -> tuple[bytes, np.ndarray]:
    samples = np.random.default_rng(0).integers(0, 2 ** bits, (SIDE, SIDE, VALUES[colours]))
    before, alpha = b"", None
    if transparent and colours == PALETTE:  # all colours but the last
        opacities = np.random.default_rng(2).integers(0, 256, 2 ** bits, np.uint8)
        opacities[-1] = 255
        before, alpha = chunk(b"tRNS", opacities[:-1].tobytes()), opacities[samples[..., 0]]
    elif transparent:
        key = samples.reshape(-1, VALUES[colours])[samples.sum(-1).argmin()].copy()  # dark, to be seen on white
        samples[8, 8:12] = key
        samples[9, 8:12] = key ^ 1  # not transparent, though of 16 bits the upper half is the same
        before = chunk(b"tRNS", key.astype(">u2").tobytes())
        alpha = np.where((samples == key).all(-1), 0, 255).astype(np.uint8)
    pixels = eight_bits(samples, bits)
    if colours == PALETTE:
        table = np.random.default_rng(1).integers(0, 256, (2 ** bits, 3), np.uint8)
        before, pixels = chunk(b"PLTE", table.tobytes()) + before, table[samples[..., 0]]
    elif colours in (GREY_ALPHA, RGB_ALPHA):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    return png(samples, colours, bits, before, interlaced=interlaced), (
        pixels if alpha is None else on_white(pixels, alpha))


# Exif


def exif(orientation: int, order: str = ">", kind: str = "H") -> bytes:
    """Exif data in one of the two byte orders, with the orientation as the second of two entries."""
    name = b"MM" if order == ">" else b"II"
    value = struct.pack(order + kind, orientation).ljust(4, b"\0")
    entries = [struct.pack(f"{order}HHI", 0x0100, 4, 1) + struct.pack(f"{order}I", 999),
               struct.pack(f"{order}HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + value]
    return name + struct.pack(f"{order}HIH", 42, 8, len(entries)) + b"".join(entries) + bytes(4)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments behind its JFIF segment."""
    end = 4 + struct.unpack(">H", jpeg[4:6])[0]
    return jpeg[:end] + b"".join(segments) + jpeg[end:]


def other_pngs() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """PNG files with parts beside the pixels: as `every_type`."""
    pixels = photograph()
    for orientation, turn in TURNED.items():
        for place in ("before", "after"):
            yield f"orientation {orientation} {place} the pixels", png(
                pixels, RGB, 8, **{place: chunk(b"eXIf", exif(orientation))}), turn(pixels)
    random = np.random.default_rng(4).bytes(2**21)
    wrong = chunk(b"tEXt", b"Title\0x")[:-4] + b"1234"
    parts = {"profile of 2 MB": chunk(b"iCCP", b"profile\0\0" + zlib.compress(random)),
             "2 MB of text": chunk(b"tEXt", b"Comment\0" + bytes(2**21)),
             "2 MB of compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),
             "damaged text": wrong, "damaged Exif data": chunk(b"eXIf", exif(6)[:20]),
             "gamma": chunk(b"gAMA", struct.pack(">I", 100_000)), "damaged animation": chunk(b"acTL", b"")}
    for name, part in parts.items():
        yield name, png(pixels, RGB, 8, part), pixels
    animation = saved(Image.fromarray(pixels), "PNG", save_all=True, append_images=[Image.fromarray(pixels[::-1])])
    assert b"fdAT" in animation
    yield "animation", animation, pixels
    yield "no end", png(pixels, RGB, 8)[:-12], pixels


# JPEG


def photograph(channels: int = 3) -> np.ndarray:
    coarse = Image.fromarray(np.random.default_rng(3).integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE))
    return np.asarray(coarse)[..., :channels]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def shown_by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        grey = image.mode == "L"
        return np.asarray(image if grey else image.convert("RGB")).reshape(image.height, image.width, -1)


def jpegs() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """JPEG files of every kind: as `every_type`."""
    colour = Image.fromarray(photograph())
    plain = saved(colour, "JPEG", quality=90)
    ink = saved(colour.convert("CMYK"), "JPEG", quality=90)
    mark = ink.index(b"\xff\xee")
    files = {
        "grey": saved(colour.convert("L"), "JPEG"), "colour": plain,
        "all chroma": saved(colour, "JPEG", subsampling=0, quality=90),
        "not converted to YCbCr": saved(colour, "JPEG", keep_rgb=True),
        "progressive": saved(colour, "JPEG", progressive=True), "optimized": saved(colour, "JPEG", optimize=True),
        "restart markers": saved(colour, "JPEG", restart_marker_blocks=1), "CMYK": ink,
        "CMYK without Adobe's mark": ink[:mark] + ink[mark + 16:],
        "YCCK": ink[:mark + 15] + b"\2" + ink[mark + 16:],
    }
    for name, content in files.items():
        yield name, content, shown_by_pillow(content)
    pixels = shown_by_pillow(plain)
    profile = bytes(65_000)
    yield "profile of 2 MB", with_segments(
        plain, *(segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 32]) + profile) for number in range(1, 33))), pixels
    yield "2 MB of text", with_segments(plain, *[segment(0xFE, b"x" * 65_000)] * 32), pixels
    yield "bytes after the end", plain + b"more", pixels
    yield "two pictures", saved(colour, "MPO", quality=90, save_all=True, append_images=[colour.rotate(90)]), pixels
    yield "damaged Exif data", with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(6)[:20])), pixels
    yield "damaged Photoshop data", with_segments(plain, segment(0xED, b"Photoshop 3.0\x008BIM\3\xed")), pixels
    stored = Image.fromarray(photograph()[:, :SIDE])
    content = saved(stored, "JPEG", quality=90)
    for orientation, turn in TURNED.items():
        turned = turn(shown_by_pillow(content))
        for order in "<>":
            yield f"orientation {orientation}{order}", with_segments(
                content, segment(0xE1, b"Exif\0\0" + exif(orientation, order))), turned
    yield "orientation as a long number, behind a profile", with_segments(
        content, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000)),
        segment(0xE1, b"Exif\0\0" + exif(6, "<", "I"))), TURNED[6](pixels)
    for orientation in (0, 9):
        yield f"orientation {orientation}", with_segments(
            content, segment(0xE1, b"Exif\0\0" + exif(orientation))), pixels


def shown() -> list[tuple[str, bytes, np.ndarray]]:
    """All files that a viewer shows: the name of a file, its content, and the pixels.

    Some names end in the suffix of the other format.
    """
    return [(f"{number:03}.{suffix}", content, pixels) for number, ((_, content, pixels), suffix) in enumerate(
        [(one, "jpg" if number % 9 == 4 else "png") for number, one in enumerate([*every_type(), *other_pngs()])]
        + [(one, "png" if number % 9 == 4 else "jpeg") for number, one in enumerate(jpegs())])]


# Files that cannot be shown


def refused() -> dict[str, tuple[bytes, str]]:
    """By what is wrong: the content of a file, and what its message says to do."""
    again, convert, smaller = "get it again, or remove it", "convert it to ", "make it smaller, or remove it"
    picture = Image.fromarray(photograph())
    jpeg, progressive = saved(picture, "JPEG"), saved(picture, "JPEG", progressive=True)
    samples = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3))
    good = png(samples, RGB, 8)
    second = good.rindex(b"IDAT") - 4
    flipped = bytearray(good)
    flipped[second - 20] ^= 0xFF
    frame = jpeg.index(b"\xff\xc0")
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, RGB, 0, 0, 0))
    other = {f"a {kind}": (saved(picture, kind), convert) for kind in ("GIF", "WEBP", "BMP", "TIFF", "AVIF", "ICO")}
    return other | {
        "a JPEG without its last byte": (jpeg[:-1], again), "a JPEG without its end": (jpeg[:-40], again),
        "two thirds of a JPEG": (jpeg[:len(jpeg) * 2 // 3], again), "a JPEG's header": (jpeg[:-len(jpeg) // 3], again),
        "a JPEG's first bytes": (jpeg[:20], again), "three bytes of a JPEG": (jpeg[:3], again),
        "two thirds of a progressive JPEG": (progressive[:len(progressive) * 2 // 3], again),
        "a JPEG without pixels": (jpeg[:20] + b"\xff\xd9", again),
        "a JPEG without a table": (jpeg.replace(b"\xff\xdb", b"\xff\xfe"), again),
        "a JPEG of 12 bits": (jpeg[:frame + 4] + b"\x0c" + jpeg[frame + 5:], convert),
        "a JPEG of two components": (jpeg[:frame + 9] + b"\2" + jpeg[frame + 10:], convert),
        "two thirds of a PNG": (good[:len(good) * 2 // 3], again),
        "a PNG's first chunk of pixels": (good[:second], again),
        "a PNG's header": (good[:33], again), "a PNG's first bytes": (good[:20], again),
        "a changed byte in a PNG": (bytes(flipped), again),
        "a PNG without a palette": (png(samples[..., :1], PALETTE, 8), again),
        "a PNG of an impossible type": (png(samples, RGB, 4), again),
        "a PNG of 10,000 million pixels": (good[:8] + large + good[33:], smaller),
        "text": (b"not an image, but a text", again), "zeros": (bytes(1000), again), "one byte": (b"x", again)}
