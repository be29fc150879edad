package invalidation_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/invalidation"
)

// BenchmarkHeartbeats measures what nodes cost that do nothing but to listen,
// with a lease of two seconds. One op is one heartbeat of each node, which takes
// half a second; all nodes receive each of them.
func BenchmarkHeartbeats(b *testing.B) {
	for _, nodes := range []int64{3, 30, 100} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			server := dbtest.Start(b, dbtest.Config{Settings: map[string]string{"max_connections": "300"}})
			dsn := server.Database(b)
			var sent atomic.Int64
			turns := make(chan struct{}, 1)
			for range nodes {
				n := start(b, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
					beat := o.Beat
					o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
						wrote, err := beat(ctx, payload)
						if err == nil && sent.Add(1)%nodes == 0 {
							select {
							case turns <- struct{}{}:
							default:
							}
						}
						return wrote, err
					}
				}})
				n.awaitLease(b)
			}
			processes := serverProcesses(b, server)

			select {
			case <-turns: // of while they started
			default:
			}
			<-turns
			server0, known := cpuOf(b, processes)
			sent0, client0, began := sent.Load(), ownCPU(b), time.Now()
			for b.Loop() {
				<-turns
			}
			took := time.Since(began).Seconds()
			messages := float64(sent.Load()-sent0) / took
			b.ReportMetric(messages, "sent/s")
			b.ReportMetric(messages*float64(nodes), "received/s")
			b.ReportMetric((ownCPU(b)-client0).Seconds()*1000/took, "clients-ms/s")
			if server1, _ := cpuOf(b, processes); known {
				b.ReportMetric((server1-server0).Seconds()*1000/took, "server-ms/s")
			}
		})
	}
}

// serverProcesses returns the process numbers of all backends of a server.
func serverProcesses(b *testing.B, server *dbtest.Server) (pids []string) {
	b.Helper()
	rows, err := dbtest.Conn(b, server.DSN("postgres")).Query(within(b), `SELECT pid FROM pg_stat_activity`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			b.Fatal(err)
		}
		pids = append(pids, strconv.Itoa(pid))
	}
	if rows.Err() != nil {
		b.Fatal(rows.Err())
	}
	return pids
}

// cpuOf is the time that processes have had on a processor, see proc(5). Not
// every kernel keeps it.
func cpuOf(b *testing.B, pids []string) (sum time.Duration, known bool) {
	b.Helper()
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/schedstat")
		if err != nil {
			return 0, false
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum, true
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
