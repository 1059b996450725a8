#!/usr/bin/env bash
# Finds what a real node is made of, or installs it from what is pinned beside this script, and prints its directory:
# `build.sh GROUP…` prints one line a group, in the order asked; `build.sh all` every group's.
# A group is made once, into a cache outside the tree, keyed by its files, this script, the toolchain's version and the groups it is made of.
#   kubernetes  kubelet and kube-proxy
#   debian      containerd, runc, CNI plugins, nft and conntrack
#   pause       the process of a pod's sandbox
#   serving     a venv that trains models, and that the servers' images are made of
#   images      pause.tar and serving.tar, each of which `ctr images import` takes
set -euo pipefail
cd "$(dirname "$0")"

groups=(kubernetes debian pause serving images)
cache=${ROLLMODEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollmodel}/e2e
kubernetes=v1.37.2

# need COMMAND WHAT: says what is missing, and for what.
need() { command -v "$1" >/dev/null || { echo "tests/e2e needs $2 on the PATH for its $group." >&2; exit 1; }; }

# go_binary PACKAGE NAME [LDFLAGS]
go_binary() {
  (cd "$group" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go build -trimpath -buildvcs=false -ldflags "-s -w ${3:-}" -o "$dir/$2" "$1") >&2
}

kubernetes() {
  local version=k8s.io/component-base/version
  version="-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=37"
  go_binary k8s.io/kubernetes/cmd/kubelet kubelet "$version"
  go_binary k8s.io/kubernetes/cmd/kube-proxy kube-proxy "$version"
}

# The packages in packages.txt as the mirror has them now, unpacked and not installed; what they need beside is the machine's.
debian() {
  local lists=(/var/lib/apt/lists/*Packages*) names deb
  if [ ! -e "${lists[0]}" ]; then apt-get -qq update >&2; fi
  mapfile -t names < <(grep -v '^#' debian/packages.txt)
  mkdir "$dir/debs"
  download() { (cd "$dir/debs" && apt-get -qq -o APT::Sandbox::User=root download "${names[@]}") >&2; }
  download || { apt-get -qq update >&2 && download; }   # lists may be older than the mirror
  for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir"; basename "$deb"; done >"$dir/versions.txt"
  rm -r "$dir/debs" "$dir/usr/share"
}

# A venv of exactly what is in requirements.txt, each file with its hash.
serving() {
  python3 -m venv "$dir"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$dir/bin/pip" install --quiet --no-input --no-deps --require-hashes --only-binary :all: -r serving/requirements.txt >&2
}

images() {
  "$(of serving)/bin/python" images/build.py servers "$(of pause)/pause" "$dir" >&2
}

# of GROUP: its directory, from which another group is made.
of() { "$PWD/build.sh" "$1"; }

# The toolchain whose version belongs to the key.
toolchain() {
  case $group in
    kubernetes | pause) need go "Go 1.26" && go version ;;
    debian) need apt-get "Debian's apt-get and dpkg" && dpkg --print-architecture ;;
    serving) need python3 "Python 3.11 with venv" && python3 --version ;;
    images) of serving && of pause ;;
  esac
}

if [ $# = 0 ]; then echo "usage: build.sh GROUP… | all, where a group is one of: ${groups[*]}" >&2; exit 2; fi
if [ "$*" = all ]; then set -- "${groups[@]}"; fi

for group in "$@"; do
  [[ " ${groups[*]} " == *" $group "* ]] || { echo "build.sh: there is no group '$group', only: ${groups[*]}" >&2; exit 2; }
  tool=$(toolchain)
  key=$({ find "$group" -type f -print0 | sort -z | xargs -0 cat build.sh; echo "$tool"; } | sha256sum | cut -c1-16)
  dir=$cache/$group-$key
  if [ ! -f "$dir/.complete" ]; then
    mkdir -p "$cache"
    exec 9>"$dir.lock"
    flock 9   # two installs at once would do the work twice
    if [ ! -f "$dir/.complete" ]; then
      echo "making the $group of tests/e2e …" >&2
      began=$SECONDS
      rm -rf "$dir"; mkdir "$dir"   # whole or not at all
      case $group in
        pause) go_binary . pause ;;
        *) "$group" ;;
      esac
      touch "$dir/.complete"
      echo "$group took $((SECONDS - began)) s" >&2
    fi
    exec 9>&-
  fi
  echo "$dir"
done
