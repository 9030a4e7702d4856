// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io/fs"
	"os"
	"testing"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"plain", "a file.txt", "a file.txt"},
		{"other scripts", "héllo 日本", "héllo 日本"},
		{"escape sequence", "\x1b[2Jx", `\x1b[2Jx`},
		{"newline", "a\nb", `a\x0ab`},
		{"backslash", `a\x0ab`, `a\\x0ab`},
		{"delete", "\x7f", `\x7f`},
		{"C1 control", "\u009b2J", `\xc2\x9b2J`},
		{"right to left override", "a\u202eb", `a\xe2\x80\xaeb`},
		{"no UTF-8", "a\xff\xfeb", `a\xff\xfeb`},
		{"cut off", "a\xe6\x97", `a\xe6\x97`},
		{"replacement character", "\ufffd", "\ufffd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := escape(test.text); got != test.want {
				t.Errorf("escape(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
}

func TestModeString(t *testing.T) {
	t.Parallel()
	for mode, want := range map[uint16]string{ // as ls -l has them
		0o040755: "drwxr-xr-x",
		0o100644: "-rw-r--r--",
		0o100000: "----------",
		0o120777: "lrwxrwxrwx",
		0o020620: "crw--w----",
		0o060660: "brw-rw----",
		0o010600: "prw-------",
		0o140755: "srwxr-xr-x",
		0o041777: "drwxrwxrwt",
		0o041770: "drwxrwx--T",
		0o104755: "-rwsr-xr-x",
		0o104644: "-rwSr--r--",
		0o102755: "-rwxr-sr-x",
		0o102745: "-rwxr-Sr-x",
		0o170777: "?rwxrwxrwx",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("modeString(%o) = %s, want %s", mode, got, want)
		}
	}
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 1536: "1.5 KiB",
		64 << 20: "64.0 MiB", 8 << 40: "8.0 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %s, want %s", n, got, want)
		}
	}
}

// TestManual checks that the manual page that is installed is what the program
// prints.
func TestManual(t *testing.T) {
	t.Parallel()
	p := &program{name: programName}
	committed, err := fs.ReadFile(os.DirFS("../.."), "man/o2image.8")
	if err != nil {
		t.Fatal(err)
	}
	if manual(p.newRootCommand()) != string(committed) {
		t.Error("man/o2image.8 is not current: go run ./cmd/o2image man > man/o2image.8")
	}
}
