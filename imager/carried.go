// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxListed is how long a list in a report may be that comes with an image: far
// longer than any that is written, and short enough for memory. Those of blocks,
// of which there are the most, are small.
const (
	maxListed = 1 << 16
	maxRuns   = 1 << 21
	maxDepth  = 16
)

// decodeReport decodes the report in an image. It has been read into memory
// already; what it is decoded into could be a hundred times as large.
func decodeReport(text []byte) (*Report, error) {
	report := new(Report)
	err := checkLists(text)
	if err == nil {
		err = json.Unmarshal(text, report)
	}
	if err != nil {
		return nil, fmt.Errorf("report in the image: %w", err)
	}
	return report, nil
}

// checkLists refuses an object in JSON with more in its fields than belongs there.
func checkLists(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	var field string
	depth, listed, isKey := 0, 0, false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			depth--
			isKey = depth == 1
			continue
		}
		switch depth {
		case 1:
			if isKey {
				field, _ = token.(string)
				listed, isKey = 0, false
				continue
			}
			isKey = true
		case 2:
			limit := maxListed
			if field == "not_read" {
				limit = maxRuns
			}
			if listed++; listed > limit {
				return fmt.Errorf("more than %d entries in %q", limit, field)
			}
		}
		if _, ok := token.(json.Delim); ok {
			if depth++; depth > maxDepth {
				return fmt.Errorf("lists within lists, %d deep", depth)
			}
			isKey = depth == 1
		}
	}
}
