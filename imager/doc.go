// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package imager moves metadata between volumes and images: it captures a
// volume into an image, restores an image onto a device, and converts images
// between the formats.
//
// Each of these is the same copy: pieces of the output, one MiB each, are
// filled from the source by several workers and handed to a sink, which is a
// file, a stream or a device. What belongs into which piece is known before the
// first byte is written, so the bytes do not depend on scheduling.
//
// Nothing here prints, asks or reads flags: questions are functions in the
// options, warnings stand in the [Report].
package imager
