package deploy

import (
	"os"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// load reads the compose file as Docker Compose does: against its schema, with variables.
func load(t *testing.T, environment ...string) (*types.Project, error) {
	t.Helper()
	return loadFile(t, "../../examples/docker/compose.yml", environment...)
}

func loadFile(t *testing.T, file string, environment ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(environment))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func TestCompose(t *testing.T) {
	project, err := load(t, "MODELS=/srv/models")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"exporter", "redis", "prometheus", "alertmanager", "grafana"}, project.ServiceNames())
	for name, service := range project.Services {
		if service.Build == nil {
			assert.Regexp(t, `:v?\d+\.\d+\.\d+$`, service.Image, "%s: pinned, so that it works tomorrow as it does today", name)
		}
		for _, port := range service.Ports {
			assert.Equal(t, "127.0.0.1", port.HostIP, "%s: there is no password", name)
		}
		// An editor puts a new file in the place of the old one, which a mounted file never shows.
		for _, volume := range service.Volumes {
			if info, err := os.Stat(volume.Source); volume.Type == types.VolumeTypeBind && err == nil {
				assert.True(t, info.IsDir(), "%s mounts the file %s", name, volume.Source)
			}
		}
	}
}

func TestComposeSaysWhatIsMissing(t *testing.T) {
	_, err := load(t)
	assert.ErrorContains(t, err, "the folder with your models")
}
