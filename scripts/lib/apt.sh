# Debian packages without root and without changing the system; sourced by the scripts
# beside this folder, which define say (a line on standard error) and manual (say, tell
# what to install by hand, exit 1).
#
# apt's own client does the work, with lists, cache and package database of its own in
# a folder of ours: of the system only the mirror, the keys and the settings are read.
# Because that package database is empty, apt computes every dependency down to libc.

# debian_here WHAT: goes on only where Debian's packages can be fetched and run.
debian_here() {
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
		manual "$1 not on PATH, and there is no apt-get here to fetch packages with."
	# Other distributions' mirrors have no such suites, and their libraries do not mix.
	[ "$(. /etc/os-release && echo "$ID")" = debian ] ||
		manual "$1 not on PATH, and only Debian's packages can be fetched: this is $(. /etc/os-release && echo "$PRETTY_NAME")."
}

# debian_mirror prints the mirror that this system already uses.
debian_mirror() {
	mirror=$(apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
		sed -n 's/^Debian|//p' | grep -v -e '-security' -e cdrom: | head -n 1)
	[ -n "$mirror" ] || mirror=$(apt-get update --print-uris 2>/dev/null |
		sed -n "s|^'\(.*/\)dists/.*InRelease'.*|\1|p" | grep -v -e '-security' | head -n 1)
	[ -n "$mirror" ] || manual "apt-get names no package mirror here (is /etc/apt/sources.list empty?)."
	echo "$mirror"
}

# own_apt_new FOLDER: an apt of our own in FOLDER, which is emptied first.
own_apt_new() {
	rm -rf "$1"
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/state" "$1/log" "$1/conf"
	: >"$1/state/status"
	# The system's own settings (proxies, credentials) come first, ours after them. Hooks
	# of the system that follow an update are taken out: they change the system.
	for file in /etc/apt/apt.conf.d/*; do
		[ ! -f "$file" ] || ln -s "$file" "$1/conf/"
	done
	cat >"$1/conf/zz-own" <<EOF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::Etc::SourceList "$1/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State "$1/state";
Dir::State::Lists "$1/lists";
Dir::State::status "$1/state/status";
Dir::Cache "$1/cache";
Dir::Log "$1/log";
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
EOF
	printf 'Dir::Etc::Parts "%s/conf";\n' "$1" >"$1/apt.conf"
}

# own_apt_download FOLDER MIRROR SUITE PACKAGE...: the packages and all they depend on,
# into FOLDER/cache/archives. On failure apt's words are at the end of FOLDER/log/out.
own_apt_download() {
	folder=$1
	echo "deb $2 $3 main" >"$folder/sources.list"
	shift 3
	APT_CONFIG="$folder/apt.conf" apt-get -q update >>"$folder/log/out" 2>&1 &&
		APT_CONFIG="$folder/apt.conf" apt-get -q install -y --download-only "$@" >>"$folder/log/out" 2>&1
}
