package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// trace is a timeline in the Trace Event Format, which browsers and Perfetto show.
// A nil trace takes everything and does nothing.
type trace struct {
	mu     sync.Mutex
	file   string
	start  time.Time
	events []traceEvent
	lanes  map[string]int    // recipe -> lane
	open   map[string]string // recipe -> what it is doing
}

// traceEvent is one beginning ("B") or end ("E").
type traceEvent struct {
	Name  string `json:"name"`
	Phase string `json:"ph"`
	Time  int64  `json:"ts"` // microseconds
	PID   int    `json:"pid"`
	Lane  int    `json:"tid"`
}

// newTrace begins a timeline, or is nil when no file was asked for.
func newTrace(file string) *trace {
	if file == "" {
		return nil
	}
	return &trace{file: file, start: time.Now(), lanes: map[string]int{}, open: map[string]string{}}
}

func (t *trace) add(lane, name, phase string) {
	if t.lanes[lane] == 0 {
		t.lanes[lane] = len(t.lanes) + 1
	}
	t.events = append(t.events, traceEvent{name, phase, time.Since(t.start).Microseconds(), 1, t.lanes[lane]})
}

// begin ends what the lane was doing and begins something else.
func (t *trace) begin(lane, what string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.open[lane]; before != "" {
		t.add(lane, before, "E")
	}
	t.open[lane] = what
	t.add(lane, lane+": "+what, "B")
}

// end ends what the lane was doing.
func (t *trace) end(lane string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.open[lane]; before != "" {
		t.add(lane, before, "E")
		delete(t.open, lane)
	}
}

// write writes the file.
func (t *trace) write() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := json.Marshal(map[string]any{"traceEvents": t.events})
	if err != nil {
		return err
	}
	return os.WriteFile(t.file, data, 0o644)
}
