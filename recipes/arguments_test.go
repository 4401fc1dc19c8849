package recipes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/kballard/go-shellquote"
	"mvdan.cc/sh/v3/syntax"
)

// argumentsTest is one use of a built-in pipeline: what it is given, and what it calls.
type argumentsTest struct {
	uses string
	with map[string]string
	// tools are stand-ins, with what else each does in words of the shell.
	tools map[string]string
	env   []string // variables that the record tells, where a tool gets them
	files map[string]string
	// want is what is called, a line a call: the tool and its arguments as a shell would
	// take them, variables before. OUT is the package's folder, WORK the work folder.
	want  string
	there map[string]string // files afterwards, below the work folder; OUT as above
	gone  []string
	fails string // part of what it says when it fails
	// prefetch runs the script that downloads, in place of the step's own.
	prefetch bool
}

// nothing is what a stand-in does beside being recorded.
func tools(names ...string) map[string]string {
	all := map[string]string{}
	for _, name := range names {
		all[name] = ""
	}
	return all
}

const out = "melange-out/a/" // of the package, in the work folder

var argumentsTests = []argumentsTest{
	{uses: "R/build", with: map[string]string{"package": "stats", "version": "1", "path": "s 1"}, tools: tools("Rscript"), env: []string{"path", "library"},
		want: `library=OUT/usr/lib/R/library path='s 1' Rscript -e 'install.packages(Sys.getenv("path"), lib = Sys.getenv("library"), repos = NULL, type = "source")'`},

	{uses: "autoconf/configure", with: map[string]string{"opts": "--static \\\n A='b c'"}, tools: tools("autoreconf", "configure"), files: map[string]string{"configure": "", "configure.ac": ""},
		want: `configure --host=HOST --build=HOST --prefix=/usr --sysconfdir=/etc --libdir=/usr/lib --mandir=/usr/share/man --infodir=/usr/share/info --localstatedir=/var --static 'A=b c'`},
	{uses: "autoconf/configure", with: map[string]string{"dir": "sub dir", "host": "h", "build": "b"}, tools: map[string]string{"configure": "", "autoreconf": "cp ../configure ."}, files: map[string]string{"configure": "", "sub dir/configure.ac": ""},
		want: "autoreconf -vfi\n" + `configure --host=h --build=b --prefix=/usr --sysconfdir=/etc --libdir=/usr/lib --mandir=/usr/share/man --infodir=/usr/share/info --localstatedir=/var`},
	{uses: "autoconf/make", tools: tools("make"), want: "make -C . -jN V=1"},
	{uses: "autoconf/make", with: map[string]string{"dir": "a b", "opts": "CC='gcc -m64'", "targets": "all doc"}, tools: tools("make"), want: "make -C 'a b' -jN V=1 'CC=gcc -m64' all doc"},
	{uses: "autoconf/make-install", tools: map[string]string{"make": "mkdir -p OUT/usr/lib; : >OUT/usr/lib/x.la; : >OUT/usr/lib/x.a"}, want: "make -C . install DESTDIR=OUT V=1",
		there: map[string]string{out + "usr/lib/x.a": ""}, gone: []string{out + "usr/lib/x.la"}},
	{uses: "autoconf/make-install", with: map[string]string{"targets": "install-lib install-bin", "opts": "prefix=/opt", "dir": "sub"}, tools: tools("make"),
		want: "make -C sub install-lib install-bin DESTDIR=OUT V=1 prefix=/opt"},

	{uses: "cargo/build", tools: map[string]string{"cargo": "mkdir -p target/release/deps; for f in one two; do : >target/release/$f; chmod 755 target/release/$f; done; : >target/release/one.d"}, env: []string{"RUSTFLAGS"},
		want: "RUSTFLAGS= cargo auditable build --target-dir target --release", there: map[string]string{out + "usr/bin/one": "", out + "usr/bin/two": ""}, gone: []string{out + "usr/bin/one.d", out + "usr/bin/deps"}},
	{uses: "cargo/build", with: map[string]string{"output": "one", "modroot": "sub", "opts": "--locked -p 'x y'", "rustflags": "-C target-cpu=x86-64", "jobs": "3", "prefix": "opt", "install-dir": "sbin", "output-dir": "target/debug"},
		tools: map[string]string{"cargo": "mkdir -p target/debug; for f in one two; do : >target/debug/$f; done"}, env: []string{"RUSTFLAGS"}, files: map[string]string{"sub/Cargo.toml": ""},
		want: "RUSTFLAGS='-C target-cpu=x86-64' cargo auditable build --target-dir target --locked -p 'x y' --jobs 3", there: map[string]string{out + "opt/sbin/one": ""}, gone: []string{out + "opt/sbin/two"}},

	{uses: "cmake/configure", tools: tools("cmake"), want: "cmake -B output -G Ninja -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_TYPE=Release -DCMAKE_VERBOSE_MAKEFILE=ON"},
	{uses: "cmake/configure", with: map[string]string{"output-dir": "build dir", "opts": "-DA=\"x y\" # why\n-DB=1"}, tools: tools("cmake"),
		want: "cmake -B 'build dir' -G Ninja -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_TYPE=Release -DCMAKE_VERBOSE_MAKEFILE=ON '-DA=x y' -DB=1"},
	{uses: "cmake/build", with: map[string]string{"opts": "--target all"}, tools: tools("cmake"), env: []string{"VERBOSE"}, want: "VERBOSE=1 cmake --build output --target all"},
	{uses: "cmake/install", with: map[string]string{"output-dir": "o"}, tools: tools("cmake"), env: []string{"DESTDIR"}, want: "DESTDIR=OUT cmake --install o"},

	{uses: "git-am", with: map[string]string{"patches": "a.patch\n*.patch "}, tools: tools("git"), files: map[string]string{"b.patch": ""}, want: "git am a.patch \\*.patch"},

	{uses: "go/build", with: map[string]string{"packages": "./a ./b", "output": "a", "ldflags": "-X main.v=$(echo 1)"}, tools: tools("go"), files: map[string]string{"go.mod": "module a\n"},
		env:  []string{"GOAMD64", "GOARM64", "GOEXPERIMENT", "GOMODCACHE"},
		want: "GOAMD64=v2 GOARM64=v8.0 GOEXPERIMENT= GOMODCACHE=/var/cache/melange/gomodcache go build -o OUT/usr/bin/a -tags netgo,osusergo -ldflags '-w -X main.v=1' -trimpath -buildmode default ./a ./b",
		gone: []string{".config/git/ignore"}},
	{uses: "go/build", with: map[string]string{"packages": ".", "output": "a", "modroot": "sub", "tags": "x,y", "toolchaintags": "z", "deps": "m@v1 n@v2", "vendor": "true", "tidy": "true", "strip": "-s", "install-dir": "sbin", "prefix": "opt",
		"extra-args": "-v -mod=vendor", "amd64": "v3", "arm64": "v9.0", "experiments": "boringcrypto", "buildmode": "pie"},
		tools: map[string]string{"go": "cat go.sum; cat $HOME/.config/git/ignore"}, files: map[string]string{"sub/go.mod": "module a\n", "sub/go.sum": "theirs\n", "go.sum.local": "ours\n", ".config/git/ignore": "mine\n"},
		env: []string{"GOAMD64", "GOARM64", "GOEXPERIMENT"},
		want: "go mod tidy\ngo get m@v1 n@v2\ngo mod tidy\ngo mod vendor\n" +
			"GOAMD64=v3 GOARM64=v9.0 GOEXPERIMENT=boringcrypto go build -o OUT/opt/sbin/a -tags z,x,y -ldflags '-s ' -trimpath -buildmode pie -v -mod=vendor .",
		there: map[string]string{"sub/go.sum": "ours\n", ".config/git/ignore": "mine\n"}},
	{uses: "go/build", with: map[string]string{"packages": ".", "output": "a"}, tools: tools("go"), fails: "there is no go.mod in"},
	{uses: "go/build/v2", tools: tools("go"), files: map[string]string{"go.mod": "module a\n"}, env: []string{"GOAMD64"},
		want: "GOAMD64=v2 go build -o OUT/usr/bin/ -tags netgo,osusergo -ldflags '-w ' -trimpath -buildmode default ."},
	{uses: "go/build/v2", with: map[string]string{"packages": "./cmd/x", "output": "y", "ldflags": "-s"}, tools: tools("go"), files: map[string]string{"go.mod": "module a\n"},
		want: "go build -o OUT/usr/bin/y -tags netgo,osusergo -ldflags '-w -s' -trimpath -buildmode default ./cmd/x"},
	{uses: "go/bump", with: map[string]string{"deps": "a@v1\nb@v2"}, tools: tools("gobump"), want: "gobump --packages 'a@v1 b@v2' --tidy=true --show-diff=false"},
	{uses: "go/bump", with: map[string]string{"deps": "a@v1", "replaces": "x=y@v1", "go-version": "1.26", "tidy-compat": "1.25", "work": "true", "tidy": "false", "show-diff": "true", "modroot": "sub"}, tools: tools("gobump"), files: map[string]string{"sub/go.mod": ""},
		want: "gobump --packages a@v1 --tidy=false --show-diff=true --replaces x=y@v1 --go-version 1.26 --compat 1.25 --work"},
	{uses: "go/covdata", with: map[string]string{"cover-dir": "cov"}, tools: tools("go"), want: "go tool covdata func -i=cov"},
	{uses: "go/install", with: map[string]string{"package": "m/cmd/a", "version": "v1.2.3", "tags": "x"}, tools: map[string]string{"go": ": >$GOBIN/a"}, env: []string{"GOAMD64"},
		want: "GOAMD64=v2 go install -tags netgo,osusergo,x -ldflags '-w ' -trimpath m/cmd/a@v1.2.3", there: map[string]string{out + "usr/bin/a": ""}},

	{uses: "llvm/covreport", with: map[string]string{"object": "prog"}, tools: tools("llvm-profdata", "llvm-cov"), files: map[string]string{"default_1.profraw": "", "prog": "", "other.profraw": ""},
		want: "llvm-profdata merge --sparse default_1.profraw --output default.profdata\nllvm-cov report --ignore-filename-regex= --instr-profile=default.profdata --object prog --summary-only"},
	{uses: "llvm/covreport", with: map[string]string{"ignore-filename-regex": "a|b"}, tools: map[string]string{"llvm-profdata": "", "llvm-cov": "", "apk": "echo usr/share/x; echo usr/bin/a; echo usr/bin/b"}, files: map[string]string{"default_1.profraw": ""},
		want: "llvm-profdata merge --sparse default_1.profraw --output default.profdata\napk info -qL a\nllvm-cov report '--ignore-filename-regex=a|b' --instr-profile=default.profdata --object /usr/bin/a --summary-only"},

	{uses: "maven/configure-mirror", tools: tools("mvn"), want: "", there: map[string]string{".m2": ""}},
	{uses: "maven/pombump", tools: map[string]string{"pombump": "echo new"}, files: map[string]string{"pom.xml": "old\n", "pombump-deps.yaml": "", "pombump-properties.yaml": ""},
		want: "pombump pom.xml --patch-file ./pombump-deps.yaml --properties-file ./pombump-properties.yaml", there: map[string]string{"pom.xml": "new\n"}},
	{uses: "maven/pombump", with: map[string]string{"pom": "sub/pom.xml", "dependencies": "a@b@1\nc@d@2", "properties": "p@1", "debug": "true", "show-dependency-tree": "true"}, tools: map[string]string{"pombump": "echo new", "mvn": ""}, files: map[string]string{"sub/pom.xml": "old\n"},
		want:  "mvn -f sub/pom.xml dependency:tree\npombump sub/pom.xml --dependencies 'a@b@1 c@d@2' --properties p@1\nmvn -f sub/pom.xml dependency:tree",
		there: map[string]string{"sub/pom.xml": "new\n"}},
	{uses: "maven/pombump", tools: tools("pombump"), files: map[string]string{"pom.xml": "old\n"}, fails: "nothing to bump is given"},

	{uses: "meson/configure", tools: tools("meson"), want: "meson setup . output --prefix=/usr --wrap-mode=nodownload"},
	{uses: "meson/configure", with: map[string]string{"output-dir": "o", "opts": "-Dx=true -Dy='a b'"}, tools: tools("meson"), want: "meson setup . o --prefix=/usr --wrap-mode=nodownload -Dx=true '-Dy=a b'"},
	{uses: "meson/compile", tools: tools("meson"), want: "meson compile -jN -C output"},
	{uses: "meson/install", with: map[string]string{"output-dir": "o"}, tools: tools("meson"), env: []string{"DESTDIR"}, want: "DESTDIR=OUT meson install -C o"},

	{uses: "npm/install", with: map[string]string{"package": "@scope/x", "version": "1.2"}, tools: tools("npm", "node"), want: "npm install -g @scope/x@1.2 -prefix OUT/usr/", there: map[string]string{out + "usr/bin": "", out + "usr/lib": ""}},
	{uses: "npm/install", with: map[string]string{"package": "x", "version": "1.2", "overrides": "a@1,b@2 # why"}, tools: map[string]string{"npm": "mkdir -p OUT/usr/lib/node_modules; : >OUT/usr/lib/package-lock.json", "node": ": >package.json"}, files: map[string]string{out + "usr/lib/node_modules/x": "old\n"},
		want: "npm install -g x@1.2 -prefix OUT/usr/\nnode -e SCRIPT x 1.2 'a@1,b@2 # why'\nnpm install --install-strategy=shallow .",
		gone: []string{out + "usr/lib/node_modules/x", out + "usr/lib/package.json", out + "usr/lib/package-lock.json"}},
	{uses: "npm/install", with: map[string]string{"package": "x", "version": "1.2", "npm-package": "pnpm", "overrides": "a@1", "prefix": "/home/build/p"}, tools: tools("pnpm", "node"), want: "pnpm install -g x@1.2 -prefix WORK/p\nnode -e SCRIPT x 1.2 a@1\npnpm install ."},
	{uses: "npm/install", with: map[string]string{"package": "x", "version": "1.2", "npm-package": "yarn"}, fails: "npm-package is yarn, and not npm or pnpm"},

	{uses: "pecl/phpize", tools: tools("phpize", "configure"), files: map[string]string{"configure": ""}, want: "phpize\nconfigure --prefix=/usr --with-php-config=php-config"},
	{uses: "pecl/install", with: map[string]string{"extension": "redis"}, tools: tools("make"), want: "make INSTALL_ROOT=OUT install", there: map[string]string{out + "etc/php/conf.d/redis.ini": "extension=redis.so\n"}},

	{uses: "perl/make", tools: map[string]string{"perl": `[ "$1" != -MConfig ] || echo -D_GNU`}, env: []string{"PERL_MM_USE_DEFAULT"}, want: "perl -MConfig -e 'print $Config{ccflags}'\nPERL_MM_USE_DEFAULT=1 perl -I. Makefile.PL INSTALLDIRS=vendor"},
	{uses: "perl/cleanup", files: map[string]string{out + "usr/lib/perl5/perllocal.pod": "", out + "usr/lib/perl5/auto/X/.packlist": "", out + "usr/lib/perl5/X.pm": ""},
		there: map[string]string{out + "usr/lib/perl5/X.pm": ""}, gone: []string{out + "usr/lib/perl5/perllocal.pod", out + "usr/lib/perl5/auto/X/.packlist"}},
	{uses: "perl/cleanup"},

	{uses: "python/build", tools: tools("python3"), want: "python3 setup.py build"},
	{uses: "python/install", tools: tools("python3"), want: "python3 setup.py install --prefix=/usr --root=OUT"},
	{uses: "python/build-wheel", tools: tools("python3"), files: map[string]string{"dist/a.whl": "", out + "usr/lib/python3/a.pyc": "", out + "usr/lib/python3/a.py": ""},
		want: "python3 -m build --wheel --no-isolation --outdir dist .\npython3 -m installer -d OUT dist/a.whl", there: map[string]string{out + "usr/lib/python3/a.py": ""}, gone: []string{out + "usr/lib/python3/a.pyc"}},
	{uses: "python/import", with: map[string]string{"python": "python", "import": "a"}, tools: tools("python"), want: "python -c 'import a'"},
	{uses: "python/import", with: map[string]string{"python": "python", "from": "a", "import": "b"}, tools: tools("python"), want: "python -c 'from a import b'"},
	{uses: "python/import", with: map[string]string{"python": "python", "imports": "import a\n# no\n\nfrom b import c\n"}, tools: tools("python"), want: "python -c 'import a'\npython -c 'from b import c'"},
	{uses: "python/import", with: map[string]string{"imports": "import a", "import": "b"}, fails: "give either imports, or import and from"},
	{uses: "python/import", fails: "nothing to import is given"},
	{uses: "python/test", with: map[string]string{"command": "tool 'a b' && tool c\ntool d"}, tools: tools("tool"), want: "tool 'a b'\ntool c\ntool d"},

	{uses: "ruby/build", with: map[string]string{"gem": "rake"}, tools: tools("gem"), files: map[string]string{"rake.gemspec": "a\n s.signing_key = 'x'\nb\n"}, want: "gem build rake.gemspec", there: map[string]string{"rake.gemspec": "a\nb\n"}},
	{uses: "ruby/build", with: map[string]string{"gem": "rake", "dir": "sub", "output": "x.gem", "opts": "--strict"}, tools: tools("gem"), files: map[string]string{"sub/rake.gemspec": ""}, want: "gem build rake.gemspec --output x.gem --strict"},
	{uses: "ruby/install", with: map[string]string{"gem": "rake", "version": "1.2"}, tools: map[string]string{"gem": "", "ruby": "echo /usr/lib/ruby/gems/3.4.0"},
		want: "ruby -e 'puts Gem.default_dir'\ngem install rake-1.2.gem --install-dir OUT/usr/lib/ruby/gems/3.4.0 --bindir OUT/usr/bin --version 1.2 --ignore-dependencies --no-document --local --verbose"},
	{uses: "ruby/install", with: map[string]string{"gem-file": "x y.gem", "version": "1.2", "dir": "sub", "opts": "-- --with-x='a b'"}, tools: map[string]string{"gem": "", "ruby": "echo /g"}, files: map[string]string{"sub/x": ""},
		want: "ruby -e 'puts Gem.default_dir'\ngem install 'x y.gem' --install-dir OUT/g --bindir OUT/usr/bin --version 1.2 --ignore-dependencies --no-document --local --verbose -- '--with-x=a b'"},
	{uses: "ruby/install", with: map[string]string{"version": "1"}, tools: tools("gem", "ruby"), fails: "give gem or gem-file"},
	{uses: "prefetch/go", prefetch: true, with: map[string]string{"modroot": "sub", "packages": "a@v1 'b@v2'"}, tools: tools("go"), files: map[string]string{"sub/go.mod": ""}, want: "go mod download\ngo install -n a@v1\ngo install -n b@v2"},
	{uses: "prefetch/go", prefetch: true, tools: tools("go"), files: map[string]string{"go.mod": "", "vendor/modules.txt": ""}, want: ""},
	{uses: "prefetch/npm", prefetch: true, with: map[string]string{"modroot": "sub", "opts": "--omit=dev"}, tools: map[string]string{"npm": "cat package-lock.json; : >made"}, files: map[string]string{"sub/package-lock.json": "{}"},
		want: "npm ci --ignore-scripts --omit=dev", gone: []string{"sub/made"}},
	{uses: "prefetch/npm", prefetch: true, tools: tools("npm"), fails: "there is no package-lock.json in"},
	{uses: "prefetch/cargo", prefetch: true, with: map[string]string{"modroot": "sub"}, tools: map[string]string{"cargo": "echo config"}, files: map[string]string{"sub/Cargo.toml": "", "sub/Cargo.lock": ""},
		want:  "cargo vendor --respect-source-config --versioned-dirs --no-delete --manifest-path WORK/sub/Cargo.toml --locked WORK/vendor",
		there: map[string]string{"config.toml": "config\n"}},
	{uses: "prefetch/pip", prefetch: true, with: map[string]string{"requirements": "a.txt b.txt", "packages": "x==1 'y>2'"}, tools: tools("python3"),
		want: "python3 -m pip download --only-binary :all: --dest WORK/pip -r a.txt\npython3 -m pip download --only-binary :all: --dest WORK/pip -r b.txt\npython3 -m pip download --only-binary :all: --dest WORK/pip x==1 'y>2'"},

	{uses: "go/build", prefetch: true, with: map[string]string{"packages": ".", "output": "a", "modroot": "sub", "deps": "m@v1 n@v2", "tidy": "true"}, tools: tools("go"), files: map[string]string{"sub/go.mod": "", "go.sum.local": "ours\n"},
		want: "go mod tidy\ngo get m@v1 n@v2\ngo mod tidy\ngo mod download", there: map[string]string{"sub/go.sum": "ours\n"}},
	{uses: "go/build", prefetch: true, with: map[string]string{"packages": ".", "output": "a"}, tools: tools("go"), files: map[string]string{"go.mod": "", "vendor/modules.txt": ""}, want: ""},
	{uses: "go/build/v2", prefetch: true, tools: tools("go"), files: map[string]string{"go.mod": "", "go.mod.local": "ours\n"}, want: "go mod download", there: map[string]string{"go.mod": "ours\n"}},
	{uses: "go/install", prefetch: true, with: map[string]string{"package": "m/cmd/a", "version": "v1.2.3", "tags": "x"}, tools: tools("go"), want: "go install -n -tags netgo,osusergo,x m/cmd/a@v1.2.3"},
	{uses: "go/bump", prefetch: true, with: map[string]string{"deps": "a@v1\nb@v2"}, tools: tools("gobump"), want: "gobump --packages 'a@v1 b@v2' --tidy=true --show-diff=false"},
	{uses: "cargo/build", prefetch: true, tools: tools("cargo"), files: map[string]string{"Cargo.toml": ""}, want: "cargo vendor --respect-source-config --versioned-dirs --no-delete --manifest-path WORK/Cargo.toml WORK/vendor"},
	{uses: "npm/install", prefetch: true, with: map[string]string{"package": "x", "version": "1.2", "overrides": "a@1"}, tools: tools("npm", "node"),
		want: "npm install -g --ignore-scripts --before=2026-01-01T00:00:00Z x@1.2 -prefix TMP\nnode -e SCRIPT x 1.2 a@1\nnpm install --ignore-scripts --before=2026-01-01T00:00:00Z --install-strategy=shallow ."},
	{uses: "npm/install", prefetch: true, with: map[string]string{"package": "x", "version": "1.2", "npm-package": "pnpm"}, fails: "what pnpm downloads can't be prefetched"},

	{uses: "ruby/clean", tools: map[string]string{"ruby": "echo /g"}, files: map[string]string{out + "g/build_info/x": "", out + "g/cache/x": "", out + "g/gems/x/gem_make.out": "", out + "g/gems/x/mkmf.log": "", out + "g/gems/x/x.rb": ""},
		want: "ruby -e 'puts Gem.default_dir'", there: map[string]string{out + "g/gems/x/x.rb": ""}, gone: []string{out + "g/build_info", out + "g/cache", out + "g/gems/x/gem_make.out", out + "g/gems/x/mkmf.log"}},

	{uses: "xcover/profile", with: map[string]string{"executable-path": "/bin/a", "exclude-functions": "^x", "include-functions": "y|z", "wait-timeout": "5"}, tools: tools("xcover"),
		want: "xcover run --path /bin/a --exclude=^x '--include=y|z' --scope=project --log-level=info --verbose=false --status --detach\nxcover wait --timeout 5s"},
	{uses: "xcover/wait", tools: tools("xcover"), want: "xcover wait --timeout 60s"},
	{uses: "xcover/status", tools: tools("xcover"), want: "xcover status"},
	{uses: "xcover/stop", tools: tools("xcover"), want: "xcover stop"},
	{uses: "xcover/ensure", tools: tools("jq"), files: map[string]string{"xcover-report.json": "{}"}, want: `jq -r '"functions covered: \(.cov_by_func) %"' xcover-report.json`},
	{uses: "xcover/ensure", with: map[string]string{"min-coverage": "80"}, tools: map[string]string{"jq": `[ "$1" != -e ] || exit 1`}, files: map[string]string{"xcover-report.json": "{}"}, fails: "fewer than 80 percent of the functions ran"},
	{uses: "xcover/ensure", tools: tools("jq"), fails: "there is no xcover-report.json"},
}

// shells are those that steps may get: bash, and busybox's.
func shells(t *testing.T) map[string][]string {
	all := map[string][]string{}
	if bash, err := exec.LookPath("bash"); err == nil {
		all["bash"] = []string{bash}
	}
	if busybox, err := exec.LookPath("busybox"); err == nil {
		all["busybox"] = []string{busybox, "sh"}
	}
	if len(all) < 2 && os.Getenv("CI") == "true" {
		t.Fatal("bash or busybox is absent (Debian's packages bash, busybox-static)")
	}
	if len(all) == 0 {
		t.Skip("bash and busybox are absent: scripts of pipelines want a shell with pipefail")
	}
	return all
}

// stepsOf are the steps of a recipe that uses a pipeline and does nothing else.
func stepsOf(t *testing.T, uses string, with map[string]string) []Step {
	t.Helper()
	steps, err := expandUse(t, uses, with)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func expandUse(t *testing.T, uses string, with map[string]string) ([]Step, error) {
	t.Helper()
	step := map[string]any{"uses": uses}
	if len(with) > 0 {
		step["with"] = with
	}
	text, err := json.Marshal(map[string]any{ // JSON is YAML
		"package":  map[string]any{"name": "a", "version": "1", "copyright": []any{map[string]string{"license": "MIT"}}},
		"pipeline": []any{step},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Load(fstest.MapFS{"a.yaml": {Data: text}}, "a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Expand(r, Target{Arch: "x86_64"}, nil)
	if err != nil {
		return nil, err
	}
	return s.Packages[0].Steps, nil
}

// Scripts of built-in pipelines call their tools as the pipelines' documentation says, in
// each shell that there may be. Every pipeline that is a script has a row.
func TestBuiltinArguments(t *testing.T) {
	covered, prefetched := map[string]bool{}, map[string]bool{}
	for _, test := range argumentsTests {
		covered[test.uses] = covered[test.uses] || !test.prefetch
		prefetched[test.uses] = prefetched[test.uses] || test.prefetch
		steps := stepsOf(t, test.uses, test.with)
		for name, shell := range shells(t) {
			if test.prefetch {
				name += "/prefetch"
			}
			t.Run(test.uses+"/"+name, func(t *testing.T) { test.run(t, shell, steps) })
		}
	}
	eachBuiltin(t, func(t *testing.T, file, task *Task) {
		name := strings.TrimPrefix(t.Name(), "TestBuiltinArguments/")
		if task.Runs != "" && !covered[name] {
			t.Errorf("no row tells what %s calls", name)
		}
		if task.Prefetch != "" && !prefetched[name] {
			t.Errorf("no row tells what prefetching for %s calls", name)
		}
	})
}

var jobs = regexp.MustCompile(`-j ?\d+`)

func (test *argumentsTest) run(t *testing.T, shell []string, steps []Step) {
	work := t.TempDir()
	inWork := func(text string) string {
		return strings.NewReplacer("OUT", work+"/melange-out/a", "/home/build", work).Replace(text)
	}
	record := filepath.Join(t.TempDir(), "record")
	bin := t.TempDir()
	for name, text := range test.files {
		file := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, does := range test.tools {
		// A record is a call: its name, its arguments and some of its variables, each ended by a NUL.
		text := "#!/bin/sh\n{ printf '%s\\0' " + name + " \"$@\"; printf '\\1\\0'\n"
		for _, variable := range slices.Sorted(slices.Values(test.env)) {
			text += "[ -z \"${" + variable + "+x}\" ] || printf '%s\\0' \"" + variable + "=$" + variable + "\"\n"
		}
		text += "printf '\\2\\0'; } >>'" + record + "'\n" + inWork(does) + "\n"
		file := filepath.Join(bin, name)
		if name == "configure" {
			file = filepath.Join(work, name) // which is called by its path
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	said := ""
	for _, s := range steps {
		script := s.Shell
		if test.prefetch {
			script = s.Prefetch
		}
		if script == "" {
			continue
		}
		command := exec.CommandContext(context.Background(), shell[0], append(slices.Clone(shell[1:]), "-c", "set -eo pipefail\ncd \"$1\"\nshift\n"+inWork(script)+"\nexit 0\n", "sh", work)...)
		command.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + work, "TMPDIR=" + t.TempDir(), "PREFETCH_PIP=" + work + "/pip", "PREFETCH_CARGO=" + work, "PREFETCH_BEFORE=2026-01-01T00:00:00Z"}
		text, err := command.CombinedOutput()
		said += string(text)
		if test.fails != "" && err != nil {
			if !strings.Contains(said, test.fails) {
				t.Errorf("it says %q, want %q", said, test.fails)
			}
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s\nthe script:\n%s", err, text, script)
		}
	}
	if test.fails != "" {
		t.Fatalf("it does not fail, and says %q", said)
	}
	if diff := cmp.Diff(split(t, test.want), split(t, calls(t, record, work))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(test.there)) {
		info, err := os.Stat(filepath.Join(work, name))
		if err != nil {
			t.Error(err)
		} else if !info.IsDir() {
			if got, err := os.ReadFile(filepath.Join(work, name)); err != nil || string(got) != test.there[name] {
				t.Errorf("%s is %q, %v, want %q", name, got, err, test.there[name])
			}
		}
	}
	for _, name := range test.gone {
		if _, err := os.Lstat(filepath.Join(work, name)); !os.IsNotExist(err) {
			t.Errorf("%s is there", name)
		}
	}
}

// split gives the words of each line.
func split(t *testing.T, text string) (lines [][]string) {
	t.Helper()
	for line := range strings.Lines(text) {
		words, err := shellquote.Split(line)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, words)
	}
	return lines
}

// temporary is a folder that mktemp made.
var temporary = regexp.MustCompile(`\S*/tmp\.\w+`)

// calls tells of a record as text.
func calls(t *testing.T, record, work string) string {
	t.Helper()
	data, err := os.ReadFile(record)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var lines []string
	for call := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x02\x00"), "\x02\x00") {
		words, variables, found := strings.Cut(call, "\x01\x00")
		if !found {
			continue
		}
		var parts []string
		for v := range strings.SplitSeq(strings.TrimSuffix(variables, "\x00"), "\x00") {
			if name, value, found := strings.Cut(v, "="); found {
				if value != "" {
					value = shellquote.Join(value)
				}
				parts = append(parts, name+"="+value)
			}
		}
		argv := strings.Split(strings.TrimSuffix(words, "\x00"), "\x00")
		for i := range argv {
			argv[i] = temporary.ReplaceAllString(argv[i], "TMP")
		}
		if argv[0] == "node" {
			argv[2] = "SCRIPT"
		}
		lines = append(lines, strings.Join(append(parts, shellquote.Join(argv...)), " "))
	}
	text := strings.NewReplacer(work+"/melange-out/a", "OUT", work, "WORK", "x86_64-pc-linux-gnu", "HOST").Replace(strings.Join(lines, "\n"))
	return jobs.ReplaceAllString(text, "-jN")
}

// hostile are values that try to leave their place.
var hostile = []string{"x; touch y", "x' ; touch y ; '", "x\" ; touch y ; \"", "x\ntouch y\n", "x | touch y", "x && touch y", "x > y", "x < y", "x & touch y", "x) ; touch y ; (", "x }; touch y; {", "x\nEND\ntouch y\n",
	"x #", "#", "x \\", "'", "\"", "*", "-x", "x\t y", "x $(touch y)", "x `touch y`", "${x:-$(touch y)}", "<(touch y)"}

// Whatever the value of an input is, the script of a built-in pipeline runs the same
// commands, or the value is refused. (Inputs that are words of a command line or text between
// double quotes may hold substitutions: that is what their authors write. The input of
// python/test is shell.)
func TestHostileInputs(t *testing.T) {
	shape := func(t *testing.T, steps []Step) (all []string) {
		for _, s := range steps {
			file, err := parseShell(s.Shell)
			if err != nil {
				t.Fatalf("%v\n%s", err, s.Shell)
			}
			counts := map[string]int{}
			syntax.Walk(file, func(node syntax.Node) bool {
				switch node.(type) {
				case *syntax.Stmt, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.Redirect, *syntax.ParamExp, *syntax.ArithmExp:
					counts[reflect.TypeOf(node).Elem().Name()]++
				}
				return true
			})
			all = append(all, fmt.Sprint(s.Native, counts))
		}
		return all
	}
	eachBuiltin(t, func(t *testing.T, file, task *Task) {
		if file != task {
			return
		}
		uses := strings.TrimPrefix(t.Name(), "TestHostileInputs/")
		tried, refused := 0, 0
		for name, input := range file.Inputs {
			if name == "command" && uses == "python/test" {
				continue
			}
			with := map[string]string{}
			for other, i := range file.Inputs {
				if i.Required || other == name {
					with[other] = "x"
				}
			}
			if uses == "fetch" {
				with["expected-none"] = "x"
			}
			if digestLengths[name] > 0 {
				continue // is refused unless it is hexadecimal
			}
			if file.hasNative("strip") && name == "opts" {
				with[name] = "-g"
			}
			want := shape(t, stepsOf(t, uses, with))
			for _, value := range hostile {
				if input.As != Text && (strings.ContainsAny(value, "$`") || strings.Contains(value, "<(")) {
					continue
				}
				tried++
				with[name] = value
				steps, err := expandUse(t, uses, with)
				if err != nil {
					refused++
					continue
				}
				if diff := cmp.Diff(want, shape(t, steps)); diff != "" {
					t.Errorf("%s %q:\n%s", name, value, diff)
				}
			}
		}
		if tried > 0 && refused == tried {
			t.Error("every value is refused: the test shows nothing")
		}
	})
}

// Options of strip that tarn does not know are a mistake of the recipe, not of its build.
func TestStripOptions(t *testing.T) {
	if _, err := expandUse(t, "strip", map[string]string{"opts": "-g --keep-symbol=main"}); err != nil {
		t.Error(err)
	}
	_, err := expandUse(t, "strip", map[string]string{"opts": "--only-keep-debug"})
	if err == nil || !strings.HasPrefix(err.Error(), "a.yaml:1:") || !strings.Contains(err.Error(), "strip: option --only-keep-debug is not known") {
		t.Errorf("got %v", err)
	}
}
