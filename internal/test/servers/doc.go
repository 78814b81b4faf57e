// Package servers starts real servers (Redis, Prometheus and the like) for tests.
//
// A server listens on a free port of 127.0.0.1 and keeps its files in a folder of the
// test's own. It is ready when its Start function returns, and gone, with everything it
// started, when the test is over. On Linux it also goes when the test binary dies of a
// panic, a timeout or a signal. What it printed is logged when the test has failed.
//
// The programs are those on PATH; where one is missing, scripts/get-debian-tools
// downloads it into .tools/debian of the module, once (see there for other systems than
// Debian). The environment variable TEST_TOOLS_DIR names a folder that holds all of them
// instead.
//
// All functions end the test at once when something fails (t.Fatal), hence belong in the
// test's own goroutine, except where their documentation says otherwise. The methods of
// one server are not safe for concurrent use.
package servers
