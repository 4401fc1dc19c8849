package build

import "testing"

// A file system that does not tell its room must not fail every step: proc has no
// blocks, and a folder that is not there has no file system.
func TestRoomThatIsNotTold(t *testing.T) {
	for _, dir := range []string{"/proc", "/proc/nothing/here"} {
		if free, known := roomIn(dir); known {
			t.Errorf("%s: got %d bytes, want an unknown number", dir, free)
		}
		if watchRoom(dir).end() {
			t.Errorf("%s: it ran out of room that nobody knows of", dir)
		}
	}
	if _, known := roomIn(t.TempDir()); !known {
		t.Error("the room of a real disk is not known")
	}
}
