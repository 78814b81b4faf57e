package model

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // a name that huggingface_hub makes so, no secret
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// companion is what clients call a file that they write, or keep beside the file that they
// write, while a download goes on; they rename or remove it at the end. The group is the
// name of the file that is to be, perhaps with something of the client's own behind it.
//
// aria2, axel, lftp, wget and curl wrappers, rclone and rsync; Chromium, Firefox, Safari,
// Epiphany, Opera, Edge; qBittorrent, Transmission, µTorrent, BitComet, Vuze; Free Download
// Manager, JDownloader, DownThemAll, FlashGet, Orbit, Xunlei, WinSCP, Cyberduck and FileZilla;
// gsutil, azcopy, MEGA, Syncthing, Resilio, Nextcloud; huggingface_hub, LM Studio, Ollama, and
// llama.cpp itself.
var companion = regexp.MustCompile(`(?i)^(?:[.~]syncthing[.~]|downloading_|\.azdownload-[0-9a-f-]+-|\.in\.|incomplete-|[.~]+)?(.+?)` +
	`(?:\.aria2|\.aria2__temp|\.st|\.lftp-pget-status|\.incomplete|\.part|\.part\.met|\.partial|-partial(?:-[0-9]+)?|\.filepart|\.tmp|\.temp` +
	`|\.download|\.downloading|\.downloadinprogress|\.crdownload|\.opdownload|\.fdmdownload|\.dtapart|\.dltmp|\.getright` +
	`|\.!qb|\.!ut|\.!sync|\.bc!|\.jc!|\.az!|\.ob!|\.xltd|\.xltd\.cfg|\.td|\.td\.cfg|_\.gstmp|\.~[0-9a-f]+` +
	`|\.wkdownload|\.cyberducksegment|\.parts|\.mega)$`)

// prefixed is what clients put before a name only, and rsync on both sides.
var prefixed = regexp.MustCompile(`^(?:(?i:[.~]syncthing[.~]|\.in\.|incomplete-)(.+)|\.(.+\.gguf)\.[A-Za-z0-9]{6})$`)

// hashSuffixes are endings that rsync's could be, and are not.
var hashSuffixes = []string{".sha256", ".sha512", ".backup"}

// brought returns the name of the file that a client brings under another name, perhaps with
// something behind it; "" where no client uses such a name.
func brought(name string) string {
	if match := companion.FindStringSubmatch(name); match != nil {
		return match[1]
	}
	if slices.Contains(hashSuffixes, filepath.Ext(name)) {
		return ""
	}
	if match := prefixed.FindStringSubmatch(name); match != nil {
		return cmp.Or(match[1], match[2])
	}
	return ""
}

// youngSet is how long after its last file a set of which others are missing is taken to be
// still arriving, where nothing else shows it: some clients write each file elsewhere.
const youngSet = 24 * time.Hour

// arrivals finds the companions of downloads in progress. It remembers the directories that it
// looked into, by their paths.
type arrivals map[string][]arrival

// arrival is a directory in which files arrive that are to be in another one, or in itself.
type arrival struct {
	dir   string
	files map[string]string // companions by the name of the file that they bring
	hub   bool              // huggingface_hub names them by hubName
	whole string            // path of what shows that all of the directory arrives; "" for none
}

// of returns the path of a file that shows that a file, or a set of files, is still
// arriving; "" if there is none. missing are the files of the set that are not there yet.
func (a arrivals) of(files, missing []string) string {
	for _, path := range files {
		if found := a.bringing(path); found != "" {
			return found
		}
		// A link may lead to where the download goes on.
		if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			if found := a.bringing(target); found != "" {
				return found
			}
		}
	}
	for _, path := range missing {
		if found := a.bringing(path); found != "" {
			return found
		}
	}
	if len(missing) == 0 {
		return ""
	}
	// In a Hugging Face cache links are made only once their files are whole.
	repository, _, in := strings.Cut(missing[0], string(filepath.Separator)+"snapshots"+string(filepath.Separator))
	if !in {
		return ""
	}
	blobs := filepath.Join(repository, "blobs")
	for _, name := range companions(blobs, false) {
		if strings.HasSuffix(name, ".incomplete") {
			return filepath.Join(blobs, name)
		}
	}
	return ""
}

// bringing finds what brings one file.
func (a arrivals) bringing(path string) string {
	dir, base := filepath.Dir(path), filepath.Base(path)
	if _, known := a[dir]; !known {
		a[dir] = arrivalsIn(dir)
	}
	for _, in := range a[dir] {
		if in.whole != "" {
			return in.whole
		}
		name := in.files[base]
		if name == "" && in.hub {
			name = in.files[hubName(base)]
		}
		if name != "" {
			return filepath.Join(in.dir, name)
		}
	}
	return ""
}

// levels is how many directories above a file are searched for the one that a client
// downloads into.
const levels = 8

// arrivalsIn looks where files may arrive that are to be in dir.
func arrivalsIn(dir string) []arrival {
	var all []arrival
	add := func(in arrival) {
		if len(in.files) > 0 {
			all = append(all, in)
		}
	}
	add(arrival{dir: dir, files: companions(dir, false)})
	below := ""
	for range levels {
		for _, cache := range []string{".cache/huggingface", ".huggingface"} { // the second until 0.23
			hub := filepath.Join(dir, cache, "download", below)
			add(arrival{dir: hub, files: companions(hub, false), hub: true})
		}
		scope := filepath.Join(dir, "._____temp", below) // ModelScope's
		add(arrival{dir: scope, files: companions(scope, true)})
		if torrent := dir + ".aria2"; exists(torrent) { // of several files
			all = append(all, arrival{whole: torrent})
		}
		below, dir = filepath.Join(filepath.Base(dir), below), filepath.Dir(dir)
	}
	return all
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// hubName returns how huggingface_hub shortens the name of a file that it downloads into a local
// directory (LocalDownloadFilePaths.incomplete_path).
func hubName(base string) string {
	sum := sha1.Sum([]byte(base + ".metadata")) //nolint:gosec // as above
	return base64.URLEncoding.EncodeToString(sum[:])
}

// companions returns those in a directory, by the names of the files that they bring: whole, and
// without what clients put behind those. Where all files in the directory arrive, each is its
// own.
func companions(dir string, all bool) map[string]string {
	entries, err := os.ReadDir(dir)
	if err != nil { // it is not there, or nobody's business
		return nil
	}
	found := map[string]string{}
	for _, entry := range entries {
		name := entry.Name()
		if all {
			found[name] = name
		}
		of := brought(name)
		if of == "" {
			continue
		}
		found[of] = name
		if file, _, more := strings.Cut(of, extension+"."); more { // NAME.gguf.ETAG.incomplete
			found[file+extension] = name
		} else if hash, _, more := strings.Cut(of, "."); more { // HASH.ETAG.incomplete
			found[hash] = name
		}
	}
	return found
}
