"""What a newcomer's first command costs: a clean clone, crates downloaded, `cargo run -- run .../quickstart.toml`.

CPU seconds are user and system time of cargo and everything it starts, the run included.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def cost(command, **kwargs):
    """CPU and wall seconds of a command and all that it started."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, **kwargs)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main():
    with tempfile.TemporaryDirectory(dir=os.environ.get("ANABRANCH_BENCH_TMP")) as folder:
        clone = os.path.join(folder, "anabranch")
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
        subprocess.run(["cargo", "fetch", "--quiet", "--locked"], cwd=clone, check=True)
        environment = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
        command = ["cargo", "run", "--quiet", "--offline", "--", "run", "jobs/examples/quickstart.toml"]
        cpu, wall = cost(command, cwd=clone, env=environment, stdout=sys.stderr)
        # The run alone: the same command once more, into another table.
        shutil.rmtree(os.path.join(clone, "quickstart-table"))
        binary = os.path.join(clone, "target", "debug", "anabranch")
        run_cpu, run_wall = cost([binary, *command[5:]], cwd=clone, stdout=subprocess.DEVNULL)
    figures = [
        ("cpu_minutes", cpu / 60, "min"),
        ("wall_minutes", wall / 60, "min"),
        ("run_seconds", run_wall, "s"),
        ("run_cpu_seconds", run_cpu, "s"),
    ]
    for name, value, unit in figures:
        print(f"first_run.{name} {value:.2f} {unit}")
    with open(os.environ["ANABRANCH_BENCH_OUT"], "w") as out:
        json.dump({name: value for name, value, _ in figures}, out, indent=2)


if __name__ == "__main__":
    main()
