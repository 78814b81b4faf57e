package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Each document stands for itself, as kubectl reads it.
func TestWorkersOnKubernetes(t *testing.T) {
	text, err := os.ReadFile("../../examples/fleet/kubernetes.yaml")
	require.NoError(t, err)
	documents := strings.Split(string(text), "\n---\n")
	require.Len(t, documents, 3)
	var config core.ConfigMap
	var everywhere apps.DaemonSet
	var once batch.Job
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[0]), &config))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[1]), &everywhere))
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[2]), &once))
	assert.Equal(t, []string{"ConfigMap", "DaemonSet", "Job"}, []string{config.Kind, everywhere.Kind, once.Kind})
	assert.NotEmpty(t, config.Data["worker.yml"])
	assert.Contains(t, once.Spec.Template.Spec.Containers[0].Args, "--once")
	for _, template := range []core.PodTemplateSpec{everywhere.Spec.Template, once.Spec.Template} {
		pod := template.Spec
		require.NotNil(t, pod.Affinity)
		apart := pod.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		require.Len(t, apart, 1)
		assert.Equal(t, "kubernetes.io/hostname", apart[0].TopologyKey)
		name := map[string]string{"app.kubernetes.io/name": template.Labels["app.kubernetes.io/name"]}
		assert.Equal(t, name, apart[0].LabelSelector.MatchLabels, "one worker on a node: each has a lock of its own")
		assert.Equal(t, "quant-exporter-worker", name["app.kubernetes.io/name"], "of the DaemonSet and the Job")
		volumes := map[string]bool{}
		for _, volume := range pod.Volumes {
			volumes[volume.Name] = true
			if volume.ConfigMap != nil {
				assert.Equal(t, config.Name, volume.ConfigMap.Name)
			}
		}
		worker := pod.Containers[0]
		for _, mount := range worker.VolumeMounts {
			assert.True(t, volumes[mount.Name], mount.Name)
		}
		assert.Len(t, worker.VolumeMounts, len(volumes))
		assert.Contains(t, worker.Args, "--host.lock=/data/host.lock", "the root file system is read only")
	}
}

func TestFleetInContainers(t *testing.T) {
	project, err := loadFile(t, "../../examples/fleet/compose.yml", "MODELS=/srv/models")
	require.NoError(t, err)
	assert.Contains(t, project.ServiceNames(), "redis")
	for name, service := range project.Services {
		if service.Build == nil && !strings.HasPrefix(service.Image, "quant-exporter") {
			assert.Regexp(t, `:v?\d+\.\d+\.\d+$`, service.Image, "%s: pinned, so that it works tomorrow as it does today", name)
		}
		if len(service.Command) > 0 && service.Command[0] == "worker" {
			require.NotNil(t, service.HealthCheck, name)
			assert.True(t, service.HealthCheck.Disable, "%s: the image's asks a port on which a worker does not listen", name)
		}
	}
}
