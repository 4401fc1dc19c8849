package signature_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/tarn-build/tarn/pkg/signature"
)

var (
	message = []byte("the bytes that upstream signed\n")
	made    = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	now     = signature.Options{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
)

func content(data []byte) signature.Content {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func at(t time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return t }, Algorithm: packet.PubKeyAlgoEdDSA}
}

// entity is a key made a year before it signs.
func entity(t *testing.T) *openpgp.Entity {
	t.Helper()
	c := at(made.AddDate(-1, 0, 0))
	e, err := openpgp.NewEntity("Up Stream", "", "up@example.org", c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// expire says of a key that it is good for so long.
func expire(t *testing.T, e *openpgp.Entity, lifetime time.Duration) {
	t.Helper()
	seconds := uint32(lifetime / time.Second)
	for _, id := range e.Identities {
		id.SelfSignature.KeyLifetimeSecs = &seconds
		if err := id.SelfSignature.SignUserId(id.UserId.Id, e.PrimaryKey, e.PrivateKey, at(made.AddDate(-1, 0, 0))); err != nil {
			t.Fatal(err)
		}
	}
}

func public(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func detached(t *testing.T, e *openpgp.Entity, data []byte, c *packet.Config) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, e, bytes.NewReader(data), c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func keys(t *testing.T, scheme signature.Scheme, data ...[]byte) *signature.Keys {
	t.Helper()
	var files []signature.File
	for _, d := range data {
		files = append(files, signature.File{Name: "key", Data: d})
	}
	k, err := signature.ReadKeys(scheme, files)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// refused fails unless err is an *Error that says why.
func refused(t *testing.T, err error, why string) {
	t.Helper()
	if e, is := errors.AsType[*signature.Error](err); !is || !strings.Contains(e.Error(), why) {
		t.Errorf("got %v, want an *Error with %q", err, why)
	}
}

func TestPGPDetached(t *testing.T) {
	good, other, expired, was, stolen, retired := entity(t), entity(t), entity(t), entity(t), entity(t), entity(t)
	of := func(e *openpgp.Entity) []byte { return detached(t, e, message, at(made)) }
	byExpired, byWas, byStolen, byRetired := of(expired), of(was), of(stolen), of(retired)
	expire(t, expired, 367*24*time.Hour) // soon after it signed
	expire(t, was, 24*time.Hour)         // long before
	if err := stolen.RevokeKey(packet.KeyCompromised, "", at(made.AddDate(0, 1, 0))); err != nil {
		t.Fatal(err)
	}
	if err := retired.RevokeKey(packet.KeyRetired, "", at(made.AddDate(0, 1, 0))); err != nil {
		t.Fatal(err)
	}
	short := at(made)
	short.SigLifetimeSecs = 60
	binary := func() []byte {
		var b bytes.Buffer
		if err := openpgp.DetachSign(&b, good, bytes.NewReader(message), at(made)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}()
	for _, test := range []struct {
		name      string
		signature []byte
		keys      *openpgp.Entity
		fails     string
	}{
		{name: "armoured", signature: of(good), keys: good},
		{name: "binary", signature: binary, keys: good},
		{name: "of two, one is of a key that is believed", signature: append(of(other), of(good)...), keys: good},
		{name: "the key has expired since", signature: byExpired, keys: expired},
		{name: "the key had expired before", signature: byWas, keys: was, fails: "expired"},
		{name: "the key was stolen since", signature: byStolen, keys: stolen, fails: "revoked"},
		{name: "the key was retired since", signature: byRetired, keys: retired},
		{name: "it was to count for a minute", signature: detached(t, good, message, short), keys: good},
		{name: "another key", signature: of(other), keys: good, fails: "no believed key made it"},
		{name: "other bytes", signature: detached(t, good, []byte("other"), at(made)), keys: good, fails: "signature"},
		{name: "dated in the future", signature: detached(t, good, message, at(now.Now.AddDate(0, 0, 3))), keys: good, fails: "yet to come"},
		{name: "empty", keys: good, fails: "empty"},
		{name: "no signature", signature: []byte("<html>404</html>"), keys: good, fails: "does not hold"},
		{name: "half of one", signature: of(good)[:100], keys: good, fails: "does not hold"},
		{name: "a key", signature: public(t, good), keys: good, fails: "does not hold"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := keys(t, signature.PGP, public(t, test.keys)).Verify(content(message), test.signature, now)
			if test.fails != "" {
				refused(t, err, test.fails)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != "Up Stream <up@example.org>" || !s.At.Equal(made) {
				t.Errorf("signer %v at %v", s, s.At)
			}
		})
	}
	// What cannot be read is no fault of the signature.
	broken := errors.New("disk is gone")
	_, err := keys(t, signature.PGP, public(t, good)).Verify(func() (io.ReadCloser, error) { return nil, broken }, of(good), now)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// Of several copies of a key all that they say of it counts, in whatever order they are read.
func TestPGPCopiesOfAKey(t *testing.T) {
	year := 365 * 24 * time.Hour
	stolen, renewed, grown := entity(t), entity(t), entity(t)
	young := public(t, stolen)
	byStolen := detached(t, stolen, message, at(made))
	if err := stolen.RevokeKey(packet.KeyCompromised, "", at(made.AddDate(0, 1, 0))); err != nil {
		t.Fatal(err)
	}
	expire(t, renewed, year/2) // before it signed
	short := public(t, renewed)
	for _, id := range renewed.Identities {
		id.SelfSignature.CreationTime = made.AddDate(0, -10, 0) // of two the newer counts
	}
	expire(t, renewed, 9*year)
	small := public(t, grown)
	if err := grown.AddSigningSubkey(at(made.AddDate(-1, 1, 0))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		a, b      []byte
		signature []byte
		fails     string
	}{
		{name: "one says that it was stolen", a: young, b: public(t, stolen), signature: byStolen, fails: "revoked"},
		{name: "one says that it is good for longer", a: short, b: public(t, renewed), signature: detached(t, renewed, message, at(made))},
		{name: "one has the subkey", a: small, b: public(t, grown), signature: detached(t, grown, message, at(made))},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, files := range [][][]byte{{test.a, test.b}, {test.b, test.a}, {append(bytes.Clone(test.a), test.b...)}} {
				k := keys(t, signature.PGP, files...)
				if n := len(k.Fingerprints()); n != 1 {
					t.Errorf("order %d: %d keys", i, n)
				}
				_, err := k.Verify(content(message), test.signature, now)
				if test.fails != "" {
					refused(t, err, test.fails)
				} else if err != nil {
					t.Errorf("order %d: %v", i, err)
				}
			}
		})
	}
}

func TestPGPClearSigned(t *testing.T) {
	good := entity(t)
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, good.PrivateKey, at(made))
	if err != nil {
		t.Fatal(err)
	}
	const list = "- a line that begins with a dash\nabc  file\n"
	if _, err := io.WriteString(w, list); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := append(b.Bytes(), '\n')
	k := keys(t, signature.PGP, public(t, good))
	got, _, err := k.OpenClearSigned(text, now)
	if err != nil || string(got) != list {
		t.Fatalf("got %q, %v", got, err)
	}
	for name, wrong := range map[string][]byte{
		"another text":  bytes.Replace(text, []byte("abc"), []byte("abd"), 1),
		"more after it": append(bytes.Clone(text), "abd  file\n"...),
		"more before":   append([]byte("abd  file\n"), text...),
		"cut off":       text[:len(text)/2],
		"not signed":    []byte(list),
	} {
		if _, _, err := k.OpenClearSigned(wrong, now); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
	if _, err := k.Verify(content(message), text, now); err == nil {
		t.Error("a clear-signed text is believed of other bytes")
	}
}

func TestMinisign(t *testing.T) {
	pub, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pubText, _ := pub.MarshalText()
	otherPub, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherText, _ := otherPub.MarshalText()
	legacy := minisign.SignWithComments(private, message, "timestamp:1714979289\tfile:x.tar.gz", "u")
	r := minisign.NewReader(bytes.NewReader(message))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	hashed := r.SignWithComments(private, "timestamp:1714979289\tfile:x.tar.gz\thashed", "u")
	k := keys(t, signature.Minisign, otherText, pubText)
	for name, text := range map[string][]byte{"hashed": hashed, "legacy": legacy} {
		s, err := k.Verify(content(message), text, now)
		if err != nil || !s.At.Equal(made) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		_, err = k.Verify(content([]byte("other")), text, now)
		refused(t, err, "not over these bytes")
		_, err = k.Verify(content(message), bytes.Replace(text, []byte("1714979289"), []byte("1714979280"), 1), now)
		refused(t, err, "not over these bytes")
		_, err = keys(t, signature.Minisign, otherText).Verify(content(message), text, now)
		refused(t, err, "no believed key")
	}
	_, err = k.Verify(content(message), []byte("untrusted comment: x\nabc\n"), now)
	refused(t, err, "invalid")
}

func sshKey(t *testing.T, key any) (ssh.Signer, []byte) {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.PublicKey()))
}

func TestSSH(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, pub := sshKey(t, rsaKey)
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, weakPub := sshKey(t, weakKey)
	sign := func(data []byte, namespace string) []byte {
		s, err := sshsig.Sign(bytes.NewReader(data), signer, sshsig.HashSHA512, namespace)
		if err != nil {
			t.Fatal(err)
		}
		return sshsig.Armor(s)
	}
	good := sign(message, "file")
	line := func(before string) []byte { return []byte(before + string(pub) + "\n") }
	for _, test := range []struct {
		name  string
		keys  []byte
		sig   []byte
		who   string
		fails string
	}{
		{name: "a .pub file", keys: append(bytes.Clone(pub), " me@host"...), sig: good, who: "me@host"},
		{name: "allowed signers", keys: append([]byte("# them\n\n"), line("a@example.org,b@example.org ")...), sig: good, who: "a@example.org,b@example.org"},
		{name: "a quoted principal", keys: line(`"a b" `), sig: good, who: "a b"},
		{name: "the namespace is allowed", keys: line(`me namespaces="git,file" `), sig: good, who: "me"},
		{name: "a pattern allows it", keys: line(`me namespaces="f*" `), sig: good, who: "me"},
		{name: "the namespace is not allowed", keys: line(`me namespaces="git" `), sig: good, fails: `may not sign for the namespace "file"`},
		{name: "in its time", keys: line(`me valid-after="20200101",valid-before="20300101000000Z" `), sig: good, who: "me"},
		{name: "after its time", keys: line(`me valid-before="20250101" `), sig: good, fails: "allowed until 2025-01-01"},
		{name: "before its time", keys: line(`me valid-after="202701011200" `), sig: good, fails: "allowed from 2027-01-01 on"},
		{name: "of two lines one fits", keys: append(line(`me valid-before="20250101" `), line("again ")...), sig: good, who: "again"},
		{name: "another namespace", keys: pub, sig: sign(message, "git"), fails: `for the namespace "git", expected "file"`},
		{name: "other bytes", keys: pub, sig: sign([]byte("other"), "file"), fails: "not over these bytes"},
		{name: "no signature", keys: pub, sig: []byte("x"), fails: "does not hold"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := keys(t, signature.SSH, test.keys).Verify(content(message), test.sig, now)
			if test.fails != "" {
				refused(t, err, test.fails)
			} else if err != nil || s.Name != test.who {
				t.Errorf("got %v, %v, want %s", s, err, test.who)
			}
		})
	}
	for name, text := range map[string][]byte{
		"weak":                weakPub,
		"an authority":        line("me cert-authority "),
		"an unknown option":   line("me no-such "),
		"a time that is none": line(`me valid-before="soon" `),
		"a private key":       []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
		"nothing":             []byte("# none\n"),
	} {
		if _, err := signature.ReadKeys(signature.SSH, []signature.File{{Name: "k", Data: text}}); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	e := entity(t)
	var private bytes.Buffer
	w, err := armor.Encode(&private, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SerializePrivate(w, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string][]byte{"private": private.Bytes(), "empty": nil, "text": []byte("hello"), "too large": make([]byte, signature.MaxSize+1)} {
		for _, scheme := range signature.Schemes() {
			if _, err := signature.ReadKeys(scheme, []signature.File{{Name: "k.asc", Data: f}}); err == nil || !strings.Contains(err.Error(), "k.asc: ") {
				t.Errorf("%s, %s: %v", scheme, name, err)
			}
		}
	}
	if _, err := signature.ReadKeys(signature.PGP, nil); err == nil {
		t.Error("no keys at all are believed")
	}
}

// The programs that people sign with make signatures that hold here: gpg, ssh-keygen, and
// git with both.
func TestToolsOfThisMachine(t *testing.T) {
	for _, program := range []string{"gpg", "ssh-keygen", "git"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	// gpg's agent has a socket in it, whose path must be short.
	dir, err := os.MkdirTemp("", "sig")
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "GNUPGHOME="+dir, "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Up", "GIT_AUTHOR_EMAIL=up@example.org", "GIT_COMMITTER_NAME=Up", "GIT_COMMITTER_EMAIL=up@example.org")
	run := func(program string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.Output()
		if err != nil {
			if e, is := errors.AsType[*exec.ExitError](err); is {
				t.Fatalf("%s %v: %v: %s", program, args, err, e.Stderr)
			}
			t.Fatal(err)
		}
		return out
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = env
		_ = cmd.Run()
		os.RemoveAll(dir)
	})
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), message, 0o600); err != nil {
		t.Fatal(err)
	}
	today := signature.Options{Now: time.Now()}

	run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "up@example.org", "ed25519", "sign", "1y")
	pgp := keys(t, signature.PGP, run("gpg", "--export", "up@example.org"))
	run("gpg", "--batch", "--armor", "--detach-sign", "file")
	run("gpg", "--batch", "--detach-sign", "--textmode", "file")
	run("gpg", "--batch", "--clear-sign", "--output", "clear", "file")
	for _, name := range []string{"file.asc", "file.sig"} {
		if _, err := pgp.Verify(content(message), read(name), today); err != nil {
			t.Errorf("gpg %s: %v", name, err)
		}
	}
	// Over a SHA-1, as some still sign.
	run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "old@example.org", "rsa2048", "sign", "1y")
	run("gpg", "--batch", "--local-user", "old@example.org", "--digest-algo", "SHA1", "--detach-sign", "--output", "sha1", "file")
	old := keys(t, signature.PGP, run("gpg", "--export", "old@example.org"))
	_, err = old.Verify(content(message), read("sha1"), today)
	refused(t, err, "insecure message hash algorithm: SHA-1")
	accepting := today
	accepting.SHA1 = true
	if _, err := old.Verify(content(message), read("sha1"), accepting); err != nil {
		t.Errorf("a SHA-1 that is accepted: %v", err)
	}
	_, err = old.Verify(content([]byte("other")), read("sha1"), accepting)
	refused(t, err, "does not hold")
	if text, _, err := pgp.OpenClearSigned(read("clear"), today); err != nil || !bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(message)) {
		t.Errorf("gpg clear-signed: %q, %v", text, err)
	}

	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "up", "-f", "id")
	if err := os.WriteFile(filepath.Join(dir, "other"), message, 0o600); err != nil {
		t.Fatal(err)
	}
	run("ssh-keygen", "-q", "-Y", "sign", "-f", "id", "-n", "file", "other")
	signers := keys(t, signature.SSH, append([]byte("up@example.org "), read("id.pub")...))
	if _, err := signers.Verify(content(message), read("other.sig"), today); err != nil {
		t.Errorf("ssh-keygen: %v", err)
	}

	run("git", "init", "--quiet", "repo")
	git := func(args ...string) []byte {
		t.Helper()
		return run("git", append([]string{"-C", "repo", "-c", "gpg.ssh.defaultKeyCommand=", "-c", "user.signingKey=" + map[bool]string{true: filepath.Join(dir, "id"), false: "up@example.org"}[args[0] == "ssh"],
			"-c", "gpg.format=" + map[bool]string{true: "ssh", false: "openpgp"}[args[0] == "ssh"]}, args[1:]...)...)
	}
	for _, how := range []struct {
		kind string
		keys *signature.Keys
		not  *signature.Keys
	}{{"pgp", pgp, signers}, {"ssh", signers, pgp}} {
		git(how.kind, "commit", "--quiet", "--allow-empty", "--gpg-sign", "-m", "signed\n\nwith a body\n")
		git(how.kind, "tag", "--sign", "-m", "first\n\nsecond", "v-"+how.kind)
		for _, o := range []signature.Object{
			{Kind: "commit", Data: git(how.kind, "cat-file", "commit", "HEAD")},
			{Kind: "tag", Data: git(how.kind, "cat-file", "tag", "v-"+how.kind)},
		} {
			s, err := how.keys.VerifyGit(o, today)
			if err != nil || !o.Signed() || time.Since(s.At) > time.Hour {
				t.Errorf("git %s by %s: %v, %v", o.Kind, how.kind, s, err)
			}
			_, err = how.not.VerifyGit(o, today)
			refused(t, err, "is signed by")
			changed := signature.Object{Kind: o.Kind, Data: bytes.Replace(o.Data, []byte("up@example.org"), []byte("xx@example.org"), 1)}
			if _, err := how.keys.VerifyGit(changed, today); err == nil {
				t.Errorf("a changed %s signed by %s is believed", o.Kind, how.kind)
			}
		}
		tag := signature.Object{Kind: "tag", Data: git(how.kind, "cat-file", "tag", "v-"+how.kind)}
		if _, kind, name, err := tag.Target(); err != nil || kind != "commit" || name != "v-"+how.kind {
			t.Errorf("tag is %s of %s, %v", name, kind, err)
		}
	}
	git("pgp", "commit", "--quiet", "--allow-empty", "--no-gpg-sign", "-m", "not signed")
	_, err = pgp.VerifyGit(signature.Object{Kind: "commit", Data: git("pgp", "cat-file", "commit", "HEAD")}, today)
	refused(t, err, "the commit is not signed")
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"), []byte("tree x\ngpgsig y\n z\n\nm\n"))
	f.Add([]byte("untrusted comment: x\nabc\ntrusted comment: y\nabc\n"), []byte("object x\ntype commit\ntag v\n\n-----BEGIN SSH SIGNATURE-----\n"))
	pub, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	text, _ := pub.MarshalText()
	mini, err := signature.ReadKeys(signature.Minisign, []signature.File{{Name: "k", Data: text}})
	if err != nil {
		f.Fatal(err)
	}
	e, err := openpgp.NewEntity("x", "", "", nil)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		f.Fatal(err)
	}
	pgp, err := signature.ReadKeys(signature.PGP, []signature.File{{Name: "k", Data: b.Bytes()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, made, object []byte) {
		for _, k := range []*signature.Keys{mini, pgp} {
			if _, err := k.Verify(content(message), made, now); err == nil {
				t.Error("it holds")
			}
			for _, kind := range []string{"tag", "commit"} {
				if _, err := k.VerifyGit(signature.Object{Kind: kind, Data: object}, now); err == nil {
					t.Error("an object's holds")
				}
			}
		}
		_, _, _ = pgp.OpenClearSigned(made, now)
		for _, scheme := range signature.Schemes() {
			_, _ = signature.ReadKeys(scheme, []signature.File{{Name: "k", Data: made}})
		}
	})
}
