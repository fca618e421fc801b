"""Reading a table back for training: shuffled, whole records as bytes, and decoded to arrays.

`anabranch read` feeds this Python through shared memory; beside it, in the same run and in the same Python, LitData (the
fastest of the peers) reads the same 2,000 JPEG pictures of 128 x 128 from its own chunks, shuffled. Both have as
many copies of every picture, since 2,000 are read too fast to be timed. Decoding is ours in the one case, and
Pillow's in the other, as in the peers' own scripts.

A figure counts what the consumer holds in its hands: a Python `bytes` object per record, or a numpy array of which
a sample is looked at. CPU seconds are those of this process and its children, from the moment the data set is
opened; imports are not counted, the start of our program is. Sums over what was received must agree.

    read.py BINARY [--smoke]        # prepares, reads with both, prints figures
    read.py --reader NAME ...       # one reading, which the above starts
"""

import glob
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

JOB = """
[job]
name = "read"
[source.files]
kind = "files"
path = "JPEGS/*"
[sink.table]
kind = "table"
path = "TABLE"
inputs = ["files"]
"""


def cpu_seconds():
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def looked_at(array):
    """A sample in the middle, so that an array that was never filled is noticed."""
    height, width, _ = array.shape
    return int(array[height // 2, width // 2, 1])


def with_anabranch(binary, table, decode):
    import mmap

    import numpy  # noqa: F401
    import pyarrow.ipc

    yield
    command = [binary, "read", table, "--shared", "--shuffle", "7", "--columns", "image", "--quiet"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command + ["--decode=rgb"] * decode, stdin=pipe, stdout=pipe, bufsize=-1) as child:
        head = json.loads(child.stdout.readline())
        with open(head["memory"], "rb") as file:
            memory = pyarrow.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

        def part(at):
            return pyarrow.BufferReader(memory.slice(*at))

        def done():
            child.stdin.write(b".")
            child.stdin.flush()

        schema = pyarrow.ipc.read_schema(part(head["schema"]))
        done()
        for line in child.stdout:
            message = pyarrow.ipc.read_message(part(json.loads(line)["batch"]))
            images = pyarrow.ipc.read_record_batch(message, schema).column("image")
            yield images.to_numpy_ndarray() if decode else images.field("bytes").to_pylist()
            done()
    if child.returncode:
        sys.exit(f"anabranch read ended with {child.returncode}")


def with_litdata(_, folder, decode):
    import litdata
    import numpy
    from PIL import Image

    data = litdata.StreamingDataset(folder, shuffle=True)
    yield
    for record in data:
        if decode:
            yield [numpy.asarray(Image.open(io.BytesIO(record["jpeg"])).convert("RGB"))]
        else:
            yield [record["jpeg"]]


def reader(name, binary, folder, decode):
    """Reads everything once, and prints what it came to."""
    received = globals()[f"with_{name}"](binary, folder, decode)
    next(received)
    began, cpu = time.monotonic(), cpu_seconds()
    count = total = 0
    for records in received:
        for record in records:
            count += 1
            total += looked_at(record) if decode else len(record) + record[-3]
    cpu = cpu_seconds() - cpu
    print(json.dumps({"count": count, "sum": total, "cpu": cpu, "wall": time.monotonic() - began}))


def one_record(path):
    with open(path, "rb") as file:
        return {"name": os.path.basename(path), "jpeg": file.read()}


def generate(folder, count):
    """The pictures of the peers' image job, as it writes them."""
    peers = os.environ["ANABRANCH_PEERS"]
    command = [sys.executable, f"{peers}/gen_images.py", "--out", f"{folder}/images", "-n", str(count)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sys.path.insert(0, peers)
    from common import reencode

    for path in sorted(glob.glob(f"{folder}/images/*")):
        with open(path, "rb") as file:
            yield os.path.basename(path).split(".")[0], reencode(file.read())


def prepare(binary, folder, jpegs, copies, peer):
    """Our table and the peer's chunks of so many copies."""
    os.mkdir(f"{folder}/jpegs")
    for name, jpeg in jpegs:
        for copy in range(copies):
            with open(f"{folder}/jpegs/{name}-{copy:03}.jpg", "wb") as out:
                out.write(jpeg)
    with open(f"{folder}/job.toml", "w") as out:
        out.write(JOB.replace("JPEGS", f"{folder}/jpegs").replace("TABLE", f"{folder}/anabranch"))
    subprocess.run([binary, "run", f"{folder}/job.toml", "--quiet"], check=True)
    if peer:
        import litdata

        litdata.optimize(
            one_record,
            sorted(glob.glob(f"{folder}/jpegs/*")),
            output_dir=f"{folder}/litdata",
            chunk_bytes="64MB",
            num_workers=2,
        )


def measure(name, binary, folder, decode):
    command = [sys.executable, "-W", "ignore", __file__, "--reader", name, binary, f"{folder}/{name}", str(int(decode))]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = json.loads(ended.stdout.splitlines()[-1])
    print(f"{name} {'decoded' if decode else 'raw'} {found}", file=sys.stderr)
    return found


def main():
    if sys.argv[1] == "--reader":
        name, binary, folder, decode = sys.argv[2:]
        return reader(name, binary, folder, bool(int(decode)))
    binary, smoke = sys.argv[1], "--smoke" in sys.argv
    count, rounds = (60, 1) if smoke else (2000, 5)
    names = ["anabranch"] if smoke else ["anabranch", "litdata"]
    with tempfile.TemporaryDirectory() as folder:
        jpegs = list(generate(folder, count))
    figures = []
    for decode, copies in ((False, 1 if smoke else 50), (True, 1 if smoke else 5)):
        with tempfile.TemporaryDirectory() as folder:
            prepare(binary, folder, jpegs, copies, peer=not smoke)
            runs = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    runs[name].append(measure(name, binary, folder, decode))
        first = runs["anabranch"][0]
        for found in (run for all_runs in runs.values() for run in all_runs):
            assert found["count"] == count * copies, found
            # Decoders may differ by a level or two of a sample, and do so both ways.
            allowed = found["count"] if decode else 0
            assert abs(found["sum"] - first["sum"]) <= allowed, (found, first)

        def speed(name):
            return count * copies / statistics.median(run["cpu"] for run in runs[name])

        kind = "" if decode else "raw_"
        figures.append((f"{kind}records_per_cpu_second", speed("anabranch"), "records/s"))
        if not smoke:
            figures.append((f"litdata_{kind}records_per_cpu_second", speed("litdata"), "records/s"))
            figures.append((f"{kind}vs_best_peer", speed("anabranch") / speed("litdata"), "times"))
            wall = {name: statistics.median(run["wall"] for run in runs[name]) for name in names}
            figures.append((f"{kind}wall_vs_best_peer", wall["litdata"] / wall["anabranch"], "times"))
    for name, value, unit in figures:
        print(f"read.{name} {value:.2f} {unit}")
    with open(os.environ["ANABRANCH_BENCH_OUT"], "w") as out:
        json.dump({name: value for name, value, _ in figures}, out, indent=2)


if __name__ == "__main__":
    main()
