#!/usr/bin/env bash
# Finds the servers and clients that artifact tests run against, or installs them from what is pinned beside this script, and prints
# their directory: `build.sh GROUP…` prints one line a group, in the order asked; `build.sh all` every group's.
# A group is installed once, into a cache outside the tree, keyed by its pin files, this script and the toolchain's version.
set -euo pipefail
cd "$(dirname "$0")"

groups=(s3 azure gcs debian hub signing kserve moto mlflow)
cache=${ROLLMODEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollmodel}/artifacts

# need COMMAND WHAT: says what is missing, and for what.
need() { command -v "$1" >/dev/null || { echo "tests/artifacts needs $2 on the PATH for its $group servers." >&2; exit 1; }; }

# go_binary PACKAGE NAME
go_binary() {
  (cd "$group" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$dir/$2" "$1") >&2
}

# A venv of exactly what is in requirements.txt, each file with its hash.
venv() {
  "$python" -m venv "$dir"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$dir/bin/pip" install --quiet --no-input --no-deps --require-hashes --only-binary :all: -r "$group/requirements.txt" >&2
}

# The packages in packages.txt as the mirror has them now, unpacked and not installed. Their libraries are the machine's.
debian() {
  local lists=(/var/lib/apt/lists/*Packages*) names deb
  if [ ! -e "${lists[0]}" ]; then apt-get -qq update >&2; fi
  mapfile -t names < <(grep -v '^#' debian/packages.txt)
  mkdir "$dir/debs"
  download() { (cd "$dir/debs" && apt-get -qq -o APT::Sandbox::User=root download "${names[@]}") >&2; }
  download || { apt-get -qq update >&2 && download; }   # lists may be older than the mirror
  for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir"; basename "$deb"; done >"$dir/versions.txt"
  rm -r "$dir/debs" "$dir/usr/share"
  if ldd "$dir"/usr/*bin/* | grep 'not found' >&2; then echo "tests/artifacts: install the libraries above (apt-get install libpcre2-8-0 libssl3 zlib1g libcrypt1)." >&2; exit 1; fi
}

install() {
  case $group in
    s3) go_binary github.com/versity/versitygw/cmd/versitygw versitygw ;;
    gcs) go_binary github.com/fsouza/fake-gcs-server fake-gcs-server ;;
    azure) cp azure/package.json azure/package-lock.json "$dir" && (cd "$dir" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ;;
    debian) debian ;;
    hub | signing | kserve | moto | mlflow) venv ;;
  esac
}

# The toolchain whose version belongs to the key.
toolchain() {
  case $group in
    s3 | gcs) need go "Go 1.26" && go version ;;
    azure) need npm "Node 20 with npm" && node --version ;;
    debian) need apt-get "Debian's apt-get and dpkg" && dpkg --print-architecture ;;
    hub | signing | kserve | moto | mlflow) need "$python" "Python 3.11 with venv" && "$python" --version ;;
  esac
}

if [ $# = 0 ]; then echo "usage: build.sh GROUP… | all, where a group is one of: ${groups[*]}" >&2; exit 2; fi
if [ "$*" = all ]; then set -- "${groups[@]}"; fi
python=python3

for group in "$@"; do
  [[ " ${groups[*]} " == *" $group "* ]] || { echo "build.sh: there is no group '$group', only: ${groups[*]}" >&2; exit 2; }
  tool=$(toolchain)
  key=$({ cat "$group"/* build.sh; echo "$tool"; } | sha256sum | cut -c1-16)
  dir=$cache/$group-$key
  if [ ! -f "$dir/.complete" ]; then
    mkdir -p "$cache"
    exec 9>"$dir.lock"
    flock 9   # two installs at once would do the work twice
    if [ ! -f "$dir/.complete" ]; then
      echo "installing the $group servers and clients of tests/artifacts …" >&2
      began=$SECONDS
      rm -rf "$dir"; mkdir "$dir"   # whole or not at all
      install
      touch "$dir/.complete"
      echo "$group took $((SECONDS - began)) s" >&2
    fi
    exec 9>&-
  fi
  echo "$dir"
done
