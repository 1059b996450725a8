#!/usr/bin/env bash
# Finding: a Kubernetes Deployment never rolls out its new template, and reports no problem, if it is
# scaled to exactly the size that its old ReplicaSet has at that moment of a rollout.
#
# With maxSurge 0, one sync of the Deployment controller shrinks the old ReplicaSet, and the next one
# grows the new ReplicaSet. If a user scales the Deployment to the smaller size between the two, every
# later sync takes it for a scaling event (isScalingEvent in sync.go), because the annotation
# desired-replicas of the only active ReplicaSet differs from spec.replicas. scale() finds that
# ReplicaSet at the wanted size and leaves the annotation as it is. No sync gets as far as the rollout
# or its progress deadline, until somebody scales to another size.
# The real controller runs on the in-memory API of client-go. Simulated are only the user, UIDs, pods
# (available at once), and the refusal of outdated writes. Needs Go 1.26, and minutes the first time.
set -euo pipefail
version=1.37.2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT && cd "$folder"
export GOFLAGS=-mod=mod GOWORK=off
printf 'module finding\n\ngo 1.26.0\n' >go.mod
# Kubernetes replaces its own libraries with local folders. Outside, each has a published version.
gomod=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
sed -n "s|^\t\(k8s.io/[a-z-]*\) => ./staging.*|-replace=\1=\1@v0.${version#1.}|p" "$gomod" |
  xargs go mod edit "-require=k8s.io/kubernetes@v$version"
cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"sigs.k8s.io/yaml"
)

const web = `{metadata: {name: web, namespace: ns, uid: web}, spec: {replicas: 2, revisionHistoryLimit: 2,
  progressDeadlineSeconds: 1, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}},
  selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: old}]}}}}`

var client = fake.NewClientset()
var store, cache = client.Tracker(), informers.NewSharedInformerFactory(client, 0)
var deployments, sets = apps.SchemeGroupVersion.WithResource("deployments"), apps.SchemeGroupVersion.WithResource("replicasets")

func read() *apps.Deployment {
	object, _ := store.Get(deployments, "ns", "web")
	return object.(*apps.Deployment).DeepCopy()
}
func write(replicas int32, image string) { // As a user. The API server raises the generation.
	d := read()
	d.Generation++
	d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image = &replicas, image
	store.Update(deployments, d, "ns")
}
func describe() string { // Each ReplicaSet by its image, and the condition of the rollout.
	found := map[string]string{}
	list, _ := store.List(sets, apps.SchemeGroupVersion.WithKind("ReplicaSet"), "ns")
	for _, s := range list.(*apps.ReplicaSetList).Items {
		desired := s.Annotations["deployment.kubernetes.io/desired-replicas"]
		found[s.Spec.Template.Spec.Containers[0].Image] = fmt.Sprintf("%d(desired %s)", *s.Spec.Replicas, desired)
	}
	for _, c := range read().Status.Conditions {
		found[string(c.Type)] = string(c.Status)
	}
	return fmt.Sprint(found)[3:]
}
func expect(when, want string, replicas int32, image string) { // Of the controller.
	write(replicas, image)
	isSeen := func() bool { d := read(); return d.Status.ObservedGeneration == d.Generation && describe() == want }
	for end := time.Now().Add(30 * time.Second); !isSeen(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			log.Fatalf("%s: expected %s, seen %s", when, want, describe())
		}
	}
	fmt.Printf("%-31s spec.replicas %d, %s\n", when+":", *read().Spec.Replicas, describe())
	time.Sleep(time.Second) // Until the controller has nothing left to write.
}
func main() {
	const stuck = "[Available:True Progressing:True new:0(desired 2) old:1(desired 2)]"
	d, ctx, v1 := &apps.Deployment{}, context.Background(), cache.Apps().V1()
	for _, verb := range []string{"create", "update"} {
		client.PrependReactor(verb, "replicasets", func(a testing.Action) (bool, runtime.Object, error) {
			s := a.(interface{ GetObject() runtime.Object }).GetObject().(*apps.ReplicaSet)
			n := *s.Spec.Replicas
			s.UID, s.Status = types.UID(s.Name), apps.ReplicaSetStatus{Replicas: n, ReadyReplicas: n, AvailableReplicas: n}
			if verb == "create" {
				return true, s, store.Create(sets, s, "ns")
			}
			return true, s, store.Update(sets, s, "ns")
		})
	}
	client.PrependReactor("update", "deployments", func(a testing.Action) (bool, runtime.Object, error) {
		d := a.(testing.UpdateAction).GetObject().(*apps.Deployment)
		if d.Generation == 2 && describe() == stuck { // The sync that shrank the old ReplicaSet writes its status.
			write(1, "new")
			time.Sleep(2 * time.Second) // Until the controller's watch has it.
		}
		return d.Generation != read().Generation, nil, fmt.Errorf("the object has been modified")
	})
	yaml.Unmarshal([]byte(web), d)
	store.Create(deployments, d, "ns")
	controller, _ := deployment.NewDeploymentController(ctx, v1.Deployments(), v1.ReplicaSets(), cache.Core().V1().Pods(), client)
	cache.Start(nil)
	go controller.Run(ctx, 1)
	expect("created", "[Available:True Progressing:True old:2(desired 2)]", 2, "old")
	expect("scaled to 1 during its rollout", stuck, 2, "new") // Until a reactor above scales it.
	expect("after its progress deadline", stuck, 1, "new")
	expect("another template", stuck, 1, "newer")
	expect("scaled to 2", "[Available:True Progressing:True new:0(desired 2) newer:2(desired 2) old:0(desired 2)]", 2, "newer")
}
EOF
echo "Deployment controller of Kubernetes v$version (size and annotation desired-replicas of each ReplicaSet):"
go run . 2>log || { cat log; echo "The behavior changed, or the check cannot run." && exit 1; }
echo "As described: after the scale to 1, nothing is rolled out until the next scale, and Progressing stays True."
