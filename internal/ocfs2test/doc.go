// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package ocfs2test gives tests real OCFS2 volumes, and judges that are not
// ours: what the kernel sees on a mounted volume, what fsck.ocfs2 and
// debugfs.ocfs2 say, what o2image 1.8.7 writes.
//
// The volumes are those of testdata/corpus, written by the Linux driver; see
// corpus/README.md for what is on them and in the files beside them.
//
//	v := ocfs2test.Unpack(t, "plain-b4k")      // to read
//	path := v.Copy(t)                          // to write to
//	image := filepath.Join(t.TempDir(), "image")
//	// ... make an image of v.Path, restore it to path ...
//	got := ocfs2test.Mount(t, ocfs2test.MountRequest{Path: path, Options: v.MountOptions()})
//	if d := ocfs2test.DiffManifests(v.Manifest, got.Manifest); d != "" {
//		t.Error(d)
//	}
//
// It needs the Debian packages that tools/install-deps installs, and never
// skips a test: a tool that is missing is a failure. It knows nothing of the
// packages that it helps to test.
package ocfs2test
