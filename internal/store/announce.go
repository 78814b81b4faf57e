package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// announcedName is the file, beside the state, in which its process says where it answers.
const announcedName = "exporter.json"

// mostAnnounced bounds the bytes that are read of it.
const mostAnnounced = 1 << 16

// announcement is the content of that file.
type announcement struct {
	Host string `json:"host"` // on which the URL leads to the process
	URL  string `json:"url"`
}

// Announce stores the URL at which this process answers for the state, for the processes
// on this host that find it locked: their LockedError names it, until Close. It replaces
// an earlier one. An error leaves everything but that as it is.
func (s *Store) Announce(url string) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("announcing the address of the exporter: %w", err)
	}
	text, err := json.Marshal(announcement{host, url})
	if err != nil {
		return fmt.Errorf("announcing the address of the exporter: %w", err)
	}
	path := filepath.Join(filepath.Dir(s.path), announcedName)
	if err := os.WriteFile(path, append(text, '\n'), fileMode); err != nil {
		return fmt.Errorf("announcing the address of the exporter: %w", err)
	}
	return nil
}

// announced returns the URL that the process with the state announced. It is "" if it
// announced none, or under another host name: from a container of its own, or from another
// machine that shares the directory, the address leads elsewhere.
func announced(dir string) string {
	text, err := disk.ReadSmall(filepath.Join(dir, announcedName), mostAnnounced)
	if err != nil {
		return ""
	}
	var a announcement
	host, err := os.Hostname()
	if err != nil || json.Unmarshal(text, &a) != nil || a.Host != host {
		return ""
	}
	return a.URL
}
