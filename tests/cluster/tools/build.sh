#!/usr/bin/env bash
# Finds the tools of the test cluster, or builds them from their pinned Go modules, and prints the directory that holds them.
#   1. $KUBEBUILDER_ASSETS, if it holds all of them
#   2. a cache outside the tree, keyed by the module files, this script and the Go version
#   3. go build: about ten minutes on two cores, one line of progress a binary on stderr
set -euo pipefail
cd "$(dirname "$0")"

tools=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok helm)

complete() { for tool in "${tools[@]}"; do [ -x "$1/$tool" ] || return 1; done; [ -f "$1/stages.yaml" ]; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && complete "$KUBEBUILDER_ASSETS"; then
  echo "$KUBEBUILDER_ASSETS"; exit 0
fi
if ! command -v go >/dev/null; then
  echo "tests/cluster needs Go 1.26 to build etcd, Kubernetes, kwok and helm: install it, or point KUBEBUILDER_ASSETS at a directory that holds ${tools[*]} and kwok's stages.yaml." >&2
  exit 1
fi

key=$({ cat ./*/go.mod ./*/go.sum build.sh; go version; } | sha256sum | cut -c1-16)
cache=${ROLLMODEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollmodel}/tools
dir=$cache/$key
if complete "$dir"; then echo "$dir"; exit 0; fi

mkdir -p "$dir"
exec 9>"$cache/$key.lock"
flock 9   # two builds at once would do the work twice

kubernetes=v1.37.2
version="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
count=0

# build TOOL MODULE PACKAGE [LDFLAGS]: a binary appears whole or not at all.
build() {
  count=$((count + 1))
  if [ -x "$dir/$1" ]; then return; fi
  echo "[$count/${#tools[@]}] building $1 …" >&2
  local began=$SECONDS
  (cd "$2" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go build -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$dir/.$1" "$3")
  mv "$dir/.$1" "$dir/$1"
  echo "[$count/${#tools[@]}] $1 took $((SECONDS - began)) s" >&2
}

build kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver "$version"
build kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager "$version"
build kube-scheduler kubernetes k8s.io/kubernetes/cmd/kube-scheduler "$version"
build kubectl kubernetes k8s.io/kubernetes/cmd/kubectl "$version"
build etcd etcd go.etcd.io/etcd/server/v3
build kwok kwok sigs.k8s.io/kwok/cmd/kwok
build helm helm helm.sh/helm/v4/cmd/helm

# kwok's own stages for nodes and for pods that start at once, as its module ships them.
source=$(cd kwok && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
for file in "$source"/kustomize/stage/{node/fast,node/heartbeat-with-lease,pod/fast}/*.yaml; do
  [ "$(basename "$file")" = kustomization.yaml ] || { echo ---; cat "$file"; }
done >"$dir/.stages.yaml"
mv "$dir/.stages.yaml" "$dir/stages.yaml"
echo "$dir"
