#!/usr/bin/env bash
# Writes the tree in which cargo-mutants works: tree.sh DIRECTORY.
#
# The tree is one crate: the API, the planner, and the tests in memory as its unit tests. A mutant
# then costs the incremental build and the link of one program, instead of three libraries and six
# programs of the whole repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$1

mkdir -p "$tree/src/run" "$tree/tests" "$tree/.cargo"
for path in Cargo.lock src/api src/plan proptest-regressions tests/planner tests/simulator \
  tests/scenarios tests/histories tests/mutants .cargo/mutants.toml; do
  rm -rf "${tree:?}/$path"
  cp -r "$path" "$tree/$path"
done
# A module with a folder of its own is read by its path, and says where the folder is.
for folder in "$tree"/tests/planner/*/; do
  name=$(basename "$folder")
  sed -i "s|^mod \(.*\);|#[path = \"$name/\1.rs\"]\nmod \1;|" "$tree/tests/planner/$name.rs"
done
cat >"$tree/.cargo/config.toml" <<'TOML'
[build]
target-dir = "../../build"
[target.'cfg(unix)']
runner = "tests/mutants/stages.sh"
TOML

# The manifest without programs and examples, and without lints: an unused variable in a mutant must
# not stop its build.
{
  awk '/^\[/ { keep = /^\[(package|lib|dependencies|dev-dependencies|profile)/ } keep' Cargo.toml |
    sed '/^default-run/d; s/^edition.*/&\nautobins = false\nautotests = false/'
  printf '\n[profile.test]\ndebug = 0\n'
} >"$tree/Cargo.toml"

# The scenarios need the two types of `rollmodel plan`, without its input and output.
{
  printf 'use crate::plan::{self, Observed, Plan, registry::*};\n'
  printf 'use jiff::Timestamp;\nuse serde::{Deserialize, Serialize};\n\n'
  sed -n '/^\/\/\/ A case\.$/,/^\/\/\/ Why a case/p' src/run/case.rs | sed '$d'
} >"$tree/src/run/case.rs"

# Lists the modules of a test program as modules of the crate.
list_modules() {
  sed -n "s|^#\[path = \"\.\./\(.*\)\"\]|#[cfg(test)] #[path = \"../tests/\1\"]|p; t
    s|^mod \(.*\);|#[cfg(test)] #[path = \"../tests/$1/\1.rs\"] mod \1;|p" "tests/$1/main.rs" |
    sed '/^#\[cfg(test)\] #\[path = "[^"]*"\]$/ { N; s|\n.*] mod| mod| }'
}
{
  printf '#![allow(warnings)]\nextern crate self as rollmodel;\n'
  printf 'pub mod api;\npub mod plan;\npub mod run { pub mod case; }\n'
  list_modules planner
  list_modules scenarios
  grep -vE '^(//!|#!\[|mod )' tests/scenarios/main.rs
} >"$tree/src/lib.rs"
