#!/usr/bin/env python3
"""Measures rollouts of this tree beside those of an older commit: `make bench-beside BASE=750aaa7`.

The older commit is checked out into a worktree below target/, and its own benchmark drives its own
operator, because the API differs. The two take turns (A B A B) on control planes of their own, so
that whatever else the machine does meets both. Requests are exact; times and CPU are of a machine,
and only their ratios say something. The speed of a shared machine changes by a quarter from one
turn to the next, so each turn is measured by its own yardstick too: rollouts of bare Deployments
of the same pods, one just before ours and one just after, which only Kubernetes works on.

BENCH_DEPLOYMENTS, BENCH_ROLLS and BENCH_TURNS (how often each is measured) say how much.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    "requests_per_rollout_first": "requests of a rollout that stores a revision",
    "requests_per_rollout_last": "requests of a later rollout",
    "cpu_per_rollout_first": "ms of CPU of a rollout that stores a revision",
    "cpu_per_rollout_last": "ms of CPU of a later rollout",
    "roll_seconds": "s until all serve the other version",
    "cpu_over_bare": "CPU of a rollout / Kubernetes' for a bare one",
    "time_over_bare": "time of all / of as many bare ones",
}
# Who works on a bare rollout.
KUBERNETES = ("etcd", "kube-apiserver", "kube-controller-manager")


def check_out(base: str) -> Path:
    """Makes a worktree of the older commit, or brings the one that is there to it."""
    tree = ROOT / "target/bench/base"
    if not (tree / "Cargo.toml").exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        command = ["git", "worktree", "add", "--force", "--detach", str(tree), base]
        subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", base], cwd=tree, check=True)
    return tree


def bench(tree: Path, sizes: dict[str, str], *args: str) -> None:
    command = ["cargo", "bench", "--quiet", "--locked", "--bench", "rollouts", *args]
    env = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    subprocess.run(command, cwd=tree, check=True, env={**env, **sizes})


def measure(tree: Path, sizes: dict[str, str]) -> dict[str, float]:
    """One run of a tree's own benchmark."""
    bench(tree, sizes)
    run = json.loads((tree / "target/bench/raw/rollouts-1.json").read_text())
    figures, seen = run["figures"], run["seen"]
    bare = [seen["bare_before"], seen["bare_after"]]
    bare_cpu = statistics.mean(sum(b["cpuMsOf"][name] for name in KUBERNETES) for b in bare)
    bare_cpu /= int(sizes["BENCH_DEPLOYMENTS"])
    seconds = seen["roll_01"]["seconds"]
    return {
        **figures,
        "roll_seconds": seconds,
        "cpu_over_bare": figures["cpu_per_rollout_first"] / bare_cpu,
        "time_over_bare": seconds / statistics.mean(b["seconds"] for b in bare),
    }


def main() -> None:
    base = sys.argv[1]
    turns = int(os.environ.get("BENCH_TURNS", "2"))
    sizes = {
        "BENCH_RUNS": "1",
        "BENCH_SETTLED": "0",
        "BENCH_DEPLOYMENTS": os.environ.get("BENCH_DEPLOYMENTS", "200"),
        "BENCH_ROLLS": os.environ.get("BENCH_ROLLS", "3"),
    }
    trees = {base: check_out(base), "here": ROOT}
    for tree in trees.values():
        bench(tree, {}, "--no-run")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for turn in range(turns):
        for name, tree in trees.items():
            print(f"turn {turn + 1} of {turns}: {name}", flush=True)
            runs[name].append(measure(tree, sizes))
    (ROOT / "target/bench/beside.json").write_text(json.dumps(runs, indent=2))
    print(f"\n{'':<48}{base:>10}{'here':>10}{'ratio':>8}")
    for figure, says in FIGURES.items():
        before, now = (statistics.mean(run[figure] for run in runs[name]) for name in trees)
        print(f"{says:<48}{before:>10.3f}{now:>10.3f}{now / before:>8.2f}")
    size = f"{sizes['BENCH_DEPLOYMENTS']} ModelDeployments, {sizes['BENCH_ROLLS']} rolls"
    print(f"\nmeans of {turns} turns each; {size}; every run in target/bench/beside.json")


main()
