package main

import (
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// usage is what a server's process has used since it started.
type usage struct {
	CPU      time.Duration // user and system time; zero where it is not known
	Mallocs  uint64
	Bytes    uint64 // allocated, freed or not
	Acquires uint64 // times that a connection was taken from the pool
}

func takeUsage(pool *pgxpool.Pool) (usage, error) {
	cpu, err := cpuTime()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return usage{cpu, mem.Mallocs, mem.TotalAlloc, uint64(pool.Stat().AcquireCount())}, err
}
