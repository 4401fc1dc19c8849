package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// publisherVariable makes this test a process that publishes; see publisherOrders.
const publisherVariable = "TARN_TEST_PUBLISHER"

func TestMain(m *testing.M) {
	if text := os.Getenv(publisherVariable); text != "" {
		if err := publishAsProcess(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// publisherOrders are what a process that publishes is told.
type publisherOrders struct {
	Dir, Store, Key string
	Seed            uint64
	Packages        []publishable // what it may publish
	Each            bool          // publish each of them once, one at a time, and end
}

type publishable struct {
	Entry  *apk.Entry
	Digest store.Digest
}

// publishAsProcess publishes at random until it is killed: new packages, other ones under
// the same name and version, withdrawals, and what was before.
func publishAsProcess(text string) error {
	var o publisherOrders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	st, err := store.Open(o.Store)
	if err != nil {
		return err
	}
	defer st.Close()
	key, err := sign.Load(o.Key)
	if err != nil {
		return err
	}
	trusted := &sign.Keyring{}
	if err := trusted.Add(key.Public()); err != nil {
		return err
	}
	p := &repo.Publisher{Storage: repo.Folder(o.Dir), Name: "the repository", Store: st, Keys: []apk.Signer{key}, Trusted: trusted, Time: time.Now(),
		Replace: true, Readmit: true, Keep: 2, Snapshots: 3, V3: !o.Each}
	ctx := context.Background()
	fmt.Println("ready")
	if o.Each {
		p.Keep, p.Snapshots = 0, 0
		for _, one := range o.Packages {
			if _, err := p.Publish(ctx, []repo.Unsigned{{Entry: one.Entry, Digest: one.Digest}}); err != nil {
				return err
			}
		}
		return nil
	}
	random := rand.New(rand.NewPCG(o.Seed, 1))
	for {
		switch random.IntN(10) {
		case 0:
			one := o.Packages[random.IntN(len(o.Packages))].Entry
			if !isWithdrawnAtTimes(one.Name) {
				continue
			}
			_, err = p.Withdraw(ctx, []repo.Withdrawal{{Name: one.Name, Version: one.Version, Reason: "a test"}})
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // it is not there now
			}
		case 1:
			times, listErr := repo.Snapshots(ctx, p.Storage, arch)
			if listErr != nil {
				return listErr
			}
			if len(times) > 0 {
				if _, err = p.Rollback(ctx, times[random.IntN(len(times))]); errors.Is(err, fs.ErrNotExist) {
					err = nil // another publisher removed it meanwhile
				}
			}
		default:
			var some []repo.Unsigned
			seen := map[string]bool{}
			for range 1 + random.IntN(3) {
				one := o.Packages[random.IntN(len(o.Packages))]
				if !seen[one.Entry.FileName()] {
					seen[one.Entry.FileName()] = true
					some = append(some, repo.Unsigned{Entry: one.Entry, Digest: one.Digest})
				}
			}
			_, err = p.Publish(ctx, some)
		}
		if err != nil {
			return err
		}
	}
}

// isWithdrawnAtTimes tells which packages a publisher withdraws now and then. Their files go
// at once, whatever snapshot names them, and when one is published anew nothing tells of it
// any more: so a snapshot need not have them. All others it has.
func isWithdrawnAtTimes(name string) bool { return name == "p0" || name == "p1" }

// publisherProcess is this test as another process, which publishes.
func publisherProcess(t *testing.T, o publisherOrders) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), publisherVariable+"="+string(text))
	cmd.Stderr = new(bytes.Buffer)
	return cmd
}

// oneMoment looks at a repository as a reader does, and tells what it finds wrong at one
// moment: a package that the index names and that is not the one there, while the index
// still is the one that was read.
func oneMoment(dir string, trusted apk.KeySet) error {
	for _, index := range []string{"APKINDEX.tar.gz", "Packages.adb"} {
		if err := oneIndex(dir, filepath.Join(dir, "x86_64", index), trusted); err != nil {
			return fmt.Errorf("%s: %w", index, err)
		}
	}
	return nil
}

func oneIndex(dir, name string, trusted apk.KeySet) error {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was published yet
	}
	if err != nil {
		return err
	}
	if _, err := apk.VerifyIndex(data, trusted); err != nil {
		return err
	}
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		return err
	}
	for _, e := range index.Entries {
		err := samePackage(filepath.Join(dir, "x86_64", e.FileName()), e)
		if err == nil {
			continue
		}
		again, readErr := os.ReadFile(name)
		if readErr != nil {
			return readErr
		}
		if bytes.Equal(again, data) {
			return fmt.Errorf("%s: %w", e.FullName(), err)
		}
		return nil // another moment
	}
	return nil
}

func samePackage(path string, e *apk.Entry) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
	if err != nil {
		return err
	}
	if p.Checksum != e.Checksum || int64(len(data)) != e.FileSize {
		return fmt.Errorf("%s, %d bytes, and the index says %s, %d bytes", p.Checksum, len(data), e.Checksum, e.FileSize)
	}
	return p.VerifyData()
}

// kills is how often the publisher is killed; TARN_SURVIVE is another number.
func kills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("TARN_SURVIVE"))
	if os.Getenv("TARN_SURVIVE") == "" {
		if testing.Short() {
			return 20
		}
		return 200
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKilledPublisher kills publishers at random moments, while readers look all the
// time. Every index that they see names packages that are there.
func TestKilledPublisher(t *testing.T) {
	dir, storeDir, keyDir := t.TempDir(), t.TempDir(), t.TempDir()
	if err := keys()[0].WriteFiles(keyDir); err != nil {
		t.Fatal(err)
	}
	trusted := ring(t, keys()[0])
	orders := publisherOrders{Dir: dir, Store: storeDir, Key: filepath.Join(keyDir, "tarn.rsa")}
	st, err := store.Open(storeDir)
	if err != nil {
		t.Fatal(err)
	}
	for name := range 6 {
		for version := range 3 {
			for content := range 2 {
				one := unsigned(t, st, fmt.Sprintf("p%d", name), fmt.Sprintf("%d-r0", version), fmt.Sprintf("usr/p%d", name), strings.Repeat(fmt.Sprint(content), 100))
				orders.Packages = append(orders.Packages, publishable{one.Entry, one.Digest})
			}
		}
	}
	// What a publisher does undisturbed takes so long here; and who is killed has a past.
	first := &repo.Publisher{Storage: repo.Folder(dir), Name: dir, Store: st, Keys: []apk.Signer{keys()[0]}, Trusted: trusted, Time: time.Now(), Replace: true, Snapshots: 3, V3: true}
	start := time.Now()
	for _, one := range orders.Packages[:2] {
		if _, err := first.Publish(t.Context(), []repo.Unsigned{{Entry: one.Entry, Digest: one.Digest}}); err != nil {
			t.Fatal(err)
		}
	}
	while := max(60*time.Millisecond, 2*time.Since(start))
	st.Close()
	done := make(chan struct{})
	var readers sync.WaitGroup
	stopReaders := sync.OnceFunc(func() {
		close(done)
		readers.Wait()
	})
	t.Cleanup(stopReaders) // before the folder is removed under them
	moments := make([]int, 2)
	for i := range moments {
		readers.Go(func() {
			for {
				if err := oneMoment(dir, trusted); err != nil {
					t.Errorf("a reader sees: %v", err)
					return
				}
				moments[i]++
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	hidden := 0
	for i := range kills(t) {
		orders.Seed = uint64(i)
		processes := []*exec.Cmd{publisherProcess(t, orders)}
		if i%4 == 0 { // now and then two at once
			orders.Seed += 1 << 20
			processes = append(processes, publisherProcess(t, orders))
		}
		for _, cmd := range processes {
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAtLeast(out, make([]byte, 8), 6); err != nil {
				t.Fatalf("%v\n%s", err, cmd.Stderr)
			}
		}
		time.Sleep(rand.N(while))
		for _, cmd := range processes {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			err := cmd.Wait()
			exit, is := errors.AsType[*exec.ExitError](err)
			if !is || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("a publisher ended by itself: %v\n%s", err, cmd.Stderr)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "x86_64", "replacing.json")); err == nil {
			hidden++
		}
		if err := oneMoment(dir, trusted); err != nil {
			t.Fatalf("after kill %d: %v", i, err)
		}
	}
	stopReaders()
	t.Logf("%d kills, %d of them while packages were hidden; readers looked %v times", kills(t), hidden, moments)

	// Who comes next finds nothing to mend but what it mends itself.
	if st, err = store.Open(storeDir); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	p := &repo.Publisher{Storage: repo.Folder(dir), Name: dir, Store: st, Keys: []apk.Signer{keys()[0]}, Trusted: trusted, Time: time.Now(), Replace: true, Readmit: true, Snapshots: 3}
	last := unsigned(t, st, "last", "1-r0", "usr/last", "last")
	if _, err := p.Publish(t.Context(), []repo.Unsigned{last}); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, filepath.Join(dir, "x86_64")) {
		if strings.HasPrefix(name, ".publish-") || name == "replacing.json" {
			t.Errorf("there is %s", name)
		}
	}
	r := open(t, dir, keys()[0])
	if !slices.Contains(names(t, r), "last-1-r0") {
		t.Errorf("got %v, want last-1-r0 among them", names(t, r))
	}
	report, err := r.Verify(t.Context(), arch, repo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Verified {
		if v.Err != nil {
			t.Error(v.Err)
		}
	}
	times, err := repo.Snapshots(t.Context(), p.Storage, arch)
	if err != nil || len(times) == 0 || len(times) > 3 {
		t.Errorf("snapshots: %v, %v", times, err)
	}
	for _, at := range times {
		old := open(t, dir+"/snapshots/"+at.Format("20060102T150405Z"), keys()[0])
		entries, err := old.Packages(t.Context(), arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, err := old.Fetch(t.Context(), openStore(t), e); err != nil && !isWithdrawnAtTimes(e.Name) {
				t.Errorf("snapshot %s: %s: %v", at, e.FullName(), err)
			}
		}
	}
}

// TestPublishersAtOnce has processes publish at the same time: nothing is lost.
func TestPublishersAtOnce(t *testing.T) {
	dir, storeDir, keyDir := t.TempDir(), t.TempDir(), t.TempDir()
	if err := keys()[0].WriteFiles(keyDir); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(storeDir)
	if err != nil {
		t.Fatal(err)
	}
	var processes []*exec.Cmd
	var want []string
	for process := range 3 {
		orders := publisherOrders{Dir: dir, Store: storeDir, Key: filepath.Join(keyDir, "tarn.rsa"), Each: true}
		for i := range 15 {
			name := fmt.Sprintf("p%d.%02d", process, i)
			data := apktest.Package(t, name, "1-r0", "usr/"+name, name)
			digest, _, err := st.Put(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			orders.Packages = append(orders.Packages, publishable{apktest.Entry(t, data), digest})
			want = append(want, name+"-1-r0")
		}
		processes = append(processes, publisherProcess(t, orders))
	}
	st.Close()
	for _, cmd := range processes {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range processes {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, cmd.Stderr)
		}
	}
	if got := names(t, open(t, dir, keys()[0])); !slices.Equal(got, want) {
		t.Errorf("got %d packages %v, want %d", len(got), got, len(want))
	}
}
