{{- define "headrace.labels" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headrace.named" -}}
{{- $namespace := .root.Values.topics.namespace -}}
{{- if $namespace }}{{ $namespace }}.{{ end }}{{ .name }}
{{- end }}

{{- define "headrace.environment" -}}
{{- $ownTopics := dict
  "HEADRACE_NAMESPACE" .root.Values.topics.namespace
  "TOPIC_PARTITIONS" .root.Values.topics.partitions
  "TOPIC_REPLICATION" .root.Values.topics.replication
  "TOPIC_RETENTION_HOURS" .root.Values.topics.retentionHours -}}
{{- $_ := required "settings.KAFKA_BOOTSTRAP_SERVERS: the addresses of Kafka's brokers, host:port,host:port" .root.Values.settings.KAFKA_BOOTSTRAP_SERVERS -}}
{{- $ours := dict
  "API_URL" (printf "http://%s-api:8000" .root.Release.Name)
  "API_BIND" "0.0.0.0" "API_PORT" "8000"
  "DASHBOARD_BIND" "0.0.0.0" "DASHBOARD_PORT" "8090"
  "HEALTH_BIND" "0.0.0.0" "HEALTH_PORT" "8101"
  "WORKER_ID" "auto" "HEADRACE_STACK" "native" "HEADRACE_HOME" "/var/lib/headrace"
  "OBJECT_STORE_DIR" "/var/lib/headrace/object-store"
  "SOURCES_FILE" "/etc/headrace/sources.toml" "ALARMS_FILE" "/etc/headrace/alarms.toml"
  "ALLOWED_HOSTS" (join "," (without (list (.root.Values.api.trustedHosts | default .root.Values.ingress.host) (printf "%s-api" .root.Release.Name)) ""))
  "DASHBOARD_HOSTS" .root.Values.dashboard.hosts -}}
{{- range $name, $value := merge $ours $ownTopics .root.Values.settings }}
{{- /* Who logs in nowhere at Kafka gets no settings of a login: without its password they would not fit together. */}}
{{- if and (ne (toString $value) "") (or (not (hasPrefix "KAFKA_" $name)) (has "kafka" $.role.reaches)) }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Of the Secret: what goes with the servers that a role reaches, what it alone needs, and nothing else. */ -}}
{{- define "headrace.secrets" -}}
{{- $from := .role.secret | default .root.Values.existingSecret | required "existingSecret: the Secret whose keys are settings, DATABASE_URL among them" }}
{{- $names := .role.secrets | default list }}
{{- range append .role.reaches "everything" }}
{{- $names = concat $names (get $.root.Values.secretSettings . | default list) }}
{{- end }}
{{- range $name := $names }}
{{- if not (get $.root.Values.settings $name) }}
- name: {{ $name }}
  valueFrom: { secretKeyRef: { name: {{ $from }}, key: {{ $name }}, optional: {{ ne $name "DATABASE_URL" }} } }
{{- end }}
{{- end }}
{{- range $name, $key := .role.keys }}
- name: {{ $name }}
  valueFrom: { secretKeyRef: { name: {{ $from }}, key: {{ $key }} } }
{{- end }}
{{- end }}

{{- /* The pod of a role: root context as `root`, the role as `role`, its name as `name`. */ -}}
{{- define "headrace.pod" -}}
metadata:
  labels:
    {{- include "headrace.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
    {{- range .role.reaches }}
    headrace/reaches-{{ . }}: "true"
    {{- end }}
  annotations:
    checksum/files: {{ printf "%s%s" .root.Values.sources .root.Values.alarms | sha256sum }}
    {{- with .root.Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ .root.Values.serviceAccountName }}
  automountServiceAccountToken: false
  enableServiceLinks: false  # variables such as HEADRACE_API_PORT would be taken for settings
  terminationGracePeriodSeconds: {{ .role.seconds }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: { type: RuntimeDefault }
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "headrace.labels" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $.name }}
    {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      {{- with .role.entrypoint }}
      command: {{ toJson . }}
      {{- end }}
      args: {{ toJson .role.command }}
      env:
        {{- include "headrace.environment" . | nindent 8 }}
        {{- include "headrace.secrets" . | nindent 8 }}
      {{- if .probed }}
      {{- $port := .role.port | default 8101 }}
      {{- $live := ternary (ternary "/livez" "/health" (eq .name "api")) "/metrics" (hasKey .role "port") }}
      {{- $ready := ternary "/readyz" "/health" (eq .name "api") }}
      ports:
        - { name: http, containerPort: {{ $port }} }
      # A worker answers /metrics as long as it lives, and /health with 503 while a store is away: that no restart mends.
      {{- range $probe, $how := dict "startup" (list $live 5 60) "liveness" (list $live 10 6) "readiness" (list $ready 5 3) }}
      {{ $probe }}Probe:
        httpGet:
          path: {{ index $how 0 }}
          port: http
          httpHeaders: [{ name: Host, value: localhost }]
        periodSeconds: {{ index $how 1 }}
        failureThreshold: {{ index $how 2 }}
        timeoutSeconds: 4
      {{- end }}
      {{- end }}
      {{- if .role.port }}
      lifecycle:
        preStop: { sleep: { seconds: 5 } }  # until no Service sends anything here any more
      {{- end }}
      resources:
        requests: { cpu: {{ .role.cpu }}, memory: {{ .role.memory }} }
        limits: { memory: {{ .root.Values.memoryLimit }} }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      volumeMounts:
        - { name: state, mountPath: /var/lib/headrace }  # Faust's folder, rehearsals
        - { name: tmp, mountPath: /tmp }
        - { name: files, mountPath: /etc/headrace, readOnly: true }
        {{- if .root.Values.tlsSecret }}
        - { name: tls, mountPath: /etc/headrace-tls, readOnly: true }
        {{- end }}
  volumes:
    - name: state
      emptyDir: { sizeLimit: 256Mi }
    - name: tmp
      emptyDir: { sizeLimit: 1Gi }
    - name: files
      configMap: { name: {{ .root.Release.Name }}-files, optional: true }
    {{- if .root.Values.tlsSecret }}
    - name: tls
      secret: { secretName: {{ .root.Values.tlsSecret }}, defaultMode: 0440 }
    {{- end }}
{{- end }}
