// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package damage breaks OCFS2 volumes on purpose, one thing at a time, and
// computes what a reader owes in each case.
//
// It reads a sound volume by itself, from the description of the disk format, into
// a [Map]: which block holds which structure, and which field leads to which
// blocks. From that come the cases ([Map.Cases]): a field set to 0, to all ones,
// to its neighbours, to the value of another block, to a block that makes a loop;
// bits flipped; blocks zeroed, filled with garbage, swapped; whole groups lost.
//
// Nothing of what a case expects is written by hand. A [Case] knows its witness,
// a check value or another field that contradicts the new value, and with it
// whether a finding is owed. [Map.Reachable] tells which blocks can be reached
// without the bytes that were changed: none of these may be missing from a
// metadata set, whatever else is.
//
//	m, err := damage.Read(file)
//	for _, c := range m.Cases(damage.Limits{}) {
//		broken := damage.Overlay{Base: file, Patches: c.Patches}
//		...
//	}
//
// It knows nothing of the packages that it helps to test.
package damage
