#!/usr/bin/env bash
# Runs a program on a machine of its own: `enter.sh PROGRAM ARGUMENT…`, as the runner that cargo starts the test with.
#   - a network namespace with the node's address, so that fixed addresses are free and nothing of the machine's network is touched
#   - a PID namespace: whatever ends this script or the program, SIGKILL too, ends containerd, every pod and all else at once
#   - a mount namespace with /run, /var/lib, /var/log and target/tmp of its own: mounts go with it, and files are in one directory
# Left is that directory and the pods' cgroups, which have its name: removed at the end, or by the next run after a SIGKILL.
set -euo pipefail

node=10.250.0.1
cgroups=/sys/fs/cgroup

# Every directory of a cgroup, in every hierarchy there is, the deepest first.
forget() {
  find "$cgroups" -mindepth 1 -depth -type d -path "*/$1*" -exec rmdir {} \; 2>/dev/null || true
  rm -rf "${top:?}/target/e2e/$1"
}

sweep() {
  local old
  for old in "$top"/target/e2e/rollmodel-e2e-*; do
    if [ -d "$old" ] && [ ! -d "/proc/${old##*-}" ]; then forget "$(basename "$old")"; fi
  done
}

make_cgroups() {
  local hierarchy file
  if [ -e $cgroups/cgroup.controllers ]; then mkdir "$cgroups/$name"; return; fi
  for hierarchy in $cgroups/*/; do
    mkdir "$hierarchy$name" 2>/dev/null || continue
    for file in cpuset.cpus cpuset.mems; do   # where a new one has none
      if [ -e "$hierarchy$file" ]; then cat "$hierarchy$file" >"$hierarchy$name/$file"; fi
    done
  done
}

make_machine() {
  mount --bind "$files/lib" /var/lib
  mount --bind "$files/log" /var/log
  mount --bind "$files/tmp" "$top/target/tmp"
  mount -t tmpfs tmpfs /run
  ip link set lo up
  # Without a default route no address of a Service can be reached; it leads nowhere.
  ip link add node0 type veth peer name node0p
  ip addr add $node/24 dev node0
  ip link set node0 up
  ip link set node0p up
  ip route add default via 10.250.0.254
}

if [ "${ROLLMODEL_E2E_INSIDE:-}" = yes ]; then
  top=$ROLLMODEL_E2E_TOP files=$ROLLMODEL_E2E_FILES
  make_machine
  "$@" &
  code=0; wait $! || code=$?   # this is the namespace's first process, which ends all others by its own end
  exit $code
fi

if [ "$(id -u)" != 0 ]; then
  echo "tests/e2e runs a real kubelet and containerd in namespaces of their own, and needs root for them: run 'sudo make e2e', or leave it to a machine where you may." >&2
  exit 1
fi
top=$(cd "$(dirname "$0")/../.." && pwd)
sweep
name=rollmodel-e2e-$$
files=$top/target/e2e/$name
mkdir -p "$files"/{lib,log,tmp} "$top/target/tmp"
make_cgroups
# ROLLMODEL_E2E_KEEP=1 keeps the logs until the next run.
if [ -z "${ROLLMODEL_E2E_KEEP:-}" ]; then trap 'forget "$name"' EXIT; fi
export ROLLMODEL_E2E_INSIDE=yes ROLLMODEL_E2E_NODE=$node ROLLMODEL_E2E_CGROUP=$name ROLLMODEL_E2E_TOP=$top ROLLMODEL_E2E_FILES=$files
setpriv --pdeathsig KILL -- unshare --net --mount --ipc --uts --pid --fork --kill-child --mount-proc --propagation private -- "$0" "$@"
