#!/usr/bin/env python3
"""Makes the pictures that lie here: python3 -m pip install pillow==13.0.0, ffmpeg on PATH.

Other programs wrote the good ones, so that the processors do not only read what they
would write themselves. The bad ones are good ones that were harmed, or lie.
The picture is 48 x 32 pixels: red, green, blue and white in its corners' quarters.
"""

import io
import random
import struct
import subprocess
import zlib
from pathlib import Path

from PIL import Image, ImageCms

HERE = Path(__file__).parent
WIDTH, HEIGHT = 48, 32
PNG = b"\x89PNG\r\n\x1a\n"


def picture(mode="RGB"):
    quarters = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for at, colour in {(0, 0): "red", (24, 0): "lime", (0, 16): "blue"}.items():
        quarters.paste(colour, (*at, at[0] + 24, at[1] + 16))
    return quarters.convert(mode)


def seen_through():
    whole = picture("RGBA")
    whole.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    return whole


def keep(name, data):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def saved(image, kind, **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def by_ffmpeg(name, *how):
    """What Pillow does not write."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "image2pipe", "-i", "-", *how, "-bitexact", HERE / name]
    subprocess.run(command, input=saved(picture(), "PNG"), check=True)


def turned(orientation):
    """Stored so that it is shown as it is once it has been turned (EXIF 2.32, tag 274)."""
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    image = picture()
    if orientation in turns:
        image = image.transpose(Image.Transpose[turns[orientation]])
    exif = Image.Exif()
    exif[274] = orientation
    return saved(image, "JPEG", exif=exif, quality=90, subsampling=0)


def frames():
    return [picture().rotate(90 * turn) for turn in range(3)]


def good():
    jpeg = {"quality": 90, "subsampling": 0}
    keep("good/baseline.jpg", saved(picture(), "JPEG", quality=85))
    keep("good/progressive.jpg", saved(picture(), "JPEG", progressive=True, **jpeg))
    keep("good/restarts.jpg", saved(picture(), "JPEG", restart_marker_blocks=1, **jpeg))
    keep("good/gray.jpg", saved(picture("L"), "JPEG", quality=90))
    keep("good/cmyk.jpg", saved(picture("CMYK"), "JPEG", **jpeg))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    keep("good/profile.jpg", saved(picture(), "JPEG", icc_profile=profile, **jpeg))
    for orientation in range(1, 9):
        keep(f"good/turned-{orientation}.jpg", turned(orientation))
    keep("good/page-behind.jpg", saved(picture(), "JPEG", **jpeg) + b"<html><script>alert(document.domain)</script>")

    keep("good/bits.png", saved(picture("1"), "PNG"))
    keep("good/palette.png", saved(picture().quantize(4), "PNG", transparency=3))
    keep("good/alpha.png", saved(seen_through(), "PNG"))
    keep("good/gray-alpha.png", saved(seen_through().convert("LA"), "PNG"))
    keep("good/one-pixel.png", saved(Image.new("RGB", (1, 1), "red"), "PNG"))
    keep("good/thin.png", saved(Image.new("RGB", (20_000, 1), "red"), "PNG"))
    keep("good/animated.png", saved(picture(), "PNG", save_all=True, append_images=frames()))
    by_ffmpeg("good/sixteen-bits.png", "-pix_fmt", "rgb48be")
    by_ffmpeg("good/interlaced.png", "-flags", "+ildct")

    keep("good/lossy.webp", saved(picture(), "WEBP", quality=90))
    keep("good/lossless.webp", saved(picture(), "WEBP", lossless=True))
    keep("good/alpha.webp", saved(seen_through(), "WEBP", quality=90))
    keep("good/animated.webp", saved(picture(), "WEBP", save_all=True, append_images=frames(), lossless=True))

    keep("good/interlaced.gif", saved(picture().quantize(4), "GIF", interlace=1))
    keep("good/transparent.gif", saved(picture().quantize(4), "GIF", transparency=3))
    keep("good/animated.gif", saved(picture(), "GIF", save_all=True, append_images=frames()))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, colour=2):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def bad():
    whole = {kind: (HERE / f"good/{name}").read_bytes() for kind, name in {
        "jpg": "baseline.jpg", "png": "alpha.png", "webp": "lossless.webp", "gif": "interlaced.gif"}.items()}
    for kind, data in whole.items():
        keep(f"bad/truncated.{kind}", data[: len(data) * 2 // 3])
    keep("bad/empty.png", b"")
    keep("bad/text.jpg", "Dear Sir,\nthe picture follows by post.\n".encode())
    keep("bad/page.gif", b"GIF89a/*\n*/=1;alert(document.domain)//<html><script src=x></script>")
    keep("bad/drawing.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="48" height="32"><script>alert(1)</script></svg>')
    for kind in ["BMP", "TIFF", "ICO", "PDF", "PPM", "AVIF"]:
        keep(f"bad/other.{kind.lower()}", saved(picture(), kind))
    keep("bad/archive.png", b"PK\x03\x04" + bytes(60))

    rows = zlib.compress(bytes(30_000 * (1 + 30_000 // 8)), 9)
    keep("bad/bomb.png", png(30_000, 30_000, chunk(b"IDAT", rows), depth=1, colour=0))
    keep("bad/giant.png", png(0x7FFF_FFFF, 0x7FFF_FFFF, chunk(b"IDAT", zlib.compress(b"\0"))))
    keep("bad/nothing.png", png(0, 32, chunk(b"IDAT", zlib.compress(b"\0" * 32))))
    keep("bad/giant.gif", whole["gif"][:6] + b"\xff\xff\xff\xff" + whole["gif"][10:])
    lossy = (HERE / "good/lossy.webp").read_bytes()
    size = lossy.index(b"\x9d\x01\x2a") + 3
    keep("bad/giant.webp", lossy[:size] + struct.pack("<HH", 16_383, 16_383) + lossy[size + 4 :])
    head = whole["jpg"].index(b"\xff\xc0") + 5
    keep("bad/giant.jpg", whole["jpg"][:head] + b"\xff\xff\xff\xff" + whole["jpg"][head + 4 :])
    keep("bad/nothing.jpg", whole["jpg"][:head] + b"\0\0\0\0" + whole["jpg"][head + 4 :])

    harmed = bytearray(whole["png"])
    harmed[harmed.index(b"IDAT") + 10] ^= 0x55
    keep("bad/checksum.png", bytes(harmed))
    keep("bad/short-rows.png", png(WIDTH, HEIGHT, chunk(b"IDAT", zlib.compress(b"\0" * 40))))
    keep("bad/no-rows.png", png(WIDTH, HEIGHT))
    keep("bad/no-table.jpg", b"\xff\xd8" + whole["jpg"][whole["jpg"].index(b"\xff\xc0") :])
    keep("bad/only-ends.jpg", b"\xff\xd8\xff\xd9")
    noise = random.Random(7).randbytes(3_000)
    keep("bad/noise.jpg", b"\xff\xd8\xff\xe0" + noise + b"\xff\xd9")
    keep("bad/noise.webp", b"RIFF" + struct.pack("<I", 3_004) + b"WEBP" + noise)


good()
bad()
