#!/usr/bin/env bash
# The story of Rollmodel, told with plain kubectl. `make demo` runs it on a cluster of its own; `make demo CLUSTER=current` on the
# cluster that kubectl points at, in a namespace of its own that is removed afterwards, and asks first.
#
# Each step prints the command that it runs and what came of it, waits by watching, and fails if anything is not as told.
set -euo pipefail
cd "$(dirname "$0")/../.."

where=${1:-own}
namespace=rollmodel-demo
patience=${DEMO_PATIENCE:-180}          # seconds that one step may take
rollmodel=${CARGO_TARGET_DIR:-target}/debug/rollmodel
# On a real cluster: any image with a shell and python3. It plays the model server of every version.
image=${DEMO_IMAGE:-python:3.12-alpine}

bold='' dim='' red='' green='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; fi

# --- telling -----------------------------------------------------------------------------------------------------------------

step=0
chapter() { step=$((step + 1)); printf '\n%s%d. %s%s\n' "$bold" "$step" "$1" "$plain"; }
say() { printf '%s   %s%s\n' "$dim" "$1" "$plain"; }
show() { printf '\n%s$ %s%s\n' "$green" "$*" "$plain"; }
# run <command>: shows it as one would type it, and runs it.
run() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:,=@%+-]+$ ]] && line+=" $word" || line+=" '$word'"
  done
  show "${line# }"
  "$@"
}

fail() {
  printf '\n%sNot as told: %s%s\n' "$red" "$1" "$plain" >&2
  kubectl get mdep,mv,mro,rreq,deploy,pods >&2 2>&1 || true
  kubectl get mdep fraud -o jsonpath='{.status.message}{"\n"}' >&2 2>&1 || true
  [[ ! -s $dir/operator.log ]] || { echo "--- the end of the operator's log" >&2; tail -n 25 "$dir/operator.log" >&2; }
  exit 1
}

# apply <what it is>: shows the objects on standard input, and applies them.
apply() {
  local yaml; yaml=$(cat)
  show "kubectl apply -f - <<EOF"
  printf '%s\nEOF\n' "$yaml"
  kubectl apply -f - <<<"$yaml"
}

# follow <state> <desired> <serving>: shows what kubectl sees of the ModelDeployment until it is in that state.
follow() {
  local lines line words seen='' watch
  show "kubectl get mdep fraud --watch"
  exec {lines}< <(exec kubectl get mdep fraud --watch 2>&1)
  watch=$!
  while IFS= read -r -t "$patience" line <&"$lines"; do
    read -r -a words <<<"$line"
    # NAME STATE MODEL DESIRED SERVING READY AGE; before its first status, and when only the age changed, there is no news.
    [[ ${#words[@]} -eq 7 && ${words[*]:0:6} != "$seen" ]] || continue
    seen=${words[*]:0:6}
    printf '%-8s%-12s%-8s%-10s%-10s%-8s%s\n' "${words[@]}"
    if [[ ${words[*]:1:4} == "$1 fraud $2 $3" ]]; then
      kill "$watch" 2>/dev/null || true
      exec {lines}<&-
      return
    fi
  done
  kill "$watch" 2>/dev/null || true
  fail "the ModelDeployment should be $1 with version $3 serving"
}

# status <jsonpath>: one field of the ModelDeployment's status.
status() { kubectl get mdep fraud -o jsonpath="{.status.$1}"; }

# expect <what> <is> <should be>
expect() { [[ $2 == "$3" ]] || fail "$1 is '$2' and should be '$3'"; }

sentence() { show "kubectl get mdep fraud -o jsonpath='{.status.message}'"; printf '%s\n' "$(status message)"; }

# ask <verb> <reason>: a person's request, answered.
ask() {
  local request
  show "kubectl create -f - <<EOF"
  cat <<EOF | tee "$dir/request.yaml"
apiVersion: rollmodel.dev/v1alpha1
kind: RolloutRequest
metadata: {generateName: fraud-}
spec: {modelDeployment: fraud, verb: $1, ifDecision: "$(status decision)", reason: "$2", requestedBy: "$me"}
EOF
  echo EOF
  request=$(kubectl create -f "$dir/request.yaml" -o name)
  kubectl wait "$request" --for=condition=Handled --timeout="${patience}s" >/dev/null || fail "the request was not answered"
  run kubectl get rreq "${request#*/}"
  expect "the answer" "$(kubectl get "$request" -o jsonpath='{.status.result}')" Done
}

# --- the cast ----------------------------------------------------------------------------------------------------------------

# version <number> <auc> [lever]: the nodes of the test cluster are fake, and the end of an image's tag says how its pods fare there.
version() {
  local server=registry.example.com/fraud-server:$1${3:-}
  [[ $where == own ]] || server=$image
  cat <<EOF
apiVersion: rollmodel.dev/v1alpha1
kind: ModelVersion
metadata: {name: fraud-$1}
spec:
  model: fraud
  version: "$1"
  image: $server
  metrics: [{name: auc, value: $2}]
EOF
}

# deployment <version>: on a real cluster a small server plays the model's, and fails as version 8.
deployment() {
  cat <<EOF
apiVersion: rollmodel.dev/v1alpha1
kind: ModelDeployment
metadata: {name: fraud}
spec:
  model: fraud
  version: "$1"
  replicas: 3
EOF
  if [[ $where == current ]]; then
    cat <<'EOF'
  protocol: HTTP
  template:
    spec:
      containers:
      - name: model
        command:
        - sh
        - -c
        - |
          if [ "$MODEL_VERSION" = 8 ]; then echo "model file is corrupt: bad magic number" >&2; exit 1; fi
          touch /tmp/ping && exec python3 -m http.server 8080 --directory /tmp
EOF
  fi
}

name_version() { run kubectl patch mdep fraud --type merge -p "{\"spec\":{\"version\":\"$1\"}}"; }

# --- the stage ---------------------------------------------------------------------------------------------------------------

dir=$(mktemp -d)
operator='' made_namespace='' made_crds=''

leave() {
  local code=$?
  trap - EXIT INT TERM
  if [[ -n $operator ]]; then kill "$operator" 2>/dev/null || true; wait "$operator" 2>/dev/null || true; fi
  if [[ $where == current && -n $made_namespace ]]; then
    printf '\nRemoving the namespace %s%s …\n' "$namespace" "${made_crds:+ and the CRDs that were installed for this}"
    kubectl delete namespace "$namespace" --timeout=120s >/dev/null || code=1
    # Someone else's objects of these kinds, made meanwhile, keep the CRDs.
    if [[ -n $made_crds && -z $(kubectl get mdep,mv,mro,rreq --all-namespaces -o name 2>/dev/null) ]]; then
      kubectl delete -f crds/ --timeout=120s >/dev/null || code=1
    fi
  fi
  rm -rf "$dir"
  exit "$code"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ $where == current ]]; then
  command -v kubectl >/dev/null || { echo "make demo CLUSTER=current needs kubectl; make demo brings its own" >&2; exit 2; }
  # A copy, so that neither a changed context nor the namespace set below reaches the file that others use.
  (umask 077; kubectl config view --raw --minify --flatten >"$dir/kubeconfig")
  server=$(kubectl --kubeconfig "$dir/kubeconfig" config view -o jsonpath='{.clusters[0].cluster.server}')
  [[ -n $server ]] || { echo "kubectl points at no cluster: set KUBECONFIG or a context, or run make demo without CLUSTER" >&2; exit 2; }
  echo "This tells the story on the cluster that kubectl points at:"
  echo "  context  $(kubectl --kubeconfig "$dir/kubeconfig" config current-context)"
  echo "  server   $server"
  echo "It makes the namespace $namespace and removes it again, installs the CRDs of rollmodel.dev if they are not there, and runs the"
  echo "operator as a process here, for that namespace only. The pods run the image $image."
  read -r -p "Go on? [y/N] " answer || answer=
  [[ $answer == [yY] || $answer == [yY]es ]] || { echo "Nothing was done."; exit 1; }
else
  [[ -n ${KUBECONFIG:-} ]] || { echo "run make demo: it starts the cluster that this story is told on" >&2; exit 2; }
  (umask 077; kubectl config view --raw --minify --flatten >"$dir/kubeconfig")
fi
export KUBECONFIG=$dir/kubeconfig
kubectl config set-context --current --namespace="$namespace" >/dev/null
if kubectl get namespace "$namespace" >/dev/null 2>&1; then
  echo "The namespace $namespace is there already, and is left alone: delete it, or wait until it is gone, and try again." >&2
  exit 1
fi
me=$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')

# --- the story ---------------------------------------------------------------------------------------------------------------

chapter "Install: six kinds, and an operator that is one small process."
kubectl get crd modeldeployments.rollmodel.dev >/dev/null 2>&1 || made_crds=yes
if [[ $where == own || -n $made_crds ]]; then run kubectl apply -f crds/; fi
kubectl wait --for=condition=Established --timeout="${patience}s" -f crds/ >/dev/null
run kubectl create namespace "$namespace"
made_namespace=yes
flags=(--namespace "$namespace" --lease-namespace "$namespace" --admin-address 127.0.0.1:0)
if [[ $where == own ]]; then
  run kubectl apply -f deploy/admission.yaml
  flags+=(--requesters-verified)
elif [[ -n $(kubectl get deployments --all-namespaces -l app.kubernetes.io/name=rollmodel -o name) ]]; then
  say "This cluster has a Rollmodel operator already; it tells the story."
  flags=()
fi
if [[ ${#flags[@]} -gt 0 ]]; then
  show "$rollmodel ${flags[*]} &"
  "$rollmodel" "${flags[@]}" >"$dir/operator.log" 2>&1 &
  operator=$!
fi

chapter "A data scientist registers versions of the model fraud. Each is an immutable record."
{ version 6 0.912; echo ---; version 7 0.931; } | apply
run kubectl wait mv --all --for=condition=Ready --timeout="${patience}s"
run kubectl get mv

chapter "A platform engineer says what should serve: version 6."
deployment 6 | apply
follow Serving 6 6
run kubectl get deployment,service fraud

chapter "Forward to version 7, pod by pod. The decision is recorded before anything is done."
name_version 7
follow Serving 7 7
run kubectl get mro
expect "the version that serves" "$(kubectl get deployment fraud -o jsonpath='{.spec.template.metadata.labels.rollmodel\.dev/version}')" 7

chapter "Version 8 is bad: its server crashes. Version 7 goes on serving, and the rollout goes back by itself."
version 8 0.940 -behave-crash-loop | apply
name_version 8
follow RolledBack 8 7
sentence
expect "what caused rollout 4" "$(kubectl get mro fraud-4 -o jsonpath='{.spec.trigger}')" Failed
say "The spec still says 8, as in Git it would. Nobody fights: version 8 is on hold until the spec names something else."

chapter "Version 9 starts well, but a person sees that it is slow, and goes back. Who, when and why is on record."
version 9 0.938 | apply
name_version 9
follow Serving 9 9
ask Undo "latency has doubled"
follow Held 9 7
sentence

chapter "A false alarm: it was the network. Retry lifts the rejection."
ask Retry "it was the network"
follow Serving 9 9

chapter "Plain kubectl works too: its undo is understood, carried out and recorded."
run kubectl rollout undo deployment/fraud
follow Held 9 7
run kubectl rollout history deployment/fraud

chapter "What served, when, on whose word, and why: eight rollouts, none of them lost."
run kubectl get mro --sort-by=.spec.number
run kubectl get mdep,mv
told=$(kubectl get mro --sort-by=.spec.number -o jsonpath='{range .items[*]}{.spec.number}:{.spec.version}:{.spec.trigger} {end}')
expect "the history" "$told" "1:6:SpecChanged 2:7:SpecChanged 3:8:SpecChanged 4:7:Failed 5:9:SpecChanged 6:7:Undo 7:9:Retry 8:7:Undo "
expect "who asked for rollout 6" "$(kubectl get mro fraud-6 -o jsonpath='{.spec.decidedBy.name}')" "$me"
kubectl wait mdep/fraud --for=condition=Ready --timeout="${patience}s" >/dev/null || fail "what serves should be ready"

printf '\n%sThat is the story%s of versions, told with fake nodes. Next: README.md, “On your own cluster”.\n' "$bold" "$plain"
