package examples_test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/command"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// port is the exporter's, everywhere.
const port = 10180

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// flags are those in a command line, with their values.
func flags(args []string) map[string]string {
	values := map[string]string{}
	for _, arg := range args {
		if name, value, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
			values[name] = value
		}
	}
	return values
}

// requireRoute sees that the exporter answers GET requests for the path.
func requireRoute(t *testing.T, path string) {
	t.Helper()
	require.True(t, slices.ContainsFunc(web.Routes(), func(r web.Route) bool {
		return r.Method == http.MethodGet && r.Path == path && r.Flag == ""
	}), "the exporter does not serve %s", path)
}

func TestSystemdServesOnThePort(t *testing.T) {
	service := read(t, "systemd/quant-exporter.service")
	assert.Contains(t, service, "\nEnvironment=LISTEN=--web.listen-address=:"+strconv.Itoa(port)+"\n")
	assert.Contains(t, read(t, "systemd/quant-exporter.socket"), "\nListenStream="+strconv.Itoa(port)+"\n")
	assert.Contains(t, read(t, "systemd/socket.conf"), "\nEnvironment=LISTEN=--web.systemd-socket\n")
}

func TestSystemdLetsTheExporterWriteWhereItsFlagsSay(t *testing.T) {
	service := read(t, "systemd/quant-exporter.service")
	given := flags(strings.Fields(service))
	assert.Contains(t, service, "\nStateDirectory="+strings.TrimPrefix(given["--storage.path"], "/var/lib/")+"\n")
	assert.Contains(t, service, "\nCacheDirectory="+strings.TrimPrefix(given["--work.dir"], "/var/cache/")+"\n")
	assert.Contains(t, service, "\nReadWritePaths="+path.Dir(given["--host.lock"])+"\n")
	assert.Contains(t, service, "\nReadOnlyPaths=-"+given["--model-dir"]+"\n")
}

// dockerfile gives the arguments of each instruction, joined lines and comments aside.
func dockerfile(t *testing.T) map[string][]string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(read(t, "docker/Dockerfile"), "")
	text = strings.ReplaceAll(text, "\\\n", "")
	instructions := map[string][]string{}
	for line := range strings.Lines(text) {
		if name, args, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			instructions[name] = append(instructions[name], args)
		}
	}
	return instructions
}

func TestDockerfileFitsTheProgram(t *testing.T) {
	image := dockerfile(t)
	known := []string{"ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
	for name := range image {
		assert.Contains(t, known, name, "no instruction of a Dockerfile that is used here")
	}
	assert.Equal(t, []string{strconv.Itoa(port)}, image["EXPOSE"])
	require.Len(t, image["HEALTHCHECK"], 1)
	probe := regexp.MustCompile(`http://127\.0\.0\.1:(\d+)(/[^"]*)"`).FindStringSubmatch(image["HEALTHCHECK"][0])
	require.NotNil(t, probe)
	assert.Equal(t, strconv.Itoa(port), probe[1])
	requireRoute(t, probe[2])

	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	require.NotNil(t, version)
	assert.Equal(t, []string{"golang:" + version[1] + " AS build", "${LLAMA_CPP}"}, image["FROM"])
	assert.Contains(t, image["ARG"], "VERSION")
	assert.Regexp(t, `^LLAMA_CPP=ghcr\.io/ggml-org/llama\.cpp:full-b\d+$`, image["ARG"][0], "one build: what is measured must not change by itself")
	assert.Equal(t, []string{`["/usr/local/bin/quant-exporter"]`}, image["ENTRYPOINT"])
	assert.Contains(t, image["COPY"], "--from=build /quant-exporter /usr/local/bin/quant-exporter")
	assert.Equal(t, []string{"10180:10180"}, image["USER"], "a number: Kubernetes has to see that it is not root")
}

// TestDockerIgnoresNothingThatTheBuildNeeds holds the list against the packages: an
// ignored name must not be a folder of source code or an embedded file.
func TestDockerIgnoresNothingThatTheBuildNeeds(t *testing.T) {
	for pattern := range strings.Lines(read(t, "docker/Dockerfile.dockerignore")) {
		pattern = strings.TrimSpace(pattern)
		name, everywhere := strings.CutPrefix(pattern, "**/")
		if everywhere {
			assert.Contains(t, []string{"testdata", "*.gguf"}, name)
			continue
		}
		sources, err := filepath.Glob(filepath.Join("..", name, "*.go"))
		require.NoError(t, err)
		assert.Empty(t, sources, "%s is ignored", pattern)
	}
}

type compose struct {
	Name     string
	Services map[string]struct {
		Image string
		Build struct {
			Context, Dockerfile string
			Args                map[string]string
		}
		Command         []string
		Environment     map[string]string
		Ports           []string
		Volumes         []string
		CapDrop         []string `yaml:"cap_drop"`
		SecurityOpt     []string `yaml:"security_opt"`
		ReadOnly        bool     `yaml:"read_only"`
		Tmpfs           []string
		Restart         string
		StopGracePeriod string   `yaml:"stop_grace_period"`
		DependsOn       []string `yaml:"depends_on"`
	}
	Volumes map[string]any
}

// variables are those that flags of the program take their values from, by flag.
func variables() map[string]string {
	all := map[string]string{}
	for _, flag := range command.NewFlags(io.Discard).App.Model().Flags {
		all["--"+flag.Name] = flag.Envar
	}
	return all
}

// imageVariables are those that the image sets.
func imageVariables(t *testing.T) map[string]string {
	t.Helper()
	set := map[string]string{}
	for _, line := range dockerfile(t)["ENV"] {
		for pair := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(pair, "=")
			set[name] = value
		}
	}
	return set
}

// Whatever command the image is given, state and work are in its volume.
func TestImageKeepsItsState(t *testing.T) {
	set, image := imageVariables(t), dockerfile(t)
	assert.Equal(t, []string{"/data"}, image["VOLUME"])
	assert.Equal(t, "/data", set[variables()["--storage.path"]])
	assert.Equal(t, "/data/work", set[variables()["--work.dir"]])
	assert.Equal(t, "/models", set[variables()["--model-dir"]])
	assert.Empty(t, image["CMD"], "it would be lost with another command")
}

func TestComposeFileIsConsistent(t *testing.T) {
	var c compose
	decode(t, "docker/compose.yml", &c)
	for name, service := range c.Services {
		for _, other := range service.DependsOn {
			assert.Contains(t, c.Services, other)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":/")
			switch {
			case strings.HasPrefix(source, "."):
				assert.DirExists(t, filepath.Join("docker", source), "a folder: a file would never be seen to change")
			case !strings.ContainsAny(source, "/$"):
				assert.Contains(t, c.Volumes, source, name)
			}
		}
	}
	exporter := c.Services["exporter"]
	assert.FileExists(t, filepath.Join("docker", exporter.Build.Context, "go.mod"))
	assert.FileExists(t, filepath.Join("docker", exporter.Build.Context, exporter.Build.Dockerfile))
	assert.Equal(t, map[string]string{"VERSION": "${VERSION:-}"}, exporter.Build.Args)
	assert.Equal(t, []string{"127.0.0.1:10180:10180"}, exporter.Ports, "nobody else's: there is no password")
	given := flags(exporter.Command)
	assert.Contains(t, exporter.Volumes, ".:"+path.Dir(given["--config.file"])+":ro")
	assert.Contains(t, exporter.Volumes, "data:"+imageVariables(t)[variables()["--storage.path"]])
	lock := path.Dir(exporter.Environment[variables()["--host.lock"]])
	assert.Contains(t, exporter.Volumes, lock+":"+lock, "one lock for all on a host")

	configuration, err := config.Load(filepath.Join("docker", path.Base(given["--config.file"])), config.Checks{Engine: llamacpp.Validate, QuantizeArgs: llamacpp.CheckQuantizeArgs, A2A: a2a.Validate, Fleet: redisconn.ValidateFleet})
	require.NoError(t, err)
	assert.Equal(t, "redis://redis:6379/0", configuration.A2A.URL)
	assert.Contains(t, c.Services, "redis")

	// The others have the folder of examples, and find their files in it.
	for _, name := range []string{"prometheus", "alertmanager", "grafana"} {
		assert.Contains(t, c.Services[name].Volumes, "..:/examples:ro")
		told := flags(c.Services[name].Command)["--config.file"] + c.Services[name].Environment["GF_PATHS_PROVISIONING"]
		file, found := strings.CutPrefix(told, "/examples/")
		require.True(t, found, "%s: %s", name, told)
		_, err := os.Stat(file)
		require.NoError(t, err)
	}
	var prometheus prometheusConfig
	decode(t, "docker/prometheus.yml", &prometheus)
	require.Equal(t, []string{"../rules.yml", "../alerts.yml"}, prometheus.RuleFiles)
}

// provisioning is as much of Grafana's provisioning files as ours have.
type provisioning struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		IsDefault                    bool           `yaml:"isDefault"`
		JSONData                     map[string]any `yaml:"jsonData"`
	}
	Providers []struct {
		Name, Folder, Type string
		Options            struct{ Path string }
	}
}

func TestGrafanaIsProvisioned(t *testing.T) {
	var c compose
	decode(t, "docker/compose.yml", &c)
	var sources, dashboards provisioning
	decode(t, "docker/grafana/datasources/quant-exporter.yml", &sources)
	decode(t, "docker/grafana/dashboards/quant-exporter.yml", &dashboards)
	for _, source := range sources.Datasources {
		at, err := url.Parse(source.URL)
		require.NoError(t, err)
		service := at.Hostname()
		assert.Contains(t, c.Services, service, source.Name)
	}
	require.Len(t, dashboards.Providers, 1)
	assert.Equal(t, "/examples/grafana", dashboards.Providers[0].Options.Path)
	assert.FileExists(t, dashboardFile)
}

func TestAlertmanagerAcceptsItsConfiguration(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), servers.Tool(t, "amtool"), "check-config", "docker/alertmanager.yml").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The kinds of the manifests, as much of them as these use: what is misspelt has no field.
type (
	kubernetesMeta struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct {
			Name   string
			Labels map[string]string
		}
	}
	selectLabels struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	claim struct {
		kubernetesMeta `yaml:",inline"`
		Spec           struct {
			AccessModes []string `yaml:"accessModes"`
			Resources   struct{ Requests map[string]string }
		}
	}
	deployment struct {
		kubernetesMeta `yaml:",inline"`
		Spec           struct {
			Replicas int
			Strategy struct{ Type string }
			Selector selectLabels
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     podSpec
			}
		}
	}
	podSpec struct {
		NodeSelector map[string]string `yaml:"nodeSelector"`
		Affinity     struct {
			PodAntiAffinity struct {
				Required []struct {
					TopologyKey   string       `yaml:"topologyKey"`
					LabelSelector selectLabels `yaml:"labelSelector"`
				} `yaml:"requiredDuringSchedulingIgnoredDuringExecution"`
			} `yaml:"podAntiAffinity"`
		}
		AutomountServiceAccountToken  bool `yaml:"automountServiceAccountToken"`
		TerminationGracePeriodSeconds int  `yaml:"terminationGracePeriodSeconds"`
		SecurityContext               struct {
			RunAsNonRoot        bool                  `yaml:"runAsNonRoot"`
			RunAsUser           int                   `yaml:"runAsUser"`
			RunAsGroup          int                   `yaml:"runAsGroup"`
			FSGroup             int                   `yaml:"fsGroup"`
			FSGroupChangePolicy string                `yaml:"fsGroupChangePolicy"`
			SeccompProfile      struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []container
		Volumes    []struct {
			Name                  string
			ConfigMap             struct{ Name string } `yaml:"configMap"`
			PersistentVolumeClaim struct {
				ClaimName string `yaml:"claimName"`
				ReadOnly  bool   `yaml:"readOnly"`
			} `yaml:"persistentVolumeClaim"`
			EmptyDir struct {
				SizeLimit string `yaml:"sizeLimit"`
			} `yaml:"emptyDir"`
		}
	}
	container struct {
		Name, Image string
		Args        []string
		Ports       []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		StartupProbe    probe `yaml:"startupProbe"`
		LivenessProbe   probe `yaml:"livenessProbe"`
		ReadinessProbe  probe `yaml:"readinessProbe"`
		Resources       struct{ Requests, Limits map[string]string }
		SecurityContext struct {
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	probe struct {
		HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
		PeriodSeconds    int                         `yaml:"periodSeconds"`
		TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
		FailureThreshold int                         `yaml:"failureThreshold"`
	}
	service struct {
		kubernetesMeta `yaml:",inline"`
		Spec           struct {
			Selector map[string]string
			Ports    []struct {
				Name       string
				Port       int
				TargetPort string `yaml:"targetPort"`
			}
		}
	}
	podMonitor struct {
		kubernetesMeta `yaml:",inline"`
		Spec           struct {
			JobLabel            string `yaml:"jobLabel"`
			Selector            selectLabels
			PodMetricsEndpoints []struct{ Port, Path, Interval string } `yaml:"podMetricsEndpoints"`
		}
	}
)

// manifest is what base holds, and the overlay for the Operator adds.
type manifest struct {
	claim      claim
	deployment deployment
	service    service
	monitor    podMonitor
}

func kubernetes(t *testing.T) *manifest {
	t.Helper()
	var m manifest
	decode(t, "kubernetes/base/claim.yaml", &m.claim)
	decode(t, "kubernetes/base/deployment.yaml", &m.deployment)
	decode(t, "kubernetes/base/service.yaml", &m.service)
	decode(t, "kubernetes/overlays/operator/podmonitor.yaml", &m.monitor)
	return &m
}

// The overlay has the rules and alerts as they are, below spec; go test -update writes them.
func TestPrometheusRuleHasTheAlerts(t *testing.T) {
	var text strings.Builder
	text.WriteString(`# Made of ../../../rules.yml and ../../../alerts.yml: go test ./examples -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: quant-exporter
  labels: {app.kubernetes.io/name: quant-exporter}
spec:
  groups:
`)
	for _, file := range []string{"rules.yml", "alerts.yml"} {
		_, groups, found := strings.Cut(read(t, file), "\ngroups:\n")
		require.True(t, found, file)
		for line := range strings.Lines(groups) {
			if strings.TrimSpace(line) != "" {
				line = "  " + line
			}
			text.WriteString(line)
		}
	}
	golden.CheckFile(t, "kubernetes/overlays/operator/prometheusrule.yaml", text.String())
}

func TestKubernetesManifestIsConsistent(t *testing.T) {
	m := kubernetes(t)
	name := map[string]string{"app.kubernetes.io/name": "quant-exporter"}
	for _, meta := range []kubernetesMeta{m.claim.kubernetesMeta, m.deployment.kubernetesMeta, m.service.kubernetesMeta, m.monitor.kubernetesMeta} {
		assert.Equal(t, "quant-exporter", meta.Metadata.Name, meta.Kind)
		assert.Equal(t, name, meta.Metadata.Labels, meta.Kind)
	}
	spec := m.deployment.Spec
	assert.Equal(t, 1, spec.Replicas)
	assert.Equal(t, "Recreate", spec.Strategy.Type)
	for _, selected := range []map[string]string{
		spec.Selector.MatchLabels, m.service.Spec.Selector, m.monitor.Spec.Selector.MatchLabels,
		spec.Template.Spec.Affinity.PodAntiAffinity.Required[0].LabelSelector.MatchLabels,
	} {
		assert.Equal(t, spec.Template.Metadata.Labels, selected)
	}
	assert.Equal(t, job, spec.Template.Metadata.Labels[m.monitor.Spec.JobLabel], "the job that alerts look for")

	require.Len(t, spec.Template.Spec.Containers, 1)
	c := spec.Template.Spec.Containers[0]
	require.Len(t, c.Ports, 1)
	assert.Equal(t, port, c.Ports[0].ContainerPort)
	assert.Equal(t, ":"+strconv.Itoa(port), flags(c.Args)["--web.listen-address"])
	for _, named := range []string{c.StartupProbe.HTTPGet.Port, c.LivenessProbe.HTTPGet.Port, c.ReadinessProbe.HTTPGet.Port, m.service.Spec.Ports[0].TargetPort, m.monitor.Spec.PodMetricsEndpoints[0].Port} {
		assert.Equal(t, c.Ports[0].Name, named)
	}
	assert.Equal(t, port, m.service.Spec.Ports[0].Port)
	assert.Equal(t, "/-/healthy", c.StartupProbe.HTTPGet.Path)
	assert.Equal(t, "/-/healthy", c.LivenessProbe.HTTPGet.Path)
	assert.Equal(t, "/-/ready", c.ReadinessProbe.HTTPGet.Path)
	for _, path := range []string{"/-/healthy", "/-/ready", m.monitor.Spec.PodMetricsEndpoints[0].Path} {
		requireRoute(t, path)
	}
	assert.Equal(t, c.Resources.Requests, c.Resources.Limits, "else its CPUs are not its own")
}

func TestKubernetesMountsWhatTheFlagsName(t *testing.T) {
	m := kubernetes(t)
	pod := m.deployment.Spec.Template.Spec
	var volumes []string
	for _, volume := range pod.Volumes {
		volumes = append(volumes, volume.Name)
		if volume.Name == "data" {
			assert.Equal(t, m.claim.Metadata.Name, volume.PersistentVolumeClaim.ClaimName)
		}
		if volume.Name == "config" {
			assert.Equal(t, "quant-exporter", volume.ConfigMap.Name, "which kustomize makes of the file")
		}
	}
	writable := map[string]bool{} // by where it is mounted
	for _, mount := range pod.Containers[0].VolumeMounts {
		assert.Contains(t, volumes, mount.Name)
		writable[mount.MountPath] = !mount.ReadOnly
	}
	given := flags(pod.Containers[0].Args)
	for folder, write := range map[string]bool{
		given["--storage.path"]: true, given["--work.dir"]: true, path.Dir(given["--host.lock"]): true,
		given["--model-dir"]: false, path.Dir(given["--config.file"]): false,
	} {
		can, mounted := writable[folder]
		assert.True(t, mounted, "%s is not a volume", folder)
		assert.Equal(t, write, can, folder)
	}

	file := filepath.Join("kubernetes", "base", path.Base(given["--config.file"]))
	_, err := config.Load(file, config.Checks{Engine: llamacpp.Validate, QuantizeArgs: llamacpp.CheckQuantizeArgs, A2A: a2a.Validate, Fleet: redisconn.ValidateFleet})
	require.NoError(t, err)
}
