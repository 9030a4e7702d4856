// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"fmt"
	"testing"

	"o2image/image"
)

func TestStrings(t *testing.T) {
	tests := []struct {
		value fmt.Stringer
		want  string
	}{
		{image.FormatRaw, "raw"},
		{image.FormatPacked, "packed"},
		{image.Format(9), "format 9"},
		{image.RedactionExact, "exact"},
		{image.RedactionDefault, "default"},
		{image.RedactionPrivate, "private"},
		{image.RedactionUnknown, "unknown"},
		{image.Redaction(3), "unknown"}, // what a later version may store
	}
	for _, tt := range tests {
		if got := tt.value.String(); got != tt.want {
			t.Errorf("%#v is %q, want %q", tt.value, got, tt.want)
		}
	}
}
