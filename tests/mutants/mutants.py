#!/usr/bin/env python3
"""Tests the mutants of the deciding part: mutants.py CARGO_MUTANTS, by `make mutants`.

cargo-mutants lists the mutants. One program is built that holds all of them, and the variable
MUTANT chooses one, so that a mutant costs a run of the tests and no build. The few that no such
program can hold are left to cargo-mutants itself, which builds each.

  SHARD=1/4    the second of four parts
  ONLY=health  mutants whose name contains this
  FILES=...    mutants of other files of src/plan
  STAGES=3     the last stage of tests to run (stages.sh); 4 adds the exhaustive search

target/mutants/results.json holds what was caught. A later run skips that, as long as the function
is unchanged, so that an interrupted run resumes, and only survivors are tested again. Remove the
file to begin from nothing, after tests were removed or changed.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target/mutants"
FILES = os.environ.get("FILES", "src/plan/facts/** src/plan/decide/**").split()
TIMEOUT_SECONDS = 90
BUILDS_MAX = 12

CHOICE = """
pub fn mutant() -> usize {
    static CHOSEN: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("MUTANT").ok().and_then(|m| m.parse().ok()).unwrap_or(0)
    });
    *CHOSEN
}
"""


class Mutant:
    """One mutant of cargo-mutants' list, with its place in the text of its function."""

    def __init__(self, number, listed, text, starts):
        self.number, self.name, self.file = number, listed["name"], listed["file"]
        self.replacement = listed["replacement"]
        self.begin, self.end = find_span(listed["span"], starts)
        function = listed["function"]
        self.function = find_span(function["span"], starts) if function else None
        begin, end = self.function or (0, len(text))
        source = text[begin:end]
        # A function that returns a closure cannot return another one for each mutant.
        self.is_alone = not function or "-> impl" in source[: find_body(source)]
        identity = (self.file, source, self.begin - begin, self.end - begin, self.replacement)
        self.key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def find_span(span, starts):
    return tuple(starts[span[at]["line"] - 1] + span[at]["column"] - 1 for at in ("start", "end"))


def find_body(source):
    """The place of the brace that opens the body of a function."""
    depth, at = 0, re.search(r"\bfn \w+", source).end()
    while source[at] != "{" or depth:
        depth += (source[at] in "([") - (source[at] in ")]")
        at += 1
    return at


def list_mutants(program):
    command = [program, "mutants", "--list", "--json"]
    command += [arg for files in FILES for arg in ("--file", files)]
    listed = json.loads(subprocess.check_output(command, cwd=ROOT))
    texts = {file: (ROOT / file).read_text() for file in {m["file"] for m in listed}}
    starts = {}
    for file, text in texts.items():
        lengths = (len(line) for line in text.splitlines(keepends=True))
        starts[file] = [0]
        for length in lengths:
            starts[file].append(starts[file][-1] + length)
    return [
        Mutant(number, m, texts[m["file"]], starts[m["file"]])
        for number, m in enumerate(listed, 1)
    ]


def write_tree(tree, mutants):
    """Writes the tree, with every mutant as an arm of a `match` in its function."""
    subprocess.check_call(["tests/mutants/tree.sh", tree], cwd=ROOT)
    functions = collections.defaultdict(lambda: collections.defaultdict(list))
    for mutant in mutants:
        functions[mutant.file][mutant.function].append(mutant)
    for file, of_file in functions.items():
        text, out, at = (ROOT / file).read_text(), [], 0
        for (begin, end), arms in sorted(of_file.items()):
            body = begin + find_body(text[begin:end])
            out.append(text[at:body] + "{ match crate::mutant() {\n")
            for m in arms:
                mutated = text[body : m.begin] + m.replacement + text[m.end : end]
                out.append(f"/* mutant {m.number} */ {m.number} => {mutated}\n/* end */\n")
            out.append(f"_ => {text[body:end]}\n}} }}")
            at = end
        (tree / file).write_text("".join(out) + text[at:])
    with open(tree / "src/lib.rs", "a") as lib:
        lib.write(CHOICE)


def build(tree):
    """Builds the test program: its path, and the numbers of mutants that do not compile."""
    command = "cargo test --locked --lib --no-run --message-format=json".split()
    out = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    messages = [json.loads(line) for line in out.stdout.splitlines() if line.startswith(b"{")]
    program = [m["executable"] for m in messages if m.get("executable")]
    if out.returncode == 0:
        return program[-1], set()
    errors = [m["message"] for m in messages if m.get("reason") == "compiler-message"]
    errors = [e for e in errors if e["level"] == "error"]
    spans = [span for e in errors for span in e["spans"] if span["is_primary"]]
    broken = {find_arm(tree / span["file_name"], span["line_start"]) for span in spans} - {None}
    if not broken:
        sys.exit("".join(e["rendered"] for e in errors))
    return None, broken


def find_arm(path, line):
    """The mutant in whose arm a line is."""
    for text in reversed(path.read_text().splitlines()[:line]):
        if text.startswith("/* end */"):
            return None
        if found := re.match(r"/\* mutant (\d+) \*/", text):
            return int(found[1])
    return None


class Results:
    """What became of mutants, by their keys; what survived is not remembered."""

    def __init__(self):
        self.path = WORK / "results.json"
        self.known = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.survivors = []

    def add(self, mutant, result):
        if result == "survived":
            self.survivors.append(mutant.name)
            print(f"survived: {mutant.name}", flush=True)
            return
        self.known[mutant.key] = result
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps(self.known, indent=0))
        partial.replace(self.path)


def run_tests(program, tree, number):
    """Runs the tests with a mutant; 0 is none."""
    environment = {**os.environ, "MUTANT": str(number), "RUST_BACKTRACE": "0"}
    command = ["tests/mutants/stages.sh", program]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        command, cwd=tree, env=environment, start_new_session=True, **quiet
    ) as tests:
        try:
            code = tests.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(tests.pid, signal.SIGKILL)
            return "timeout"
        except BaseException:
            os.killpg(tests.pid, signal.SIGKILL)
            raise
    if code in (126, 127):
        sys.exit(f"{program} cannot be run")
    return "caught" if code else "survived"


def test_together(mutants, results):
    tree = WORK / "together/tree"
    for _ in range(BUILDS_MAX):
        print(f"building one program of {len(mutants)} mutants", flush=True)
        write_tree(tree, mutants)
        program, broken = build(tree)
        for mutant in (m for m in mutants if m.number in broken):
            results.add(mutant, "unviable")
        mutants = [m for m in mutants if m.number not in broken]
        if program:
            break
    else:
        sys.exit("the mutants do not compile together")
    if run_tests(program, tree, 0) != "survived":
        sys.exit("the tests fail without a mutant: run `make unit`")
    for done, mutant in enumerate(mutants, 1):
        results.add(mutant, run_tests(program, tree, mutant.number))
        if done % 100 == 0:
            print(f"{done} of {len(mutants)}", flush=True)


def test_alone(cargo_mutants, mutants, results):
    """Leaves mutants to cargo-mutants, which builds each."""
    tree, out = WORK / "alone/tree", WORK / "alone"
    subprocess.check_call(["tests/mutants/tree.sh", tree], cwd=ROOT)
    names = [arg for m in mutants for arg in ("--re", f"^{re.escape(m.name)}$")]
    # cargo-mutants tests fields of structs whatever --re says.
    names += [arg for file in {m.file for m in mutants} for arg in ("--file", file)]
    command = [cargo_mutants, "mutants", "--dir", tree, "--in-place", "--output", out, *names]
    command += ["--baseline=skip", f"--timeout={TIMEOUT_SECONDS}"]
    command += ["--cargo-arg=--locked", "--cargo-arg=--lib"]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code not in (0, 2, 3):
        sys.exit(f"cargo-mutants ended with code {code}")
    for file, result in [("missed", "survived"), ("unviable", "unviable"), ("caught", "caught")]:
        names = (out / f"mutants.out/{file}.txt").read_text().splitlines()
        for mutant in (m for m in mutants if m.name in names):
            results.add(mutant, result)


def main():
    # What ends this program ends the tests that it runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = Results()
    part, parts = (int(number) for number in os.environ.get("SHARD", "0/1").split("/"))
    everything = list_mutants(sys.argv[1])
    asked = [m for m in everything if os.environ.get("ONLY", "") in m.name]
    asked = [m for m in asked if m.number % parts == part]
    untested = [m for m in asked if m.key not in results.known]
    print(f"{len(asked)} mutants, {len(asked) - len(untested)} of them tested already", flush=True)
    together = [m for m in untested if not m.is_alone]
    alone = [m for m in untested if m.is_alone]
    if together:
        test_together(together, results)
    if alone:
        test_alone(sys.argv[1], alone, results)
    counts = collections.Counter(results.known.get(m.key, "survived") for m in asked)
    print(", ".join(f"{count} {result}" for result, count in counts.most_common()))
    if results.survivors:
        sys.exit("these mutants survive:\n" + "\n".join(sorted(results.survivors)))


if __name__ == "__main__":
    main()
