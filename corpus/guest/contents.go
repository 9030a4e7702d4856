// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"o2image/internal/ocfs2test/truth"
)

const (
	recLen  = 64                    // contents are records of this length, each with the marker
	markLen = len("S3CR3T-") + 2*16 // length of a marker
)

// rnd returns a number below n; splitmix64.
func (g *guest) rnd(n int) int {
	g.state += 0x9e3779b97f4a7c15
	z := g.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

// marker returns a string that stands nowhere else.
func (g *guest) marker() string {
	g.serial++
	h := sha256.Sum256(fmt.Appendf(nil, "%s#%d", g.seed, g.serial))
	return "S3CR3T-" + hex.EncodeToString(h[:16])
}

// syl is what names are made of.
var syl = strings.Fields("ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu bra cle dri flo gru")

// word returns a name of k syllables.
func (g *guest) word(k int) string {
	s := ""
	for range k {
		s += syl[g.rnd(len(syl))]
	}
	return s
}

// path returns a path on the volume.
func (g *guest) path(elem ...string) string {
	return filepath.Join(g.root, filepath.Join(elem...))
}

// content gives n bytes as they stand at offset off of a file with this marker.
func content(m string, off int64, n int) []byte {
	var b bytes.Buffer
	for o := off - off%recLen; b.Len() < n+recLen; o += recLen {
		fmt.Fprintf(&b, "%s @%022d\n", m, o)
	}
	return b.Bytes()[off%recLen:][:n]
}

// put writes n bytes with a marker of their own at offset off of a file.
func (g *guest) put(path string, off int64, n int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if n == 0 {
		return nil
	}
	m := g.marker()
	for done := 0; done < n; {
		k := min(n-done, 1<<20)
		if _, err := f.WriteAt(content(m, off+int64(done), k), off+int64(done)); err != nil {
			return err
		}
		done += k
	}
	if n >= markLen {
		g.markers[path] = append(g.markers[path], m)
	}
	return nil
}

// file makes a file of n bytes.
func (g *guest) file(path string, n int) { check(g.put(path, 0, n), "write %s", path) }

// drop deletes a file; its markers become those of stale data.
func (g *guest) drop(path string) {
	class := "stale-data"
	if len(g.markers[path]) > 0 && isInline(path) {
		class = "stale-inline"
	}
	for _, m := range g.markers[path] {
		g.secrets = append(g.secrets, truth.Secret{Class: class, Marker: m, Path: path})
	}
	delete(g.markers, path)
	check(os.Remove(path), "remove %s", path)
}

// mkdir makes a folder, and those above it.
func (g *guest) mkdir(elem ...string) string {
	d := g.path(elem...)
	check(os.MkdirAll(d, 0o755), "mkdir %s", d)
	return d
}

// symlink makes a link whose target has n bytes, with a marker.
func (g *guest) symlink(path string, n int) {
	m := g.marker()
	t := "../" + m + "/"
	for len(t) < n {
		t += g.word(2) + "/"
	}
	class := "symlink-inode"
	if n+1 > g.bs-192 {
		class = "symlink-cluster"
	}
	check(os.Symlink(t[:n], path), "symlink %s", path)
	g.secrets = append(g.secrets, truth.Secret{Class: class, Marker: m, Path: path})
}

// xattr sets an attribute whose value has n bytes, with a marker.
func (g *guest) xattr(path, name string, n int) error {
	m := g.marker()
	if err := setxattr(path, name, content(m, 0, n)); err != nil {
		return err
	}
	class := "xattr-inside" // OCFS2_XATTR_INLINE_SIZE: longer values go to clusters of their own
	if n > 80 {
		class = "xattr-outside"
	}
	g.secrets = append(g.secrets, truth.Secret{Class: class, Marker: m, Path: path + "#" + name})
	return nil
}

// setxattr sets an attribute of a file, or of the symlink itself.
func setxattr(path, name string, value []byte) error { return unix.Lsetxattr(path, name, value, 0) }
