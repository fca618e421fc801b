"""Reads a table with one of the tools that people have, and prints what it saw, one JSON object per row.

    read.py polars|deltalake|duckdb|datasets TABLE

Media columns are printed as the hashes of their bytes and of what they decode to: an image's pixels by
Pillow, a sound's samples by libsndfile. `datasets` must know by itself which columns are images and sound.
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy
import soundfile
from PIL import Image


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pixels(image: Image.Image) -> str:
    return f"{image.width}x{image.height} {digest(image.convert('RGB').tobytes())}"


def sound(data: bytes) -> str:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    return f"{samples.shape[0]}x{samples.shape[1]} at {rate} {digest(samples.tobytes())}"


def media(value: dict) -> dict:
    data = value["bytes"]
    seen = {"bytes": digest(data), "path": value["path"]}
    if data[:4] in (b"fLaC", b"RIFF") and data[8:12] != b"WEBP":
        seen["decoded"] = sound(data)
    else:
        seen["decoded"] = pixels(Image.open(io.BytesIO(data)))
    return seen


def plain(value):
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return None if value["bytes"] is None else media(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def with_polars(table: Path):
    import polars

    return polars.read_delta(str(table)).to_dicts()


def with_deltalake(table: Path):
    import deltalake

    return deltalake.DeltaTable(str(table)).to_pyarrow_table().to_pylist()


def with_duckdb(table: Path):
    import duckdb

    found = duckdb.sql(f"SELECT * FROM read_parquet('{table}/data/*.parquet')")
    return [dict(zip(found.columns, row)) for row in found.fetchall()]


def with_datasets(table: Path):
    import datasets

    found = datasets.load_dataset(
        "parquet",
        data_files=str(table / "data" / "*.parquet"),
        split="train",
        cache_dir=str(table.parent / "cache"),
    )
    images = [name for name, kind in found.features.items() if isinstance(kind, datasets.Image)]
    sounds = [name for name, kind in found.features.items() if isinstance(kind, datasets.Audio)]
    told = {"images": images, "sounds": sounds}
    print(json.dumps(told), file=sys.stderr)
    # Decoding sound in `datasets` itself takes torch; what it would decode is at hand either way.
    for name in sounds:
        found = found.cast_column(name, datasets.Audio(decode=False))
    raw = found
    for name in images:
        raw = raw.cast_column(name, datasets.Image(decode=False))
    for decoded, row in zip(found, raw):
        for name in images:
            if row[name] is not None:
                seen = media(row[name])
                # The image as `datasets` decoded it, without being asked to.
                row[name] = {**seen, "decoded": pixels(decoded[name])}
        yield row


def main():
    reader, table = sys.argv[1], Path(sys.argv[2])
    rows = [{name: plain(value) for name, value in row.items()} for row in globals()[f"with_{reader}"](table)]
    for row in sorted(rows, key=lambda row: row["id"]):
        print(json.dumps(row, sort_keys=True))


if __name__ == "__main__":
    main()
