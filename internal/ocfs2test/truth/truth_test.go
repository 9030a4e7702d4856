// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package truth_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/internal/ocfs2test/truth"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/plain-Name_1.~": "/plain-Name_1.~",
		"a b\t%\x7f":      "a%20b%09%25%7F",
		"ü":               "%C3%BC",
		"":                "",
	} {
		if got := truth.Escape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	const text = `{"path":"/","type":"dir","ino":5,"mode":"040755","nlink":4,"uid":0,"gid":0,"size":3896,"mtime":1703354812}
{"path":"/f","type":"file","ino":1099511627776,"mode":"100644","nlink":1,"uid":4294967295,"gid":1,"size":2199023260552,"mtime":-1,` +
		`"xattrs":[{"name":"user.a","len":3,"sha256":"00ff"}],"sha256":"ab","inline":true}
`
	got, err := truth.ReadManifest(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []truth.Entry{
		{Path: "/", Type: "dir", Ino: 5, Mode: "040755", Nlink: 4, Size: 3896, Mtime: 1703354812},
		{
			Path: "/f", Type: "file", Ino: 1 << 40, Mode: "100644", Nlink: 1, UID: 1<<32 - 1, GID: 1, Size: 2<<40 + 5000, Mtime: -1,
			Xattrs: []truth.Xattr{{Name: "user.a", Len: 3, SHA256: "00ff"}}, SHA256: "ab", Inline: true,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	var b bytes.Buffer
	if err := truth.WriteManifest(&b, got); err != nil || b.String() != text {
		t.Errorf("written again: %v\n%s", err, b.String())
	}
	if _, err := truth.ReadManifest(strings.NewReader(text + `{"path":`)); err == nil {
		t.Error("a manifest that was cut off: no error")
	}
}

func TestExtents(t *testing.T) {
	t.Parallel()
	const text = "/a%20b\t0\t15081472\t20480\t0x1\n/c\t2199023255552\t4096\t8192\t0x800\n"
	got, err := truth.ReadExtents(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []truth.Extent{
		{Path: "/a%20b", Physical: 15081472, Length: 20480, Flags: 1},
		{Path: "/c", Logical: 2 << 40, Physical: 4096, Length: 8192, Flags: truth.ExtentUnwritten},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	var b bytes.Buffer
	if err := truth.WriteExtents(&b, got); err != nil || b.String() != text {
		t.Errorf("written again: %v\n%s", err, b.String())
	}
	for _, bad := range []string{"/a\t1\t2\t3\n", "/a\tx\t2\t3\t0x0\n", "/a\t1\t2\t3\tx\n"} {
		if _, err := truth.ReadExtents(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	got, err := truth.ReadSecrets(strings.NewReader("data\tS3CR3T-00\t/a\ninline\tS3CR3T-01\t/b#user.x\n"))
	want := []truth.Secret{{Class: "data", Marker: "S3CR3T-00", Path: "/a"}, {Class: "inline", Marker: "S3CR3T-01", Path: "/b#user.x"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
}
