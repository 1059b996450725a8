#!/usr/bin/env bash
# Runs the tests of the tree (tree.sh), those first that are likely to fail soon, and stops at the
# first stage that fails: stages.sh TEST_PROGRAM. cargo-mutants calls it through cargo.
set -euo pipefail
test=$1
last=${STAGES:-3}

# A mutant that loops fills the memory of the machine otherwise.
ulimit -v 8000000
export PROPTEST_CASES=${PROPTEST_CASES:-64}

# 1. Scenarios, and unit tests of the files that are mutated.
"$test" --quiet every_scenario_is plan::facts plan::decide
# 2. Stories, other unit tests, and kept histories.
"$test" --quiet --skip api:: --skip plan::facts --skip plan::decide --skip every_scenario \
  --skip controller_tests:: --skip histories:: --skip properties:: --skip prove:: --skip purity::
"$test" --quiet histories::every_kept
# 3. Random histories.
[ "$last" -lt 3 ] || "$test" --quiet histories::random properties::
# 4. The exhaustive search.
[ "$last" -lt 4 ] || "$test" --quiet prove::short_histories
