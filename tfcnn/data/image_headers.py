"""What a JPEG or PNG file says before its pixels: size, colours, transparency, and how a viewer turns the picture.

Read here and not by Pillow, for three reasons. Memory and stream decide by the same rules how a file is decoded. What
does not change a pixel (colour profiles, texts, thumbnails, further pictures) is left out before Pillow sees the file,
so its limits on such parts and its warnings about them do not matter. And a file that is damaged is told from one of a
kind that is not read.

Sources: ITU-T T.81 annex B (JPEG), the PNG specification (third edition), Exif 2.32 section 4.6.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import BinaryIO

MOST_PIXELS = 2**28

_EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_USUAL_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_WITHOUT_CONTENT = (0x01, *range(0xD0, 0xD9))
_EXIF = b"Exif\0\0"

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8),
           _GREY_ALPHA: (8, 16), _RGB_ALPHA: (8, 16)}

# Where a signature is, the signature, and the format.
_OTHER_FORMATS = (
    (0, b"GIF8", "a GIF"), (8, b"WEBP", "a WebP"), (6, b"\0\0\0\0", "a BMP"), (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"), (4, b"ftypavi", "an AVIF"), (4, b"ftyphei", "a HEIC"), (4, b"ftypmif1", "a HEIC"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"), (0, b"\xff\x4f\xff\x51", "a JPEG 2000"), (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"), (0, b"%PDF", "a PDF"), (0, b"8BPS", "a Photoshop"),
    (0, b"\0\0\1\0", "an icon"))


class Damaged(Exception):
    """The file is not as it was written; the message says why."""


class Unsupported(Exception):
    """The file is intact, but of a kind that is not read; the message completes "the file ..."."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says before its pixels.

    Attributes:
      kind: `JPEG` or `PNG`.
      stored: height and width in pixels, as stored.
      grey: whether there is no colour, apart from transparency. A palette counts as colour.
      bits: bits of each stored value, or of each index of a palette.
      orientation: Exif's, 1 to 8: how the stored pixels are turned and mirrored to be shown. 1 leaves them as they are.
      unusual: what is rare about the file, so that a decoder may refuse it though it is intact; mostly empty.
      palette: red, green and blue of each colour, one after the other; None without a palette.
      transparency: the content of PNG's chunk tRNS; None without it.
      content: the file without all that changes no pixel; empty if only the header was asked for.
      partially_decodable: whether TensorFlow's partial decoder gives the pixels that Pillow gives: the file is an
        ordinary grey or YCbCr JPEG, shown as stored, that ends as it should.
    """

    kind: str
    stored: tuple[int, int]
    grey: bool
    bits: int
    orientation: int
    unusual: str = ""
    palette: bytes | None = None
    transparency: bytes | None = None
    content: bytes = b""
    partially_decodable: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as shown."""
        return self.stored if self.orientation < 5 else self.stored[::-1]


def read(file: BinaryIO, pixels: bool) -> Header:
    """Reads the header of a JPEG or PNG file, whatever its name.

    Args:
      file: at its start; it can seek.
      pixels: whether to read the pixels, still encoded, too.

    Raises:
      Damaged: the header is damaged, or the checksum of the pixels is wrong.
      Unsupported: the file is of another format, or has more than `MOST_PIXELS` pixels.
    """
    start = file.read(16)
    file.seek(0)
    if start.startswith(b"\xff\xd8\xff"):
        header = _read_jpeg(file, pixels)
    elif start.startswith(_PNG):
        header = _read_png(file, pixels)
    else:
        raise _other_format(start)
    height, width = header.size
    if height * width > MOST_PIXELS:
        raise Unsupported(f"has {height:,}x{width:,} pixels, more than the {MOST_PIXELS:,} that are decoded: make it "
                          "smaller")
    return header


def _other_format(start: bytes) -> Exception:
    for position, signature, name in _OTHER_FORMATS:
        if start.startswith(signature, position) and (name != "a BMP" or start.startswith(b"BM")):
            return Unsupported(f"is {name} file, whatever its name says: convert it to JPEG or PNG")
    return Damaged("it is neither a JPEG nor a PNG")


# JPEG


def _read_jpeg(file: BinaryIO, pixels: bool) -> Header:
    kept, frame, exif, marker, frame_marker = [file.read(2)], b"", b"", 0, 0
    while marker != _SOS:
        marker = _next_marker(file)
        if marker in _WITHOUT_CONTENT:
            continue
        content = _segment(file)
        if marker in _FRAMES:
            frame, frame_marker = content, marker
        if marker == _APP1 and content.startswith(_EXIF):
            exif = exif or content[len(_EXIF):]
        if not (_APP0 < marker <= _APP15 and marker != _APP14 or marker == _COM):  # APP14 tells the colour model
            kept.append(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)
    if len(frame) < 6:
        raise Damaged("it does not say how large it is")
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    unusual = ""
    if frame_marker not in _USUAL_FRAMES or bits != 8 or components not in (1, 3, 4) or not height:
        unusual = f"a rare JPEG (type {frame_marker - 0xC0}, {bits} bits, {components} components, {height} rows)"
    if pixels:
        kept.append(file.read())
    header = Header("JPEG", (height, width), components == 1, bits, _orientation(exif), unusual,
                    content=b"".join(kept) if pixels else b"")
    # TensorFlow's decoder refuses 2**29 values. A decoder of a part does not notice that the rest is missing.
    partial = (not unusual and components < 4 and header.orientation == 1 and 3 * height * width < 2**29
               and kept[-1].endswith(b"\xff\xd9"))
    return dataclasses.replace(header, partially_decodable=partial)


def _next_marker(file: BinaryIO) -> int:
    """Moves behind the next marker; as decoders do, it passes over what is not one."""
    before, byte = 0, 0
    while before != 0xFF or byte in (0, 0xFF):
        before, byte = byte, _exactly(file, 1)[0]
    if byte == _EOI:
        raise Damaged("it ends before its pixels")
    return byte


def _segment(file: BinaryIO) -> bytes:
    length, = struct.unpack(">H", _exactly(file, 2))
    return _exactly(file, max(length - 2, 0))


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise Damaged("it ends within its header")
    return content


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory of Exif's data; 1 where there is none, or where it makes no sense."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        start, = struct.unpack_from(f"{order}I", exif, 4)
        count, = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == 0x0112:
                value, = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass  # viewers show a picture with damaged Exif data as it is stored
    return 1


# PNG


def _read_png(file: BinaryIO, pixels: bool) -> Header:
    chunks, kept = _chunks(file, pixels)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise Damaged("it does not say how large it is")
    width, height, bits, colours = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    if bits not in _DEPTHS.get(colours, ()) or not 0 < width < 2**31 or not 0 < height < 2**31:
        raise Damaged("its header makes no sense")
    if colours == _PALETTE and b"PLTE" not in chunks:
        raise Damaged("it has no palette")
    exif = chunks.get(b"eXIf", b"")
    return Header("PNG", (height, width), colours in (_GREY, _GREY_ALPHA), bits,
                  _orientation(exif.removeprefix(_EXIF)),
                  palette=chunks[b"PLTE"] if colours == _PALETTE else None,
                  transparency=chunks.get(b"tRNS") if colours in (_GREY, _RGB, _PALETTE) else None,
                  content=b"".join([_PNG, *kept, _chunk(b"IEND", b"")]) if pixels else b"")


def _chunks(file: BinaryIO, pixels: bool) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The contents of the chunks that matter, and, whole, those that a decoder of pixels needs.

    What is missing at the end does not matter if it is not pixels.
    """
    contents: dict[bytes, bytes] = {}
    kept = []
    file.seek(len(_PNG))
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        wanted = name in (b"IHDR", b"PLTE", b"tRNS", b"eXIf") or pixels and name == b"IDAT"
        if name == b"IEND" or wanted and length >= 2**31:
            break
        if not wanted:
            file.seek(length + 4, 1)
            continue
        content = file.read(length + 4)
        if len(content) < length + 4:
            raise Damaged(f"it ends within its chunk {name.decode()}")
        whole = start + content
        if zlib.crc32(memoryview(whole)[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise Damaged(f"the checksum of its chunk {name.decode()} is wrong")
        if name == b"IDAT":
            kept.append(whole)
        elif name not in contents:
            contents[name] = content[:-4]
            kept += [whole] if name in (b"IHDR", b"PLTE") else []
    return contents, kept


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
