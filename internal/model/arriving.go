package model

import (
	"crypto/sha1" //nolint:gosec // a name that huggingface_hub makes so, no secret
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// companion is what clients call a file that they write, or keep beside the file that they
// write, while a download goes on; they rename or remove it at the end. The group is the
// name of the file that is to be, perhaps with something of the client's own behind it.
//
// aria2, axel, lftp, wget and curl wrappers, rclone and rsync; Chromium, Firefox, Safari,
// Opera, Edge; qBittorrent, Transmission, µTorrent, BitComet; Free Download Manager,
// JDownloader, DownThemAll, FlashGet, Xunlei, WinSCP and FileZilla; gsutil, azcopy,
// Syncthing, Nextcloud; huggingface_hub, LM Studio, Ollama, and llama.cpp itself.
var companion = regexp.MustCompile(`(?i)^(?:\.syncthing\.|downloading_|\.azdownload-[0-9a-f-]+-|[.~]+)?(.+?)` +
	`(?:\.aria2|\.aria2__temp|\.st|\.lftp-pget-status|\.incomplete|\.part|\.part\.met|\.partial|-partial(?:-[0-9]+)?|\.filepart|\.tmp|\.temp` +
	`|\.download|\.downloading|\.downloadinprogress|\.crdownload|\.opdownload|\.fdmdownload|\.dtapart|\.dltmp|\.getright` +
	`|\.!qb|\.!ut|\.bc!|\.jc!|\.xltd|\.xltd\.cfg|\.td|\.td\.cfg|_\.gstmp|\.~[0-9a-f]+)$`)

// arrivals finds the companions of downloads in progress. It remembers the directories that it
// looked into, by their paths.
type arrivals map[string][]arrival

// arrival is a directory in which files arrive that are to be in another one, or in itself.
type arrival struct {
	dir   string
	files map[string]string // companions by the name of the file that they bring
	hub   bool              // huggingface_hub names them by hubName
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
	add(arrival{dir, companions(dir, false), false})
	below := ""
	for range levels {
		hub := filepath.Join(dir, ".cache", "huggingface", "download", below)
		add(arrival{hub, companions(hub, false), true})
		scope := filepath.Join(dir, "._____temp", below) // ModelScope's
		add(arrival{scope, companions(scope, true), false})
		below, dir = filepath.Join(filepath.Base(dir), below), filepath.Dir(dir)
	}
	return all
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
		match := companion.FindStringSubmatch(name)
		if match == nil {
			continue
		}
		of := match[1]
		found[of] = name
		if file, _, more := strings.Cut(of, extension+"."); more { // NAME.gguf.ETAG.incomplete
			found[file+extension] = name
		} else if hash, _, more := strings.Cut(of, "."); more { // HASH.ETAG.incomplete
			found[hash] = name
		}
	}
	return found
}
