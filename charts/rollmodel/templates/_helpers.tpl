{{- define "rollmodel.name" -}}
{{- if contains "rollmodel" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-rollmodel{{ end }}
{{- end }}

{{- define "rollmodel.selector" -}}
app.kubernetes.io/name: rollmodel
{{- if ne .Release.Name "rollmodel" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- end }}

{{- define "rollmodel.labels" -}}
{{ include "rollmodel.selector" . }}
app.kubernetes.io/part-of: rollmodel
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rollmodel.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What the operator may do where it looks after models: a ClusterRole, or with watchNamespace a Role there. As deploy/rbac.yaml. */}}
{{- define "rollmodel.rules" -}}
# What users write: read it, and say in its status what came of it.
- apiGroups: [rollmodel.dev]
  resources: [modelversions, modeldeployments, modelpolicies, modelregistries]
  verbs: [list, watch]
- apiGroups: [rollmodel.dev]
  resources: [modelversions/status, modeldeployments/status, modelregistries/status, rolloutrequests/status]
  verbs: [patch]
# Requests are deleted a day after they were answered.
- apiGroups: [rollmodel.dev]
  resources: [rolloutrequests]
  verbs: [list, watch, delete]
# The records: the operator alone writes them, and prunes them by age.
- apiGroups: [rollmodel.dev]
  resources: [modelrollouts]
  verbs: [list, watch, create, patch, delete]
# Not needed by Kubernetes itself: distributions with the admission plugin OwnerReferencesPermissionEnforcement
# (OpenShift) demand it of whoever sets blockOwnerDeletion on a child.
- apiGroups: [rollmodel.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
# What serves, and what imports.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Contents and their renderings, to go back to.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, delete]
# The pod templates of revisions that are stored no longer, read live.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
# Why pods do not get ready, how verifications ended, and whether an autoscaler has the wrong target.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
# Artifacts are verified by Jobs, under the ServiceAccount that the namespace's ModelPolicy names.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "rollmodel.clusterRules" -}}
{{- if or (not .Values.watchNamespace) .Values.crds.read }}
# Which schema of ours the cluster has.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}
{{- if or (not .Values.watchNamespace) .Values.admissionPolicies.read }}
# Whether the shipped admission policies (admission.yaml) are in force: these six objects, by name.
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingadmissionpolicies, validatingadmissionpolicybindings]
  resourceNames: [{{ include "rollmodel.name" . }}-requested-by, {{ include "rollmodel.name" . }}-own-rights, {{ include "rollmodel.name" . }}-records]
  verbs: [get]
{{- end }}
{{- end }}
