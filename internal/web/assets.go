package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// assets are the files that pages refer to, and the pages themselves.
type assets struct {
	pages map[string]*template.Template // by the name of their file
	files map[string]asset              // by the last segment of the path
	names map[string]string             // that segment, by the name of the file
}

type asset struct {
	contentType string
	content     []byte
}

// loadAssets gives each file a name that changes with its content, so that it can be
// kept forever. It panics when what was built in is not whole, as a test would show.
func loadAssets() assets {
	a := assets{
		pages: map[string]*template.Template{},
		files: map[string]asset{},
		names: map[string]string{},
	}
	for _, name := range []string{"status.html", "model.html", "cycle.html", "cycles.html", "config.html", "message.html"} {
		a.pages[name] = template.Must(template.New(name).Funcs(functions()).ParseFS(embedded, "assets/"+name, "assets/frame.html", "assets/parts.html"))
	}
	for name, contentType := range map[string]string{
		"style.css": "text/css; charset=utf-8",
		"live.js":   "text/javascript; charset=utf-8",
		"icon.svg":  "image/svg+xml",
	} {
		content, err := embedded.ReadFile("assets/" + name)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		extension := path.Ext(name)
		hashed := strings.TrimSuffix(name, extension) + "." + hex.EncodeToString(sum[:6]) + extension
		a.files[hashed] = asset{contentType, content}
		a.names[name] = hashed
	}
	return a
}

// favicon is what browsers ask for beside an answer that names no icon, such as metrics.
func (s *server) favicon(w http.ResponseWriter, _ *http.Request) {
	icon := s.assets.files[s.assets.names["icon.svg"]]
	w.Header().Set("Content-Type", icon.contentType)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(icon.content)
}

func (s *server) static(w http.ResponseWriter, r *http.Request) {
	file, ok := s.assets.files[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(file.content)
}
