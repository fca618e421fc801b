"""Decodes records of the latent codec with numpy alone, as its documentation says (`anabranch_models::latent`).

    latents.py CODEC RECORD     CODEC is the file in a run's decisions; prints height, width and channels of a picture,
                                or rate, frames and channels of a sound, a line of text, then its samples
"""

import json
import sys
import zlib

import numpy as np

DTYPES = {"F32": "<f4", "I16": "<i2", "I32": "<i4", "U16": "<u2", "U8": "u1"}
# What a lifting step adds of its neighbours' sum: a whole multiple, and one of 2^-16, rounded down.
STEPS = [(-2, 27123), (0, -3472), (1, -7674), (0, 29066)]


def read_codec(path):
    """The card and the tensors of a codec: the format of safetensors."""
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header.pop("__metadata__")["card"])
    tensors = {}
    for name, tensor in header.items():
        start, end = (8 + length + offset for offset in tensor["data_offsets"])
        numbers = np.frombuffer(data[start:end], DTYPES[tensor["dtype"]])
        tensors[name] = numbers.reshape(tensor["shape"])
    return card, tensors


def read_header(record):
    """Kind, the two sizes, channels of the media, channels of latents, and the stream."""
    assert record[:2] == b"\xab\x4c" and record[2] >> 4 == 1
    at, numbers = 8, []
    for _ in range(3):
        number = shift = 0
        while True:
            byte, at = record[at], at + 1
            number, shift = number | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        numbers.append(number)
    checksum = int.from_bytes(record[at : at + 2], "little")
    stream = record[at + 2 :]
    assert zlib.crc32(record[:at] + stream) & 0xFFFF == checksum
    return record[2] & 15, *numbers, record[7], stream


def decode_symbols(stream, frequencies, channels, rows, across):
    """Differences of latents, [channels, rows, across]."""
    lanes = 8 if across >= 8 and rows * across * channels >= 4096 else 1
    states = np.frombuffer(stream[: 4 * lanes], "<u4").tolist()
    words = iter(np.frombuffer(stream[4 * lanes :], "<u2").tolist())

    def refill(state):
        return state if state >= 1 << 15 else state << 16 | next(words)

    magnitude = lambda row: np.minimum(np.abs(row.astype(int)), 31)
    planes = np.zeros((channels, rows, across), np.int8)
    escaped = []
    for channel in range(channels):
        counts = frequencies[channel].astype(int)
        starts = (np.cumsum(counts, 1) - counts).tolist()
        slots = [np.repeat(np.arange(256), count).tolist() for count in counts]
        counts, escapes = counts.tolist(), 0
        for y in range(rows):
            above = np.zeros(across, np.int8) if y == 0 else planes[channel, y - 1]
            before = np.zeros(across, np.int8) if channel == 0 else planes[channel - 1, y]
            near = np.pad(magnitude(above), 1)
            busy = near[:-2] + 2 * near[1:-1] + near[2:] + 2 * magnitude(before)
            contexts = sum((busy >= least).astype(int) for least in (1, 3, 6, 12, 24)).tolist()
            row = []
            for x, context in enumerate(contexts):
                state = states[x % lanes]
                slot = state & 4095
                symbol = slots[context][slot]
                escapes += symbol == 128
                state = counts[context][symbol] * (state >> 12) + slot - starts[context][symbol]
                states[x % lanes] = refill(state)
                row.append(symbol)
            planes[channel, y] = np.array(row, np.uint8).view(np.int8)
        for turn in range(escapes):
            state = states[turn % lanes]
            escaped.append((state & 4095) // 16)
            states[turn % lanes] = refill(16 * (state >> 12) + state % 16)
    assert states == [1 << 15] * lanes and next(words, None) is None
    planes[planes == -128] = np.array(escaped, np.uint8).view(np.int8)
    return planes


def undo_predictors(planes, predictors):
    for plane, predictor in zip(planes, predictors):
        if predictor in (1, 3):
            plane[:] = np.cumsum(plane, 1, dtype=np.int8)
        if predictor in (2, 3):
            plane[:] = np.cumsum(plane, 0, dtype=np.int8)
    return planes


def inverse_packet(x, levels, clip):
    """Undoes a wavelet packet along the first axis."""
    for level in reversed(range(levels)):
        for band in range(1 << level):
            part = x[band :: 1 << level]
            even, odd = part[0::2], part[1::2]
            for step in (3, 2, 1, 0):
                whole, multiple = STEPS[step]
                if step % 2:
                    to, near = even, odd
                    sums = near + np.concatenate([near[:1], near[:-1]])
                else:
                    to, near = odd, even
                    sums = near + np.concatenate([near[1:], near[-1:]])
                sums = clip(sums)
                to[:] = clip(to - (sums * multiple >> 16))
                for _ in range(abs(whole)):
                    to[:] = clip(to - np.sign(whole) * sums)
    return x


def correction(tensors, latents, picture):
    """What a decoder that is not linear adds to coefficients, [bands, rows, across]."""
    beside = (-1, 0, 1) if picture else (0,)
    around = [(down, right) for down in (-1, 0, 1) for right in beside]

    def layer(name, x, taps=((0, 0),)):
        weight, bias = tensors[f"decoder.{name}.weight"], tensors[f"decoder.{name}.bias"]
        rows, across = x.shape[1:]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        at = lambda down, right: padded[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + across]
        return bias[:, None, None] + sum(
            np.einsum("oi,iyx->oyx", weight[tap], at(*place)) for tap, place in enumerate(taps)
        )

    relu = lambda x: np.maximum(x, 0)
    hidden, block = layer("enter", latents.astype(np.float32), around), 0
    while f"decoder.{block}.mix.weight" in tensors:
        inner = relu(layer(f"{block}.spatial", hidden, around))
        hidden, block = hidden + layer(f"{block}.mix", inner), block + 1
    return layer("leave", relu(hidden))


def decode(card, tensors, record):
    kind, first, second, media, stored, stream = read_header(record)
    levels, planes = card["levels"], card["planes"]
    side = 1 << levels
    blocks = lambda samples: -(-samples // side)
    rows, across = (blocks(second), blocks(first)) if kind == 1 else (blocks(second), 1)
    latents = decode_symbols(stream, tensors["frequencies"], stored, rows, across)
    latents = undo_predictors(latents, tensors["predictors"]).astype(np.int64)
    beyond = np.maximum(np.abs(latents) - 96, 0)
    steps = latents + np.sign(latents) * beyond**2
    values = 16 * steps
    clip16 = lambda x: np.clip(x, -32768, 32767)
    weight, bias, shift = (
        tensors["synthesis." + name].astype(np.int64) for name in ("weight", "bias", "shift")
    )
    sums = weight[:, :stored] @ values.reshape(stored, -1) + (bias + (1 << shift - 1))[:, None]
    vectors = clip16(sums >> shift[:, None])
    if card.get("decoder", "linear") != "linear" and stored == card["channels"]:
        added = correction(tensors, steps, kind == 1).reshape(vectors.shape)
        vectors = clip16(vectors + np.rint(added).astype(np.int64))
    if kind == 1:
        # [y, plane, x, row, column] to [row, y, column, x, plane]
        grid = vectors.reshape(side, planes, side, rows, across).transpose(3, 0, 4, 2, 1)
        grid = grid.reshape(rows * side, across * side, planes).copy()
        inverse_packet(grid, levels, clip16)
        grid = grid.transpose(1, 0, 2).copy()
        inverse_packet(grid, levels, clip16)
        samples = np.clip((clip16(grid + 4) >> 3) + 128, 0, 255).astype(np.uint8)
        samples = samples.transpose(1, 0, 2)[:second, :first, :media]
    else:
        # [plane, phase, position] to [position, phase, plane]
        wave = vectors.reshape(planes, side, rows).transpose(2, 1, 0).reshape(-1, planes) << 3
        inverse_packet(wave, levels, lambda x: x)
        samples = clip16(wave)[:second, :media].astype("<i2")
    return (second, first, media) if kind == 1 else (first, second, media), samples


if __name__ == "__main__":
    facts, samples = decode(*read_codec(sys.argv[1]), open(sys.argv[2], "rb").read())
    sys.stdout.buffer.write(" ".join(map(str, facts)).encode() + b"\n" + samples.tobytes())
