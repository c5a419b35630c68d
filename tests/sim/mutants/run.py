#!/usr/bin/env python3
"""Plants each mutant of mutants.toml in a copy of the tree and counts the seeds until the simulator finds it.

The copy and its build stay in target/mutants, so that each mutant costs one incremental build. A mutant that no seed
finds is a hole in an oracle or in a workload: this ends with 1 then.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLACE = ROOT / "target" / "mutants"
TREE = PLACE / "tree"
SIM = PLACE / "target" / "sim" / "millstream-sim"
# The same seeds for everybody, so that counts can be compared.
FIRST_SEED = 1_000_000
# The tree as it is has to pass before anything that fails means something.
SEEDS_UNCHANGED = 150
SECONDS_MAX = 900


def copy_tree():
    """Every file that git knows or would take, if it has changed since the last copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        source, copy = ROOT / name, TREE / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for copy in TREE.rglob("*"):
        if copy.is_file() and str(copy.relative_to(TREE)) not in names:
            copy.unlink()


def build():
    environment = dict(os.environ, RUSTFLAGS="--cfg tokio_unstable", CARGO_TARGET_DIR=str(PLACE / "target"))
    command = ["cargo", "build", "--locked", "--profile", "sim", "-p", "millstream-tests-sim"]
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("a mutant does not compile:\n" + done.stderr[-4000:])


def simulate(seeds, scenarios):
    command = [str(SIM), "run", "--terse", "--seeds", str(seeds), "--from", str(FIRST_SEED),
               "--failures-max", "1", "--twice", "0", "--seconds-max", str(SECONDS_MAX)]
    if scenarios:
        command += ["--scenario", ",".join(scenarios)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def try_mutant(mutant, seeds):
    paths = {edit["file"] for edit in mutant["edits"]}
    for edit in mutant["edits"]:
        path = TREE / edit["file"]
        text = path.read_text()
        assert text.count(edit["find"]) == 1, f"{mutant['name']}: found {text.count(edit['find'])} times"
        path.write_text(text.replace(edit["find"], edit["replace"]))
    begun = time.monotonic()
    try:
        build()
        output = simulate(seeds, mutant.get("scenarios"))
    finally:
        for path in paths:
            shutil.copyfile(ROOT / path, TREE / path)
    found = re.search(r"found after (\d+) seeds", output)
    by = re.search(r"found by (\w+) with seed \d+ of (\w+)", output)
    return found and int(found[1]), by and f"{by[1]} in {by[2]}", time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    with open(ROOT / "tests/sim/mutants/mutants.toml", "rb") as file:
        mutants = tomllib.load(file)["mutant"]
    only = [name for name in arguments.only.split(",") if name]
    mutants = [mutant for mutant in mutants if not only or mutant["name"] in only]
    copy_tree()
    build()
    unchanged = simulate(SEEDS_UNCHANGED, None)
    print(f"without a mutant: {unchanged.strip().splitlines()[-1]}", flush=True)
    survivors = []
    print(f"{'mutant':<36} {'seeds':>6}  {'found by':<28} {'took':>6}", flush=True)
    for mutant in mutants:
        count, by, seconds = try_mutant(mutant, arguments.seeds)
        if count is None:
            survivors.append(mutant["name"])
        print(f"{mutant['name']:<36} {count or '-':>6}  {by or 'NOT FOUND':<28} {seconds:>5.0f}s", flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} found")
    if survivors:
        sys.exit("not found: " + ", ".join(survivors))


main()
