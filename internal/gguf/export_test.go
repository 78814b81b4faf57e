package gguf

// Parse is parse, for the fuzz target, which has no file.
var Parse = parse
