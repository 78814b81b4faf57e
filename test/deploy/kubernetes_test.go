// Package deploy holds the examples for containers and Kubernetes to the code of those who read
// them: kustomize, the types of Kubernetes' and the Prometheus Operator's API, and the loader
// of Docker Compose. Nothing is started. It is a module of its own, because what it needs is
// several times what the program needs.
package deploy

import (
	"os"
	"path/filepath"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// objects are what kubectl apply -k would send, one of each kind.
type objects struct {
	config     core.ConfigMap
	claim      core.PersistentVolumeClaim
	deployment apps.Deployment
	service    core.Service
	monitor    monitoring.PodMonitor
	rule       monitoring.PrometheusRule
	kinds      []string
}

// build runs kustomize, and reads every object into its type: what that does not have is an error.
func build(t *testing.T, dir string) *objects {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)
	var o objects
	into := map[string]any{
		"ConfigMap": &o.config, "PersistentVolumeClaim": &o.claim, "Deployment": &o.deployment, "Service": &o.service,
		"PodMonitor": &o.monitor, "PrometheusRule": &o.rule,
	}
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		kind := resource.GetKind()
		require.Contains(t, into, kind)
		require.NoError(t, yaml.UnmarshalStrict(text, into[kind]), "%s\n%s", kind, text)
		delete(into, kind)
		o.kinds = append(o.kinds, kind)
	}
	return &o
}

func TestBase(t *testing.T) {
	o := build(t, "../../examples/kubernetes/base")
	assert.ElementsMatch(t, []string{"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"}, o.kinds)
	pod := o.deployment.Spec.Template.Spec
	for _, volume := range pod.Volumes {
		if volume.ConfigMap != nil {
			assert.Equal(t, o.config.Name, volume.ConfigMap.Name, "the name with its hash")
		}
	}
	assert.NotEqual(t, "quant-exporter", o.config.Name)
	assert.NotEmpty(t, o.config.Data["quant-exporter.yml"])
	assert.Equal(t, "quant-exporter:CHANGE-ME", pod.Containers[0].Image)
	probes := pod.Containers[0]
	for name, probe := range map[string]*core.Probe{"startup": probes.StartupProbe, "liveness": probes.LivenessProbe, "readiness": probes.ReadinessProbe} {
		require.NotNil(t, probe, name)
		require.NotNil(t, probe.HTTPGet, name)
	}
}

func TestOverlayForTheOperator(t *testing.T) {
	o := build(t, "../../examples/kubernetes/overlays/operator")
	assert.ElementsMatch(t, []string{"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service", "PodMonitor", "PrometheusRule"}, o.kinds)
	assert.Equal(t, o.deployment.Spec.Template.Labels, o.monitor.Spec.Selector.MatchLabels)
	assert.NotEmpty(t, o.rule.Spec.Groups)
}

// Where a password is wanted, the kubelet, which has none, only looks whether the port is open.
func TestComponentForAuthentication(t *testing.T) {
	dir := t.TempDir()
	kubernetes, err := filepath.Abs("../../examples/kubernetes")
	require.NoError(t, err)
	relative, err := filepath.Rel(dir, kubernetes)
	require.NoError(t, err)
	text := "resources: [" + relative + "/base]\ncomponents: [" + relative + "/components/authentication]\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600))
	o := build(t, dir)
	container := o.deployment.Spec.Template.Spec.Containers[0]
	for name, probe := range map[string]*core.Probe{"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe} {
		require.NotNil(t, probe, name)
		assert.Nil(t, probe.HTTPGet, name)
		require.NotNil(t, probe.TCPSocket, name)
		assert.Equal(t, container.Ports[0].Name, probe.TCPSocket.Port.StrVal, name)
	}
	assert.Contains(t, container.Args, "--web.config.file=/etc/quant-exporter-web/web.yml")
	assert.Contains(t, container.Args, "--storage.path=/data", "the others are still there")
	mounted := false
	for _, mount := range container.VolumeMounts {
		mounted = mounted || mount.MountPath == "/etc/quant-exporter-web"
	}
	assert.True(t, mounted)
}
