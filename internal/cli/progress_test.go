// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o2image"
	"o2image/imager"
)

func TestProgressLine(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		phase       imager.Phase
		done, total uint64
		took        time.Duration
		want        string
	}{
		{imager.PhaseScan, 0, 0, time.Second, "scanning: 0 bytes of 0 bytes"},
		{imager.PhaseScan, 0, mib, 0, "scanning: 0 bytes of 1.0 MiB (0 %)"},
		{imager.PhaseScan, 10 * mib, 40 * mib, 2 * time.Second, "scanning: 10.0 MiB of 40.0 MiB (25 %), 5.0 MiB/s, 6s left"},
		{imager.PhaseCopy, 40 * mib, 40 * mib, 4 * time.Second, "copying: 40.0 MiB of 40.0 MiB (100 %), 10.0 MiB/s, 0s left"},
		{imager.PhaseCopy, mib, 3601 * mib, time.Second, "copying: 1.0 MiB of 3.5 GiB (0 %), 1.0 MiB/s, 1h0m0s left"},
		{imager.PhaseCopy, 1, 1 << 62, time.Hour, "copying: 1 bytes of 4.0 EiB (0 %), 0 bytes/s, a long time left"},
	} {
		now := time.Now()
		s := sample{o2image.Progress{Phase: c.phase, Done: c.done, Total: c.total}, now.Add(-c.took)}
		if got := s.line(now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// On a terminal nothing is shown in the first second, then a line that is
// written over and in the end erased; elsewhere a line every ten seconds.
func TestMeter(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name    string
		columns int // 0: no terminal
		run     time.Duration
		want    []string // what was written, between erasures
	}{
		{"short", 80, 900 * time.Millisecond, nil},
		{"terminal", 80, 1300 * time.Millisecond, []string{
			"", "scanning: 1.0 MiB of 3.0 MiB (33 %), 1.0 MiB/s, 2s left", "scanning: 1.0 MiB of 3.0 MiB (33 %), 853.3 KiB/s, 2s left", "",
		}},
		{"narrow", 10, 1100 * time.Millisecond, []string{"", "scanning:", ""}},
		{"short lines", 0, 9 * time.Second, nil},
		{"lines", 0, 21 * time.Second, []string{"prog: scanning: 1.0 MiB of 3.0 MiB (33 %), 102.4 KiB/s, 20s left\n" +
			"prog: scanning: 1.0 MiB of 3.0 MiB (33 %), 51.2 KiB/s, 40s left\n"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			m := &meter{w: &out, prefix: "prog: "}
			if c.columns > 0 {
				m.columns = func() int { return c.columns }
			}
			m.start()
			m.update()(o2image.Progress{Phase: imager.PhaseScan, Done: mib, Total: 3 * mib})
			time.Sleep(c.run)
			m.stop()
			if got, want := out.String(), strings.Join(c.want, eraseLine); got != want {
				t.Errorf("%s: %q, want %q", c.name, got, want)
			}
		})
	}
}

// While a question is asked nothing is written, and the line is gone.
func TestMeterPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		m := &meter{w: &out, columns: func() int { return 80 }}
		m.start()
		m.update()(o2image.Progress{Done: 1, Total: 2})
		time.Sleep(1100 * time.Millisecond)
		m.pause()
		if !strings.HasSuffix(out.String(), eraseLine) {
			t.Errorf("the line is left: %q", out.String())
		}
		before := out.Len()
		time.Sleep(time.Minute)
		if out.Len() != before {
			t.Errorf("written meanwhile: %q", out.String()[before:])
		}
		m.resume()
		time.Sleep(time.Second)
		synctest.Wait()
		if out.Len() == before {
			t.Error("nothing afterwards")
		}
		m.stop()
	})
}

// Where nothing is shown nothing is done.
func TestNoMeter(t *testing.T) {
	var m *meter
	if m.update() != nil {
		t.Error("progress is asked for")
	}
	m.pause()
	m.resume()
	m.stop()
}
