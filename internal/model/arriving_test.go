package model_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// A file may have its full size, and a header, long before its content has arrived.
func TestFilesThatAreStillArriving(t *testing.T) {
	const set = "m-00001-of-00002"
	second := gguf.ShardPath("m", 2, 2)
	tests := map[string]struct {
		beside string // what is there
		want   string // what is passed over; "" is nothing
	}{
		"aria2":               {"one.gguf.aria2", "one"},
		"Firefox, curl":       {"one.gguf.part", "one"},
		"Chromium":            {"one.gguf.crdownload", "one"},
		"Safari":              {"one.gguf.download/one.gguf", "one"},
		"Opera":               {"one.gguf.opdownload", "one"},
		"qBittorrent":         {"one.gguf.!qB", "one"},
		"µTorrent":            {"one.gguf.!ut", "one"},
		"BitComet":            {"one.gguf.bc!", "one"},
		"FileZilla":           {"one.gguf.filepart", "one"},
		"axel":                {"one.gguf.st", "one"},
		"lftp":                {"one.gguf.lftp-pget-status", "one"},
		"rclone":              {"one.gguf.a1b2c3d4.partial", "one"},
		"llama.cpp":           {"one.gguf.downloadInProgress", "one"},
		"LM Studio":           {"downloading_one.gguf.part", "one"},
		"Syncthing":           {".syncthing.one.gguf.tmp", "one"},
		"hidden":              {".one.gguf.part", "one"},
		"Free Download":       {"one.gguf.fdmdownload", "one"},
		"Xunlei":              {"one.gguf.xltd.cfg", "one"},
		"gsutil":              {"one.gguf_.gstmp", "one"},
		"any":                 {"one.gguf.tmp", "one"},
		"aria2, a torrent":    {"sub.aria2", "sub/two"},
		"Vuze":                {"one.gguf.az!", "one"},
		"Orbit":               {"one.gguf.ob!", "one"},
		"Resilio":             {"one.gguf.!sync", "one"},
		"Epiphany":            {"one.gguf.wkdownload", "one"},
		"Cyberduck":           {"one.gguf.cyberducksegment", "one"},
		"parts":               {"one.gguf.parts", "one"},
		"MEGA":                {"one.gguf.mega", "one"},
		"Syncthing, Windows":  {"~syncthing~one.gguf.tmp", "one"},
		"lftp, by its prefix": {".in.one.gguf", "one"},
		"another prefix":      {"incomplete-one.gguf", "one"},
		"rsync":               {".one.gguf.Xa3Zk9", "one"},
		"rsync, a shard":      {"." + second + ".Xa3Zk9", set},
		"Hub, of old":         {".huggingface/download/sub/two.gguf.4c1c9db1.incomplete", "sub/two"},
		"a hidden checksum":   {".one.gguf.sha256", ""},
		"another folder's":    {"other.aria2", ""},
		"Hub, by its name":    {".cache/huggingface/download/one.gguf.4c1c9db1.incomplete", "one"},
		"Hub, by its hash":    {".cache/huggingface/download/bfQEY4W92vlayXjpmO8xJt1zWhA=.4c1c9db1.incomplete", "one"},
		"Hub, in a folder":    {".cache/huggingface/download/sub/two.gguf.4c1c9db1.incomplete", "sub/two"},
		"ModelScope":          {"._____temp/one.gguf", "one"},
		"a shard that is":     {set + ".gguf.aria2", set},
		"a shard that is not": {second + ".part", set},
		"another file's":      {"other.gguf.part", ""},
		"its checksum":        {"one.gguf.sha256", ""},
		"its notes":           {"one.gguf.txt", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := newModels(t)
			m.model("one.gguf")
			m.model("sub/two.gguf")
			m.split("m", 2, 1)
			whole := []string{set, "one", "sub/two"}
			if tt.want != set || tt.beside == set+".gguf.aria2" {
				m.split("m", 2, 2)
			}
			m.text(tt.beside, "\x00\x01")
			found := m.discover()
			all, err := found.Select([]string{"*"})
			require.NoError(t, err)
			var want []string
			for _, name := range whole {
				if name != tt.want {
					want = append(want, name)
				}
			}
			assert.Equal(t, want, names(all), "passed over without a word")
			if tt.want == "" {
				return
			}
			assert.Contains(t, skipped(found)[tt.want], "still arriving")
			for _, ask := range []model.Found{found, {}} {
				named, err := ask.Select([]string{m.path(tt.want + ".gguf")})
				require.NoError(t, err)
				require.ErrorIs(t, named[0].Err, gguf.ErrIncomplete)
				require.ErrorContains(t, named[0].Err, "remove that if it has")
			}
		})
	}
}

func TestArrivingBehindALink(t *testing.T) {
	m := newModels(t)
	downloads := newModels(t)
	downloads.model("one.gguf")
	downloads.text("one.gguf.aria2", "x")
	m.link(downloads.path("one.gguf"), "one.gguf")
	m.split("blobs/a", 2, 1)
	m.text("blobs/4c1c9db1.incomplete", "x")
	m.link("../../blobs/"+gguf.ShardPath("a", 1, 2), "snapshots/1f/"+gguf.ShardPath("m", 1, 2))
	require.NoError(t, os.Rename(m.path("blobs/"+gguf.ShardPath("a", 1, 2)), m.path("blobs/77")))
	require.NoError(t, os.Remove(m.path("snapshots/1f/"+gguf.ShardPath("m", 1, 2))))
	m.link("../../blobs/77", "snapshots/1f/"+gguf.ShardPath("m", 1, 2))

	found := m.discover()
	assert.Empty(t, found.Models)
	assert.Contains(t, skipped(found)["one"], downloads.path("one.gguf.aria2"))
	assert.Contains(t, skipped(found)["snapshots/1f/m-00001-of-00002"], filepath.Join("blobs", "4c1c9db1.incomplete"))
}

// A client that leaves nothing beside a file still writes the last shard that is there.
func TestSetOfWhichTheLastShardIsCutOff(t *testing.T) {
	m := newModels(t)
	m.model("good.gguf")
	m.split("m", 3, 1, 2)
	m.age("m", 3, 1, 2)
	all, err := m.discover().Select([]string{"*"})
	require.NoError(t, err)
	assert.Equal(t, []string{"good", "m-00001-of-00003"}, names(all), "a shard is missing, and nobody brings it")

	require.NoError(t, os.Truncate(m.path(gguf.ShardPath("m", 2, 3)), 10))
	all, err = m.discover().Select([]string{"*"})
	require.NoError(t, err)
	assert.Equal(t, []string{"good"}, names(all))
}

// Some clients write each file elsewhere: nothing shows that the next one is on its way.
func TestSetWhoseLastShardIsYoung(t *testing.T) {
	m := newModels(t)
	m.model("good.gguf")
	m.split("m", 3, 1, 2)
	m.age("m", 3, 1)
	found := m.discover()
	all, err := found.Select([]string{"*"})
	require.NoError(t, err)
	assert.Equal(t, []string{"good"}, names(all))
	assert.Contains(t, skipped(found)["m-00001-of-00003"], "they may still arrive")
	all, err = found.Select([]string{"m-00001-of-00003"})
	require.NoError(t, err)
	require.ErrorIs(t, all[0].Err, gguf.ErrIncomplete)
	require.ErrorContains(t, all[0].Err, gguf.ShardPath("m", 3, 3))

	ahead := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(m.path(gguf.ShardPath("m", 2, 3)), ahead, ahead))
	all, err = m.discover().Select([]string{"*"})
	require.NoError(t, err)
	assert.Equal(t, []string{"good", "m-00001-of-00003"}, names(all), "of the future: nobody knows how old it is")
}

// age makes shards three days old.
func (m models) age(prefix string, count int, numbers ...int) {
	old := time.Now().Add(-72 * time.Hour)
	for _, no := range numbers {
		require.NoError(m.t, os.Chtimes(m.path(gguf.ShardPath(prefix, no, count)), old, old))
	}
}

func TestManyShardsThatAreNotThere(t *testing.T) {
	m := newModels(t)
	gguftest.Split(gguftest.Model(gguftest.Tiny()), 2)[0].Write(t, m.path("m-00001-of-99999.gguf"))
	m.age("m", 99999, 1)
	all, err := m.discover().Select([]string{"*"})
	require.NoError(t, err)
	require.ErrorContains(t, all[0].Err, "and 99995 more")
}
