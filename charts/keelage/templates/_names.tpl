{{- define "keelage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 50 characters: names derived from it stay within 63. */ -}}
{{- define "keelage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "keelage.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "keelage.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keelage.serviceAccount" -}}
{{- default (include "keelage.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "keelage.authoritySecret" -}}
{{- include "keelage.fullname" . }}-authority
{{- end -}}

{{- define "keelage.selector" -}}
app.kubernetes.io/name: {{ include "keelage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "keelage.labels" -}}
app.kubernetes.io/name: {{ include "keelage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: keelage
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Image reference of (dict "image" ... "root" $). */ -}}
{{- define "keelage.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- /* `cpu=20m,memory=64Mi` of a map; `-` where it is empty. */ -}}
{{- define "keelage.quantities" -}}
{{- $pairs := list -}}
{{- range $name, $amount := . -}}
{{- $pairs = append $pairs (printf "%s=%v" $name $amount) -}}
{{- end -}}
{{- join "," $pairs | default "-" -}}
{{- end -}}

{{- /* The restricted Pod Security Standard. */ -}}
{{- define "keelage.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}
