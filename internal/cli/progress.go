// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"o2image"
)

// When progress is shown: on a terminal in one line that is written over, and
// elsewhere in lines.
const (
	firstShown  = time.Second
	shownEvery  = 200 * time.Millisecond
	linesEvery  = 10 * time.Second
	farAway     = 1000 * time.Hour // no time left is told beyond
	eraseLine   = "\r\x1b[K"
	lineColumns = 80 // where the terminal does not tell
)

// meter shows how far a run is. A nil meter shows nothing.
type meter struct {
	w       io.Writer
	prefix  string
	columns func() int // of the terminal; nil if w is none

	latest atomic.Pointer[sample]
	quit   chan struct{}
	ended  sync.WaitGroup

	mu    sync.Mutex
	shown bool // the line is on the terminal
	quiet bool // somebody else writes to it
}

// watch starts to show progress where that is wanted: on a terminal, and with
// lines also elsewhere.
func (p *program) watch(lines bool) *meter {
	fd := int(p.stderr.Fd())
	terminal := term.IsTerminal(fd)
	if !terminal && !lines {
		return nil
	}
	m := &meter{w: p.stderr, prefix: p.name + ": "}
	if terminal {
		m.columns = func() int {
			if width, _, err := term.GetSize(fd); err == nil && width > 0 {
				return width
			}
			return lineColumns
		}
	}
	m.start()
	return m
}

func (m *meter) start() {
	m.quit = make(chan struct{})
	m.ended.Go(func() {
		wait, every := linesEvery, linesEvery
		if m.columns != nil {
			wait, every = firstShown, shownEvery
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for {
			select {
			case <-m.quit:
				return
			case <-timer.C:
				timer.Reset(every)
				if s := m.latest.Load(); s != nil {
					m.show(s.line(time.Now()))
				}
			}
		}
	})
}

// update returns what a run tells its progress; nil if nothing is shown.
func (m *meter) update() func(o2image.Progress) {
	if m == nil {
		return nil
	}
	return func(p o2image.Progress) {
		s := sample{p, time.Now()}
		if last := m.latest.Load(); last != nil && last.Phase == p.Phase {
			s.since = last.since
		}
		m.latest.Store(&s)
	}
}

// show writes a line, over the one before on a terminal.
func (m *meter) show(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.quiet:
	case m.columns == nil:
		fmt.Fprintf(m.w, "%s%s\n", m.prefix, line)
	default:
		fmt.Fprintf(m.w, "%s%.*s", eraseLine, max(m.columns()-1, 0), line)
		m.shown = true
	}
}

// pause has nothing shown until resume: a question is being asked.
func (m *meter) pause() { m.setQuiet(true) }

func (m *meter) resume() { m.setQuiet(false) }

func (m *meter) setQuiet(quiet bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet = quiet
	if m.shown {
		io.WriteString(m.w, eraseLine)
		m.shown = false
	}
}

// stop ends it and leaves the terminal as it was.
func (m *meter) stop() {
	if m == nil {
		return
	}
	close(m.quit)
	m.ended.Wait()
	m.pause()
}

// sample is how far a run was at some time.
type sample struct {
	o2image.Progress
	since time.Time // when the phase began
}

// line describes s: the phase, how much is done, the rate and the time left.
func (s *sample) line(now time.Time) string {
	text := fmt.Sprintf("%s: %s of %s", s.Phase, bytesText(s.Done), bytesText(s.Total))
	if s.Total > 0 {
		text += fmt.Sprintf(" (%d %%)", int(float64(s.Done)/float64(s.Total)*100))
	}
	took := now.Sub(s.since)
	if s.Done == 0 || took < shownEvery {
		return text
	}
	rate := float64(s.Done) / took.Seconds()
	left := "a long time"
	if seconds := float64(s.Total-min(s.Done, s.Total)) / rate; seconds < farAway.Seconds() {
		left = time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	}
	return text + fmt.Sprintf(", %s/s, %s left", bytesText(uint64(rate)), left)
}
