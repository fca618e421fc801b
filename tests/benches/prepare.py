"""The image job of the peers: decode, resize to 128 x 128, encode as JPEG at quality 75, write Parquet.

Anabranch and Daft run one after the other, several times, as processes of their own on the same generated
images; every figure counts the whole process, start included. Pillow does the same job once, as the judge of
quality. `prepare.vs_daft` counts only if the pictures are as good as Pillow's and no larger than Daft's.
"""

import glob
import io
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

JOB = """
[job]
name = "prepare"
commit = { parts = 16 }
[source.files]
kind = "files"
path = "IMAGES/*"
[operator.decode]
kind = "decode"
column = "image"
mode = "rgb"
inputs = ["files"]
[operator.resize]
kind = "resize"
column = "image"
width = 128
height = 128
inputs = ["decode"]
[operator.encode]
kind = "encode"
column = "image"
codec = "jpeg"
quality = 75
inputs = ["resize"]
[sink.table]
kind = "table"
path = "OUT"
inputs = ["encode"]
"""

DAFT = """
import os, sys
import daft
from daft import col
df = (daft.from_glob_path(sys.argv[1] + "/*").select("path")
      .with_column("img", col("path").download().decode_image(mode="RGB").resize(128, 128))
      .with_column("jpeg", col("img").encode_image("JPEG"))
      .select("path", "jpeg"))
df.write_parquet(sys.argv[2], compression="none")
sys.stdout.flush()
os._exit(0)  # its own exit sometimes ends in a segmentation fault, after everything is written
"""


def measure(command, **kwargs):
    """CPU seconds and peak bytes of one process and its threads, and its wall time."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command[0]} ended with {child.returncode}: {error.decode()}")
    return {
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss * 1024,
        "wall": time.monotonic() - start,
    }


def size(folder):
    """Bytes of what readers read: the Parquet files."""
    return sum(os.path.getsize(path) for path in glob.glob(f"{folder}/**/*.parquet", recursive=True))


def psnr(images, table):
    """Quality of our pictures against Pillow's of the same job, in dB: mean squared error over all samples."""
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    error = count = 0
    for shard in sorted(glob.glob(f"{table}/data/*.parquet")):
        rows = pq.read_table(shard, columns=["key", "image"]).to_pylist()
        for row in rows:
            ours = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
            small = Image.open(f"{images}/{row['key']}").convert("RGB").resize((128, 128), Image.BILINEAR)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=75)
            theirs = Image.open(out).convert("RGB")
            difference = np.asarray(ours, dtype=np.int32) - np.asarray(theirs, dtype=np.int32)
            error += int((difference * difference).sum())
            count += difference.size
    return (10 * math.log10(255 * 255 * count / error) if error else 99.0), count // (128 * 128 * 3)


def shows_rows(log):
    """Whether a reader of the table's log sees a file."""
    for entry in glob.glob(f"{log}/*.json"):
        with open(entry) as text:
            if '"add"' in text.read():
                return True
    return False


def first_record(binary, images, folder):
    """Milliseconds from exec until the first commit of one batch is in the table's log."""
    shutil.rmtree(f"{folder}/first", ignore_errors=True)
    job = JOB.replace("IMAGES", images).replace("OUT", f"{folder}/first")
    job = job.replace("{ parts = 16 }", "{ parts = 1 }\npart = { records = 64 }")
    with open(f"{folder}/first.toml", "w") as out:
        out.write(job)
    log = f"{folder}/first/_delta_log"
    start = time.monotonic()
    child = subprocess.Popen([binary, "run", f"{folder}/first.toml", "--quiet"])
    while not shows_rows(log):
        if child.poll() not in (None, 0):
            sys.exit("the run failed")
        time.sleep(0.0005)
    took = 1000 * (time.monotonic() - start)
    child.terminate()
    child.wait()
    return took


def main():
    binary, smoke = sys.argv[1], "--smoke" in sys.argv
    count, rounds, firsts = (60, 1, 1) if smoke else (2000, 5, 15)
    with tempfile.TemporaryDirectory() as folder:
        images = f"{folder}/images"
        generate = os.path.join(os.environ["ANABRANCH_PEERS"], "gen_images.py")
        subprocess.run(
            [sys.executable, generate, "--out", images, "-n", str(count)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with open(f"{folder}/job.toml", "w") as out:
            out.write(JOB.replace("IMAGES", images).replace("OUT", f"{folder}/table"))
        with open(f"{folder}/daft_job.py", "w") as out:
            out.write(DAFT)
        quiet = {**os.environ, "DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "1"}
        ours, daft = [], []
        for _ in range(rounds):
            for target in (f"{folder}/table", f"{folder}/daft"):
                shutil.rmtree(target, ignore_errors=True)
            ours.append(measure([binary, "run", f"{folder}/job.toml", "--quiet"]))
            command = [sys.executable, f"{folder}/daft_job.py", images, f"{folder}/daft"]
            daft.append(measure(command, env=quiet))
            print(f"anabranch {ours[-1]}\ndaft      {daft[-1]}", file=sys.stderr)
        quality, rows = psnr(images, f"{folder}/table")
        assert rows == count, f"{rows} rows of {count} images"
        first = statistics.median(first_record(binary, images, folder) for _ in range(firsts))
        bytes_vs_daft = size(f"{folder}/table") / size(f"{folder}/daft")

    def middle(runs, what):
        return statistics.median(run[what] for run in runs)

    speed = middle(daft, "cpu") / middle(ours, "cpu")
    counts = quality >= 40 and bytes_vs_daft <= 1
    figures = [
        ("images_per_cpu_second", count / middle(ours, "cpu"), "images/s"),
        ("daft_images_per_cpu_second", count / middle(daft, "cpu"), "images/s"),
        ("vs_daft", speed if counts else 0.0, "times"),
        ("wall_vs_daft", middle(daft, "wall") / middle(ours, "wall"), "times"),
        ("psnr_db", quality, "dB"),
        ("bytes_vs_daft", bytes_vs_daft, "times"),
        ("rss_vs_daft", middle(ours, "rss") / middle(daft, "rss"), "times"),
        ("rss_mib", middle(ours, "rss") / 2**20, "MiB"),
        ("first_record_ms", first, "ms"),
    ]
    for name, value, unit in figures:
        print(f"prepare.{name} {value:.2f} {unit}")
    if not counts:
        print(f"vs_daft would be {speed:.2f}, but the output is not as good or as small", file=sys.stderr)
    with open(os.environ["ANABRANCH_BENCH_OUT"], "w") as out:
        json.dump({name: value for name, value, _ in figures}, out, indent=2)


if __name__ == "__main__":
    main()
