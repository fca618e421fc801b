"""Iterates a dataset with one of the libraries that training loops use, and prints its rows, one JSON object each.

    iterate.py webdataset|datasets|wids|torch_webdataset|streaming|torch_streaming FOLDER

The rows are those of the quickstart job. Pictures and sounds are printed as what they decode to, pictures as the
library itself decodes them.
"""

import glob
import io
import json
import sys
from pathlib import Path

from PIL import Image

from read import pixels, sound


def row(key, image, audio, caption, label, width):
    label = None if label is None else int(label)
    return {"key": key, "image": pixels(image), "audio": sound(audio), "caption": caption, "label": label, "image_width": width}


def of_members(sample):
    """A sample whose members `webdataset` or `wids` decoded."""
    names = {name.lstrip("."): value for name, value in sample.items()}
    told = names["json"]
    audio = names["flac"] if "flac" in names else names["sound"]
    return row(told["key"], names["webp"], audio, names.get("txt"), names.get("cls"), told["image_width"])


def archives(folder: Path):
    import webdataset

    shards = sorted(glob.glob(str(folder / "data" / "*.tar")))
    return webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil")


def with_webdataset(folder: Path):
    return map(of_members, archives(folder))


def with_torch_webdataset(folder: Path):
    from torch.utils.data import DataLoader

    return map(of_members, DataLoader(archives(folder), batch_size=None, num_workers=2))


def with_wids(folder: Path):
    import wids

    found = wids.ShardListDataset(str(folder / "index.json"), base=str(folder), keep=True, transformations=[])
    for sample in (found[at] for at in range(len(found))):
        members = {name.lstrip("."): value for name, value in sample.items() if name.startswith(".")}
        members = {name: value.read() if hasattr(value, "read") else value for name, value in members.items()}
        yield of_members({
            "webp": Image.open(io.BytesIO(members["webp"])),
            "flac": members["flac"],
            "txt": members["txt"].decode(),
            "cls": members["cls"],
            "json": json.loads(members["json"]),
        })


def with_datasets(folder: Path):
    """Parquet or archives: the folder says which."""
    import datasets

    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    # Decoding sound in `datasets` itself takes torch, and so does taking it from an archive, where the test gives it
    # an extension that is no sound's; what it would decode is at hand either way.
    for name in [name for name, kind in found.features.items() if isinstance(kind, datasets.Audio)]:
        found = found.cast_column(name, datasets.Audio(decode=False))
    for sample in found:
        if "webp" in sample:
            yield of_members(sample)
        else:
            yield row(
                sample["key"], sample["image"], sample["audio"]["bytes"], sample["caption"], sample["label"],
                sample["image_width"],
            )


def of_columns(sample):
    return row(
        sample["key"], sample["image"], sample["audio"], sample["caption"], sample["label"], sample["image_width"]
    )


def shards(folder: Path):
    import streaming

    streaming.base.util.clean_stale_shared_memory()
    local = str(folder.parent / "streamed")
    return streaming.StreamingDataset(remote=str(folder), local=local, batch_size=1, validate_hash="sha256")


def with_streaming(folder: Path):
    return map(of_columns, shards(folder))


def with_torch_streaming(folder: Path):
    from torch.utils.data import DataLoader

    return map(of_columns, DataLoader(shards(folder), batch_size=None, num_workers=2))


def main():
    reader, folder = sys.argv[1], Path(sys.argv[2])
    rows = list(globals()[f"with_{reader}"](folder))
    for found in sorted(rows, key=lambda found: found["key"]):
        print(json.dumps(found, sort_keys=True))


if __name__ == "__main__":
    main()
