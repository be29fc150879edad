//go:build !unix

package main

import "time"

// cpuTime is not known here.
func cpuTime() (time.Duration, error) { return 0, nil }
