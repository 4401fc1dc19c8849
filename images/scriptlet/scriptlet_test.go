package scriptlet_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images/scriptlet"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// root is a tree with what a base layout brings.
func root(t testing.TB) *rootfs.Tree {
	t.Helper()
	tree := rootfs.New()
	for _, dir := range []string{"etc", "bin", "usr/bin", "home", "var/lib", "var/empty", "run"} {
		if err := tree.Mkdir(dir, 0o755, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
		"etc/group":  "root:x:0:root\ntty:x:5:\nnogroup:x:65533:\nnobody:x:65534:\n",
		"etc/shadow": "root:!::0:::::\n",
		"etc/shells": "/bin/sh\n",
	} {
		if err := tree.WriteFile(path, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.WriteFile("usr/bin/tool", []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	return tree
}

// The expected lines are those that busybox 1.37 wrote when it ran these commands in a
// root with the same passwd and group.
func TestAccountsAsBusyboxMakesThem(t *testing.T) {
	tree := root(t)
	_, err := scriptlet.Do(tree, scriptlet.Script{Content: []byte(`#!/bin/sh
addgroup -S -g 42 shadow
adduser -S -D -H -h /var/empty -s /bin/nologin rpc
adduser -D web
adduser -S -D sys1
addgroup -S nginx
adduser -S -D -h /var/lib/nginx -s /sbin/nologin -G nginx -g nginx nginx
addgroup nginx web
adduser -D -G web -u 5000 bob
adduser -S -D -G shadow -g 'x y' eve
addgroup plain
adduser web shadow
adduser -S -D -H -G nosuch zed
addgroup -S nginx
adduser -D -g '' fred
addgroup -g 42 x
adduser -u 5000 y
adduser -S -u 82 -D -S -H -h /home/www -s /sbin/nologin -G www-data -g www-data www-data
addgroup -g 82 -S www-data
adduser -u 82 -D -S -H -h /home/www -s /sbin/nologin -G www-data -g www-data www-data
`)})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"etc/passwd": `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/sbin/nologin
rpc:x:100:65533:Linux User,,,:/var/empty:/bin/nologin
web:x:1000:1000:Linux User,,,:/home/web:/bin/sh
sys1:x:101:65533:Linux User,,,:/home/sys1:/bin/false
nginx:x:102:100:nginx:/var/lib/nginx:/sbin/nologin
bob:x:5000:1000:Linux User,,,:/home/bob:/bin/sh
eve:x:103:42:x y:/home/eve:/bin/false
fred:x:1002:1002::/home/fred:/bin/sh
www-data:x:82:82:www-data:/home/www:/sbin/nologin
`,
		"etc/group": `root:x:0:root
tty:x:5:
nogroup:x:65533:rpc,sys1
nobody:x:65534:
shadow:x:42:eve,web
web:x:1000:nginx,bob
nginx:x:100:nginx
plain:x:1001:
fred:x:1002:
www-data:x:82:www-data
`,
	} {
		got, err := tree.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", file, diff)
		}
	}
	var list bytes.Buffer
	if err := tree.List(&list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"d2755 1000:1000 /home/web\n", "d2755 5000:1000 /home/bob\n", "d2755 103:42 /home/eve\n", "d2755 102:100 /var/lib/nginx\n"} {
		if !strings.Contains(list.String(), want) {
			t.Errorf("tree has no %q", want)
		}
	}
}

func TestDo(t *testing.T) {
	tests := []struct {
		summary, script string
		args            []string
		want            string // what was done, one thing a line
	}{
		{"nothing", "#!/bin/sh\n# only words\nexit 0\n", nil, ""},
		{"empty", "", nil, ""},
		{"messages", "#!/bin/sh\necho hello >&2\ncat >&2 <<EOF\n$1\nEOF\nprintf '%s\\n' x\n", nil, ""},
		{"what is there", "#!/bin/sh\nmkdir -p /var/lib\n[ -e /etc/shells ] || touch /etc/shells\n", nil, ""},
		{"a condition of the tree", "#!/bin/sh\nif [ -x /usr/bin/tool ] && ! [ -d /srv ]; then mkdir /srv; else adduser x; fi\n", nil, "make folder /srv"},
		{"rpcbind of Wolfi", "#!/bin/sh\nmkdir -p /var\n[ -e /var/run ] || ln -sf ../run /var/run\nadduser -S -D -H -h /var/empty -s /bin/nologin rpc 2>/dev/null\nexit 0\n", nil,
			"make link /var/run to ../run\nadd user rpc (100:65533)\nlet user rpc join group nogroup"},
		{"a user that is there", "#!/bin/sh\nset -e\ngetent passwd nobody >/dev/null || adduser -S nobody\nid -u nobody || exit 1\n", nil, ""},
		{"set -e ends it", "#!/bin/sh\nset -e\nfalse\nmkdir /srv\n", nil, ""},
		{"owners and modes", "#!/bin/sh\ninstall -d -m 0750 -o nobody -g nogroup /var/lib/x\nchown -R root:tty /var/lib/x\nchmod u+s,o-x /usr/bin/tool\nchmod -R g+w /var/lib/x\n", nil,
			"make folder /var/lib/x\ngive /var/lib/x to 65534:65533\ngive /var/lib/x the mode 0750\ngive /var/lib/x to 0:5\ngive /usr/bin/tool the mode 4754\ngive /var/lib/x the mode 0770"},
		{"a small file", "#!/bin/sh\ngrep -q '^/bin/zsh$' /etc/shells || echo /bin/zsh >> /etc/shells\ncat > /etc/new <<EOF\na $1\nEOF\n", []string{"1.0-r0"}, "write /etc/shells\nwrite /etc/new"},
		{"a file that stays", "#!/bin/sh\n[ -e /etc/shells ] || cp /usr/bin/tool /etc/shells\ncp -n /usr/bin/tool /etc/shells\ncp /usr/bin/tool /usr/bin/tool2\n", nil, "copy /usr/bin/tool to /usr/bin/tool2"},
		{"functions and variables", "#!/bin/sh\nuser=${2:-www}\nmake() {\n  local dir=$1\n  mkdir -p \"$dir/$user\"\n  return 0\n}\nfor d in /srv/a /srv/b; do make $d; done\n", nil, "make folder /srv/a/www\nmake folder /srv/b/www"},
		{"a trigger's folders", "#!/bin/sh\nfor i in \"$@\"; do case $i in /lib/modules/*) depmod;; *) install=yes;; esac; done\n[ -n \"$install\" ] && /bin/busybox --install -s\n", []string{"/bin", "/usr/bin"}, ""},
		{"what a function would do, and nobody asks for", "#!/bin/sh\nf() { depmod; }\n[ -x /sbin/rc ] && f\n", nil, ""},
		{"alternatives", "#!/bin/sh\nupdate-alternatives --install /usr/bin/vi vi /usr/bin/nvi 10\nupdate-alternatives --install /usr/bin/vi vi /usr/bin/vim 50 --slave /usr/share/vi.1 vi.1 /usr/share/vim.1\nupdate-alternatives --install /usr/bin/vi vi /usr/bin/ed 50\n", nil,
			"let /usr/bin/vi lead to /usr/bin/nvi\nlet /usr/bin/vi lead to /usr/bin/vim\nlet /usr/share/vi.1 lead to /usr/share/vim.1"},
		{"what the composer makes", "#!/bin/sh\nldconfig || true\n/usr/sbin/update-ca-certificates --fresh >/dev/null 2>&1\nsystemctl daemon-reload\n", nil, ""},
		{"shadow's programs", "#!/bin/sh\ngroupadd -r db && useradd --system --gid db --no-create-home --shell /bin/false --home-dir /var/lib/db -G tty db\n", nil, "add group db (999)\nadd user db (999:999)\nlet user db join group tty"},
		{"a command in words", "#!/bin/sh\ncase \"$(readlink /etc/none 2>/dev/null || true)\" in color) mkdir /srv;; esac\nd=$(dirname /opt/a/b); mkdir -p \"$d\"\n", nil, "make folder /opt/a"},
		{"files that a pattern finds", "#!/bin/sh\nfor f in /usr/bin/t*; do chmod 700 \"$f\"; done\n", nil, "give /usr/bin/tool the mode 0700"},
		{"what is for its owner alone", "#!/bin/sh\n(umask 077; mkdir -p /srv/a/b; echo x > /srv/a/key; touch /srv/a/empty; cp /usr/bin/tool /srv/a/tool)\nmkdir /srv/open\n[ $(umask) = 0022 ] && chmod 700 /srv /srv/a /srv/a/b && chmod 600 /srv/a/key /srv/a/empty && chmod 700 /srv/a/tool && chmod 755 /srv/open\n", nil,
			"make folder /srv/a/b\nwrite /srv/a/key\nmake file /srv/a/empty\ncopy /usr/bin/tool to /srv/a/tool\nmake folder /srv/open"},
		{"signals do not come", "#!/bin/sh\ntrap 'rm -rf /etc' INT TERM\ntrap - EXIT\ntrap '' EXIT\n", nil, ""},
		{"command runs what a function hides", "#!/bin/sh\nmkdir() { depmod; }\ncommand mkdir /srv\ncommand -v depmod || unset -f mkdir\nmkdir /opt\n", nil, "make folder /srv\nmake folder /opt"},
		{"an expression and the ends of lines", "#!/bin/sh\ngrep -q '^root:[^:]*:0:.*nobody' /etc/passwd && mkdir /srv\ngrep -q '^root:[^,]*nobody' /etc/passwd && mkdir /srv\n", nil, ""},
		{"services where there are none", "#!/bin/sh\nsystemctl enable web || true\n", nil, ""},
		{"folders of nobody's home", "#!/bin/sh\nmkdir -p ~nobody/x\n", nil, "make folder /x"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			done, err := scriptlet.Do(root(t), scriptlet.Script{Content: []byte(test.script), Args: test.args})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, strings.Join(done, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What nobody can do without running it is told with its line.
func TestUnhandled(t *testing.T) {
	tests := []struct{ summary, script, want string }{
		{"an unknown program", "#!/bin/sh\n\nssh-keygen -A -q -N \"\"\n", `line 3: ssh-keygen -A -q -N ""`},
		{"openssh of Wolfi", "#!/bin/sh\nif grep -q '^openssl-config-fipshardened-3.1.2' /etc/apk/world; then\n ssh-keygen -t rsa\nelse\n ssh-keygen -A\nfi\n", "line 5: ssh-keygen -A"},
		{"gtk of Wolfi", "#!/bin/sh\nglib-compile-schemas /usr/share/glib-2.0/schemas\n", "line 2: glib-compile-schemas /usr/share/glib-2.0/schemas"},
		{"in a condition", "#!/bin/sh\nif uname | grep -q x; then :; fi\n", "line 2: uname | grep -q x (a pipe)"},
		{"in words", "#!/bin/sh\nmkdir \"/$(hostname)\"\n", "line 2: hostname"},
		{"without end", "#!/bin/sh\nf() { f; }\nf\n", "line 2: f (too deep)"},
		{"a loop without end", "#!/bin/sh\nwhile true; do :; done\n", "line 2: while true; do :; done"},
		{"in the background", "#!/bin/sh\nmkdir /srv &\n", "line 2: mkdir /srv & (in the background)"},
		{"another language", "#!/usr/bin/perl\nprint 1;\n", "line 1: #!/usr/bin/perl: the interpreter is no shell"},
		{"what the shell can't read", "#!/bin/sh\nif true\n", "line 2: "},
		{"removal", "#!/bin/sh\nrm -f /etc/none\nrm -rf /etc/shells\n", "line 3: rm -rf /etc/shells (it removes what is there)"},
		{"an option", "#!/bin/sh\nadduser --frobnicate x\n", "line 2: adduser --frobnicate x (option --frobnicate)"},
		{"a device as output", "#!/bin/sh\necho x > /etc\n", "line 2: echo x >/etc"},
		{"a hard link", "#!/bin/sh\nln /etc/shells /etc/other\n", "line 2: ln /etc/shells /etc/other"},
		{"a file of this machine", "#!/bin/sh\n. /lib/functions.sh\n", "line 2: . /lib/functions.sh"},
		{"braces", "#!/bin/sh\nmkdir /srv/{1..999999999}\n", "line 2: mkdir /srv/{1..999999999} (braces)"},
		{"a value that grows", "#!/bin/sh\nx=xxxxxxxx\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do x=$x$x; done\n", "line 3: x=$x$x (a long value)"},
		{"at the end of the script", "#!/bin/sh\ntrap 'ssh-keygen -A' EXIT\n", "line 2: trap 'ssh-keygen -A' EXIT (what is done at EXIT)"},
		{"a program by command", "#!/bin/sh\ncommand depmod\n", "line 2: command depmod"},
		{"a program of a known name", "#!/bin/sh\n/opt/own/adduser web\n", "line 2: /opt/own/adduser web"},
		{"a program of a known name in front of it", "#!/bin/sh\ninstall -D -m 755 /usr/bin/tool /opt/own/adduser\nPATH=/opt/own:$PATH\nadduser web\n", "line 4: adduser web"},
		{"services that are to start", "#!/bin/sh\ncp /usr/bin/tool /usr/bin/systemctl\nsystemctl enable web\n", "line 3: systemctl enable web (it changes which services start)"},
		{"output elsewhere", "#!/bin/sh\necho x 3>/etc/three\n", "line 2: echo x 3>/etc/three (where its output goes)"},
		{"output to two files", "#!/bin/sh\necho x >/etc/a >/etc/b\n", "line 2: echo x >/etc/a >/etc/b (where its output goes)"},
		{"a long value of the environment", "#!/bin/sh\nx=$(cat /etc/passwd)\nfor i in 1 2 3 4 5 6; do export y=\"$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x\"; done\n", "line 3: "},
		{"text as a script", "#!/bin/sh\neval \"mkdir /srv\"\n", `line 2: eval "mkdir /srv"`},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			done, err := scriptlet.Do(root(t), scriptlet.Script{Content: []byte(test.script)})
			if _, ok := errors.AsType[*scriptlet.Unhandled](err); !ok || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %q, %v; want %q", done, err, test.want)
			}
		})
	}
}

// Whatever a script says: there is an end, and the same tree each time.
func FuzzDo(f *testing.F) {
	for _, s := range []string{"#!/bin/sh\nadduser -S x\n", "for i in a b; do mkdir /$i; done", "case $1 in *) ln -s a /b;; esac", "x=$(cat /etc/passwd); echo \"$x\" > /etc/y", "echo ${x:-~root} ${y#*/} $((1+1)) > /z", "printf '%d %s' 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		var lists [2]string
		for i := range lists {
			tree := root(t)
			done, err := scriptlet.Do(tree, scriptlet.Script{Content: script, Args: []string{"1-r0"}})
			if err != nil {
				if _, ok := errors.AsType[*scriptlet.Unhandled](err); !ok {
					t.Fatalf("got %v, want no other error than that the script is unhandled", err)
				}
			}
			var list bytes.Buffer
			if err := tree.List(&list); err != nil {
				t.Fatal(err)
			}
			lists[i] = list.String() + strings.Join(done, "\n")
		}
		if lists[0] != lists[1] {
			t.Error("the same script gives two trees")
		}
	})
}
