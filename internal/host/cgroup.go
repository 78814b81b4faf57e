package host

import (
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
)

// group is a directory of a cgroup that the process is in, or of one above that.
type group struct {
	dir string
	v2  bool // of the unified hierarchy
}

// groups returns where the limits of a controller on the process may be. It looks for the
// hierarchies where systemd and the container engines mount them. A container may see its own
// cgroup as the root of the mount and yet get the path that it has on the host (cgroups(7)):
// a directory of the path that does not exist limits nothing, and the root is always
// included.
//
// /proc/self/cgroup has lines of "id:controllers:path" (cgroups(7)).
func groups(root fs.FS, controller string) iter.Seq[group] {
	return func(yield func(group) bool) {
		content, err := fs.ReadFile(root, "proc/self/cgroup")
		if err != nil {
			return
		}
		for line := range strings.Lines(string(content)) {
			parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
			if len(parts) != 3 {
				continue
			}
			var mounts []string
			v2 := parts[0] == "0" && parts[1] == ""
			switch {
			case v2:
				mounts = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
			case slices.Contains(strings.Split(parts[1], ","), controller):
				mounts = []string{"sys/fs/cgroup/" + controller, "sys/fs/cgroup/" + parts[1]}
			}
			for _, mount := range mounts {
				for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
					if !yield(group{path.Join(mount, dir), v2}) {
						return
					}
					if dir == "/" {
						break
					}
				}
			}
		}
	}
}
