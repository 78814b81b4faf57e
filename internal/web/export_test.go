package web

// ServeOn is Serve on listeners that a test made.
var ServeOn = serve
