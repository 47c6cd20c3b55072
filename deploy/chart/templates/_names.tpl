{{/* What our objects are called. Proxies know us by the name of the Service, so it is one name, and one release a namespace. */}}
{{- define "portolan.name" -}}
portolan
{{- end }}

{{/* What belongs to no namespace is called after ours, so that another release does not take it over. */}}
{{- define "portolan.clusterName" -}}
portolan-{{ .Release.Namespace }}
{{- end }}

{{- define "portolan.selector" -}}
app.kubernetes.io/name: portolan
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The metadata of an object, after its name and namespace. */}}
{{- define "portolan.metadata" -}}
labels:
  {{- include "portolan.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/component: control-plane
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* An address and a port, with the brackets that IPv6 asks for. */}}
{{- define "portolan.listen" -}}
{{- $address := index . 0 -}}
{{- if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ index . 1 }}
{{- end }}

{{- define "portolan.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
